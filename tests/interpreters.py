"""Runs the runtime's tests on every other Python from 3.11 to 3.13 that is installed: `python tests/interpreters.py`.

Each gets an environment of its own, `.venv-3.12` for example, without torch, which no test of the runtime needs. Needs
a package index.
"""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
UV = str(Path(sys.executable).parent / "uv")


def main() -> int:
    """Runs the tests on one interpreter after the other; 1 where any failed."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return max([tested_on(version) for version in VERSIONS if version != own], default=0)


def tested_on(version: str) -> int:
    """Whether the tests failed there; an interpreter that is not installed is named and passed over."""
    found = subprocess.run([UV, "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
    if found.returncode:
        print(f"Python {version}: not installed", flush=True)
        return 0
    python = REPOSITORY / f".venv-{version}" / "bin" / "python"
    if not python.exists():
        subprocess.run([UV, "venv", "--quiet", "--python", found.stdout.strip(), python.parents[1]], check=True)
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, "--constraint", "constraints.txt",
         "-e", ".[hub]", "-e", "trainer", "-e", "exporter", "pytest", "pytest-xdist", "hypothesis"],
        check=True, cwd=REPOSITORY,
    )  # fmt: skip
    print(f"Python {version}: {found.stdout.strip()}", flush=True)
    command = [python, "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile", "tests/runtime"]
    return int(subprocess.run(command, cwd=REPOSITORY, check=False).returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
