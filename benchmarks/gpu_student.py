"""A student packed by `gpu_pack.py`: its merged weights, token ids of articles, and what the gate asks about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.calibration import Calibration, CalibrationMap
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_runtime.tokens.window import TokenIds

CHECKPOINT, HEAD, SAMPLE, META = "checkpoint", "head.npy", "sample.npz", "student.json"

Rows = Sequence[TokenIds]
Arrays = dict[str, NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Gate:
    """What the exporter's gate compares on: N articles as the student reads them.

    `labels`: (N, D) float32, the oracle's. `fitted`: (N,) bool, whether an article may be used to fit calibration.
    """

    spec: FilterSpec
    calibration: Calibration
    rows: Rows
    labels: NDArray[np.float32]
    fitted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PackedStudent:
    """A merged Gemma student. `rows`: articles for parity. `residual_scale`: as the exporter found it for float16."""

    name: str
    folder: Path
    head: NDArray[np.float32]
    max_tokens: int
    residual_scale: float
    rows: Rows
    gate: Gate


def read_student(folder: Path) -> PackedStudent:
    """Reads a packed student.

    Raises:
        SystemExit: the folder holds none.
    """
    if not (folder / META).is_file():
        raise SystemExit(f"{folder}: no {META}, expected a folder written by gpu_pack.py")
    record = json.loads((folder / META).read_text(encoding="utf-8"))
    with np.load(folder / SAMPLE) as sample:
        arrays = dict(sample)
    maps = tuple(CalibrationMap.model_validate_json(json.dumps(item)) for item in record["calibration"])
    spec = parse_spec(record["spec"], META)
    gate = Gate(spec, Calibration(maps), _rows("gate", arrays), arrays["labels"], arrays["fitted"])
    return PackedStudent(
        name=record["name"],
        folder=folder / CHECKPOINT,
        head=np.load(folder / HEAD),
        max_tokens=record["max_tokens"],
        residual_scale=record["residual_scale"],
        rows=_rows("parity", arrays),
        gate=gate,
    )


def flatten(name: str, rows: Rows) -> Arrays:
    """Rows of token ids as two arrays: all ids, and each row's length."""
    ids = np.concatenate([row.ids for row in rows]).astype(np.int32)
    return {f"{name}_ids": ids, f"{name}_lengths": np.array([len(row.ids) for row in rows], dtype=np.int32)}


def _rows(name: str, arrays: Arrays) -> Rows:
    ends = np.cumsum(arrays[f"{name}_lengths"])[:-1]
    return [TokenIds(part.astype(np.int64), truncated=False) for part in np.split(arrays[f"{name}_ids"], ends)]
