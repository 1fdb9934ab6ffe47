"""Our graphs on one NVIDIA GPU: how far from PyTorch, what the gate says of half precision, and how fast beside it.

    python benchmarks/gpu.py --work DIR --out FILE [--student DIR] [--part NAME ...] [--budget-s 300]

Models: a student packed by gpu_pack.py, the shape of Gemma-3-1B and that of multilingual-e5-small with random weights.
All times are from host arrays to host arrays. The file is written after every step, so that what was measured stays
when the time is up. `--cpu` runs everything but CUDA itself on small models, to try this script without a GPU.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

import torch
import transformers

from benchmarks.gpu_models import Subject, packed_student, random_encoder, random_gemma
from benchmarks.gpu_parity import measure_gate, measure_parity
from benchmarks.gpu_parts import FORMS, Setting, attempt
from benchmarks.gpu_speed import measure_compiled, measure_speed
from benchmarks.parity_result import Row, news, write_result
from distillery_runtime.format.variants import Device
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.models.cuda import cuda_is_installed

OUT = Path("benchmarks/results/gpu.json")
GPU_SHAPES = ((512, 1), (128, 1), (512, 32), (128, 32), (512, 64), (128, 64), (512, 8), (128, 8))
GPU_COMPILED = ((512, 1), (512, 32))
CPU_SHAPES = ((32, 1), (32, 2))
MOST_THREADS = 8  # of what runs on the CPU beside the GPU

Measure = Callable[[Subject, Setting], Iterator[list[Row]]]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to measure on one model."""

    model: str
    measure: Measure


# In the order of their worth: what comes last may find no time left.
PARTS = {
    "student-parity": Part("student", measure_parity),
    "student-gate": Part("student", measure_gate),
    "student-speed": Part("student", measure_speed),
    "1b-speed": Part("1b", measure_speed),
    "1b-parity": Part("1b", measure_parity),
    "probe-speed": Part("probe", measure_speed),
    "probe-parity": Part("probe", measure_parity),
    "student-compiled": Part("student", measure_compiled),
    "1b-compiled": Part("1b", measure_compiled),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the parts, one after the other."""
    options = _parser().parse_args(arguments)
    device: Device = "cpu" if options.cpu else "cuda"
    if device == "cuda":
        _check_cuda()
    setting = _setting(options, device)
    setting.work.mkdir(parents=True, exist_ok=True)
    names = [name for name in PARTS if name in (options.part or PARTS)]
    if options.student is None:
        names = [name for name in names if PARTS[name].model != "student"]
    rows = [_programs(device)]
    open_model = _models(options.student, setting)
    for name in names:
        for found in _measured(name, open_model, setting):
            rows += [{"step": name, **row} for row in found]
            write_result(options.out, "gpu", setting.threads, rows, gpu=True)
    return 1 if any("error" in row for row in rows) else 0


def _measured(name: str, open_model: Callable[[str], Subject], setting: Setting) -> Iterator[list[Row]]:
    """A part's rows as they come; a part that fails gives a row that says why."""
    began, part = time.monotonic(), PARTS[name]
    if setting.left_s < 0:
        yield [{"left_out": "no time left"}]
        return
    news(f"{name}, {setting.left_s:.0f} s left")
    steps: Iterator[list[Row]] = iter(())

    def begin() -> Sequence[Row]:
        nonlocal steps
        steps = part.measure(open_model(part.model), setting)
        return ()

    def go_on() -> Sequence[Row]:
        return next(steps, ())

    failed = attempt(begin, {})
    while not failed:
        found = attempt(go_on, {})
        if not found:
            break
        yield found
    yield [*failed, {"part": "time", "seconds": round(time.monotonic() - began, 1)}]


def _models(student: Path | None, setting: Setting) -> Callable[[str], Subject]:
    """Opens a model by name, once."""

    @cache
    def opened(name: str) -> Subject:
        if name == "student" and student is not None:
            return packed_student(student)
        return (random_gemma if name == "1b" else random_encoder)(setting.work, setting.device)

    return opened


def _setting(options: argparse.Namespace, device: Device) -> Setting:
    on_gpu = device == "cuda"
    return Setting(
        device=device,
        work=options.work,
        threads=options.threads or min(usable_cores(), MOST_THREADS),
        deadline=time.monotonic() + options.budget_s,
        forms=FORMS if on_gpu else FORMS[:2],  # a CPU has no bfloat16 kernels
        shapes=GPU_SHAPES if on_gpu else CPU_SHAPES,
        compiled_shapes=GPU_COMPILED if on_gpu else CPU_SHAPES[:1],
        alone_s=options.seconds,
        batch_s=options.seconds / 2,
        compile_limit_s=options.compile_limit_s,
    )


def _check_cuda() -> None:
    """Raises SystemExit where there is no GPU, or no onnxruntime for it."""
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: PyTorch finds no CUDA device, expected an NVIDIA GPU (or --cpu for a try)")
    if not cuda_is_installed():
        raise SystemExit("benchmarks/gpu.py: onnxruntime was built without CUDA, expected distillery-runtime-gpu")


def _programs(device: Device) -> Row:
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    versions: Row = {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    return {"part": "machine", "gpu": gpu, **versions}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps random weights and graphs")
    parser.add_argument("--student", type=Path, metavar="DIR", help="a student packed by gpu_pack.py")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--budget-s", type=float, default=600, metavar="S", help="no step begins later (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="for each shape (default: %(default)s)")
    parser.add_argument("--compile-limit-s", type=float, default=90, metavar="S", help="default: %(default)s")
    parser.add_argument("--threads", type=int, help=f"on the CPU (default: its cores, {MOST_THREADS} at most)")
    parser.add_argument("--cpu", action="store_true", help="try this on a CPU, with small random models")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
