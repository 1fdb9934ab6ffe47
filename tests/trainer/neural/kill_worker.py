"""Fits students in child processes that are killed at given moments, then once to the end. Run with a file of jobs.

Each child is forked after the imports, so that many kills cost one import of torch.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from distillery_runtime.spec.model import DecoderSettings, EncoderSettings, Window
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import tensor_files
from distillery_trainer.neural import training as torch_training


class Killer:
    """Kills this process at an optimiser step, or halfway through writing a file of tensors."""

    def __init__(self, name: str, moment: str, count: int) -> None:
        self._name, self._moment, self._left = name, moment, count

    def start(self, total_steps: int, done: int) -> None:
        print(f"{self._name} goes on from step {done} of {total_steps}", flush=True)

    def step(self, loss: float) -> None:
        self._count("step")

    def epoch(self, val_mae: float) -> None:
        self._count("epoch")

    def save(self, tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
        save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
        if self._moment == "write" and self._left == 1:
            with Path(path).open("rb+") as stream:
                stream.truncate(Path(path).stat().st_size // 2)
        self._count("write")

    def _count(self, moment: str) -> None:
        if moment == self._moment:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main(job: Mapping[str, Any]) -> None:
    torch.set_num_threads(1)
    torch_training.CHECKPOINT_STEPS = job["checkpoint_steps"]
    for moment, count in job["kills"]:
        status = _in_child(job, moment, count)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.exit(f"the child was to be killed at {moment} {count}, but ended with {status}")
    if _in_child(job, "never", 0):
        sys.exit("the last child failed")


def _in_child(job: Mapping[str, Any], moment: str, count: int) -> int:
    child = os.fork()
    if child == 0:
        _fit(job, Killer(job["backend"], moment, count))
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _fit(job: Mapping[str, Any], killer: Killer) -> None:
    tensor_files.save_file = killer.save
    settings_type = {"decoder": DecoderSettings, "encoder": EncoderSettings}[job["backend"]]
    labels = [np.array(job[name], dtype=np.float32) for name in ("train_labels", "val_labels")]
    data = FitData(job["train_texts"], labels[0], job["val_texts"], labels[1])
    backend = import_module(f"distillery_trainer.neural.{job['backend']}")
    backend.fit(
        settings_type.model_validate(job["settings"]),
        Window.model_validate(job["window"]),
        data,
        Path(job["folder"]),
        5,
        killer,
    )


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for given in jobs:
        import_module(f"distillery_trainer.neural.{given['backend']}")  # before any fork
        main(given)
