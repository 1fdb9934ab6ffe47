"""What a peer makes of a checkpoint: in a process of its own, so that the worker holds no memory but its model's."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.kept import digest, digest_of_code, digest_of_weights, kept
from benchmarks.peers.workers.protocol import Opening


def converted(opening: Opening, module: str, packages: Sequence[str]) -> Path:
    """A folder with the converted model, made unless it is there.

    Args:
        opening: of the worker. Its option `form` says which conversion this is.
        module: of this package; its process gets one JSON line on stdin, the opening and `target`, a folder to fill.
        packages: that convert.

    Raises:
        RuntimeError: it could not be converted; the reason is on stderr.
    """
    form = opening.options.get("form", "plain")
    code = digest_of_code([Path(__file__).with_name(f"{module}.py")])
    versions = [version(package) for package in packages]
    key = digest(form, code, versions, digest_of_weights(opening.model), opening.calibration)
    return kept(opening.work / f"{module}-{form}", key, lambda folder: _convert(opening, module, folder))


def read_task() -> tuple[Opening, Path]:
    """The converting process's side: what to convert, and the folder to fill."""
    record = json.loads(sys.stdin.readline())
    return Opening.from_json(record), Path(record["target"])


def _convert(opening: Opening, module: str, folder: Path) -> None:
    record = json.dumps({**asdict(opening), "target": folder}, default=os.fspath)
    command = [sys.executable, "-m", f"benchmarks.peers.workers.{module}"]
    done = subprocess.run(command, input=f"{record}\n", text=True)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}")
