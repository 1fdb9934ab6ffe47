"""Several processes train the student that one process trains, and only the first of them writes and speaks."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distillery_trainer.cli.main import main as trainer

pytest.importorskip("torch")

from safetensors.numpy import load_file

# The same sums in another order, through two epochs of Adam: the mean over a tensor, for Adam scales up the rounding of
# single weights that have next to no gradient.
ROUNDING = 1e-5
# A key's bias shifts all of a query's attention alike: it has no gradient but rounding.
NO_GRADIENT = "key.bias"
SCRIPT = """
import sys
from distillery_trainer.cli.main import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
FORKING = """
import os, sys
import distillery_trainer.neural.encoder  # so that two processes cost one import of torch
from distillery_trainer.cli.main import main
children = []
for rank in ("0", "1"):
    child = os.fork()
    if child == 0:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = rank
        code = main(sys.argv[1:])
        sys.stdout.flush()
        os._exit(code)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
Launch = Callable[[Path, list[str]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def arguments(labels: Path, filter_folder: Path, encoder_base: Path) -> list[str]:
    settings = ["accumulate=3", "batch_tokens=256", "learning_rate=0.003", "epochs=2"]
    return ["fit", "--filter", str(filter_folder), "--labels", str(labels), "--limit", "60", "--backend", "encoder",
            "--base-model", str(encoder_base), "--embedder", "static", "--max-tokens", "40",
            *(part for s in settings for part in ("--set", f"student.encoder.training.{s}"))]  # fmt: skip


def forked(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs the trainer in two processes that know of each other what torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", FORKING, *arguments]
    environment = {**os.environ, **address}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)


def torchrun(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs the trainer in two processes, as torchrun starts them."""
    script = folder / "fit.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("launch", [forked, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_train_the_student_of_one(launch: Launch, arguments: list[str], tmp_path: Path) -> None:
    assert trainer([*arguments, "--run-dir", str(tmp_path / "one")]) == 0

    done = launch(tmp_path, [*arguments, "--run-dir", str(tmp_path / "two")])

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "two")) == 1
    one, two = (weights_of(tmp_path / name / "student") for name in ("one", "two"))
    start = load_file(Path(arguments[arguments.index("--base-model") + 1]) / "model.safetensors")
    for name, weight in one.items():
        if not name.endswith(NO_GRADIENT):
            assert np.abs(two[name] - weight).mean() < ROUNDING, name
    assert max(np.abs(two[name] - start[name]).max() for name in one if name in start) > 100 * ROUNDING
    losses = [[epoch["train_loss"] for epoch in history_of(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=ROUNDING)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["stages"] is not None
    assert not list((tmp_path / "two").glob("work/*"))


def weights_of(student: Path) -> dict[str, np.ndarray]:
    return {name: w for path in student.glob("*.safetensors") for name, w in load_file(path).items()}


def history_of(run: Path) -> list[dict[str, float]]:
    epochs: list[dict[str, float]] = json.loads((run / "student" / "training_history.json").read_text())["epochs"]
    return epochs
