"""What all parts of the GPU benchmark share: the setting, and rows that say what failed instead of ending it all."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parity_result import Row, without_folders
from distillery_runtime.format.variants import Device

FORMS = ("cpu-fp32", "cuda-fp16", "cuda-bf16")


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long is measured.

    `deadline`: by `time.monotonic`. `shapes`: (tokens, rows) that are timed. `alone_s`, `batch_s`: the time for one row
    and for more. `compile_limit_s`: for one shape.
    """

    device: Device
    work: Path
    threads: int
    deadline: float
    forms: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    compiled_shapes: tuple[tuple[int, int], ...]
    alone_s: float
    batch_s: float
    compile_limit_s: float

    @property
    def left_s(self) -> float:
        """The seconds that are left."""
        return self.deadline - time.monotonic()


def attempt(make: Callable[[], Sequence[Row]], labels: Row) -> list[Row]:
    """What `make` gives, or, where it raises, a row that says so: the other rows are worth having all the same."""
    try:
        return list(make())
    except Exception as error:  # noqa: BLE001 - onnxruntime, torch and Inductor raise no one base
        traceback.print_exc()
        return [{**labels, "error": f"{type(error).__name__}: {without_folders(str(error))}"}]
