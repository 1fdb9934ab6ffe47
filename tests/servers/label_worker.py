"""Commands of `trainer` in processes that a test may kill.

The worker process imports everything once and forks a child for each command, so that many kills cost one import, and
is itself without threads, so that forking it is safe.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType


class Worker:
    """A process that runs commands of `trainer`, one at a time, until the block ends."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        whole = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | dict(environment)
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def start(self, arguments: Sequence[str]) -> int:
        """Starts a command and gives its process id."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(list(arguments)) + "\n")
        self._process.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """Waits for the command and gives its exit code, negative for a signal."""
        return self._number()

    def kill(self, pid: int, by: int = signal.SIGKILL) -> int:
        """Kills the command and gives its exit code: it may have ended just before."""
        with suppress(ProcessLookupError):
            os.kill(pid, by)
        return self.wait()

    def run(self, arguments: Sequence[str]) -> int:
        """Runs a command to its end and gives its exit code."""
        self.start(arguments)
        return self.wait()

    def _number(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


def _serve() -> None:
    import distillery_trainer.oracle.providers.gemini  # noqa: F401 - so that no child has to
    from distillery_trainer.cli.main import main

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = 70
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                code = main(json.loads(line))
            finally:
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
