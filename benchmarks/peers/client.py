"""The controller's side of a worker: a process that is started, asked and ended, and idle in between."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.affinity import Cores, on_cores

ROOT = Path(__file__).resolve().parents[2]
# A library that waits must sleep: a thread that spins would slow whoever has the turn.
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Message = dict[str, Any]  # Any: JSON


class PeerError(Exception):
    """A peer cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One pass: its seconds, measured by the worker, and its output."""

    seconds: float
    output: Sequence[float]


class Worker:
    """A peer's process.

    Args:
        python: the interpreter that has its packages.
        module: the worker's name in `benchmarks.peers.workers`.
        threads: how many threads its libraries may use.
        cores: which cores it may use.
        log: the file that takes its stderr.
    """

    def __init__(self, python: Path, module: str, threads: int, cores: Cores, log: Path) -> None:
        self._log = log
        environment = {**os.environ, **QUIET, **dict.fromkeys(THREADS, str(threads)), "PYTHONPATH": str(ROOT)}
        with log.open("w", encoding="utf-8") as stderr, on_cores(cores):
            self._process = subprocess.Popen(
                [str(python), "-m", f"benchmarks.peers.workers.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=environment,
                text=True,
            )

    def open(self, opening: Message) -> Mapping[str, str]:
        """Opens the model and gives the versions of what runs it.

        Raises:
            PeerError: the packages are not there, or the model cannot be opened.
        """
        versions: Mapping[str, str] = self._ask({"open": opening})["versions"]
        return versions

    def run(self, ids: Sequence[int]) -> Answer:
        """Runs one text.

        Raises:
            PeerError: it failed.
        """
        reply = self._ask({"run": {"ids": ids}})
        return Answer(reply["seconds"], reply["output"])

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _ask(self, message: Message) -> Message:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"the worker ended {how_it_ended(self._process.wait())}: {self._last_line()}")
        reply: Message = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no message"


def how_it_ended(code: int) -> str:
    """A process's exit status in words."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
