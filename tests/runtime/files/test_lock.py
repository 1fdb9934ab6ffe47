"""A lock on a file: one process at a time, and nothing of a process that is gone holds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.lock import only_process

BUSY = Problem("work", "another process", "one at a time")
HOLD = """
import sys, time
from pathlib import Path
from distillery_runtime.errors import Problem
from distillery_runtime.files.lock import only_process
with only_process(Path(sys.argv[1]), "here", Problem("a", "b", "c")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_another_process_holds_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "work.lock"
    path.write_text("kept", encoding="utf-8")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        with pytest.raises(InputError, match="another process"), only_process(path, "here", BUSY):
            pass

        process.kill()
        process.wait()
        with only_process(path, "here", BUSY) as stream:
            stream.seek(0)
            assert stream.read() == "kept"


def test_a_file_that_its_owner_removed_is_locked_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "work.lock"
    with only_process(path, "here", BUSY):
        path.unlink()

        with only_process(path, "here", BUSY), pytest.raises(InputError), only_process(path, "here", BUSY):
            pass
