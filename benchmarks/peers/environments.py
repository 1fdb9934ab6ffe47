"""The Python environments of the peers, which cannot share one: `python -m benchmarks.peers.environments --make DIR`.

Each is a virtual environment in a folder of its own under DIR, made with the Python that runs this. A complete one is
kept. On Linux PyPI's torch brings CUDA; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has the CPU build.
llama-cpp-python is compiled, for this machine's processor, in about ten minutes; it needs a C++ compiler and cmake.
"""

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
OURS = "ours"
COMPLETE = "complete.txt"  # lies in an environment whose packages are all there, and holds their requirements

TORCH = "torch==2.13.0"
TRANSFORMERS = "transformers==5.23.0"
# GCC 12's _tile_loadconfig tells the compiler that AMX reads 8 bytes of its 64, so that the stores of the others are
# removed as dead, and the first product of matrices ends the process with SIGILL. To keep stores costs next to nothing.
KEEP_STORES = "-fno-tree-dse -fno-dse"
COMPILING = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF", "CXXFLAGS": KEEP_STORES}


@dataclass(frozen=True, slots=True)
class Environment:
    """What pip installs for some peers.

    `constrained`: within the versions of the project's constraints.txt. `compiling`: variables for what is compiled,
    which is then never taken from pip's cache, for another processor may have filled it.
    """

    name: str
    requirements: tuple[str, ...]
    constrained: bool = True
    compiling: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> str:
        """What tells a complete environment from one that was made otherwise."""
        return "".join(f"{line}\n" for line in (*self.requirements, *(f"{k}={v}" for k, v in self.compiling.items())))


ENVIRONMENTS = (
    Environment("torch", (TORCH, TRANSFORMERS, "peft==0.21.2", "sentence-transformers==6.2.0", "safetensors", "numpy")),
    Environment("openvino", ("openvino==2026.4.1", "nncf==3.4.0", TORCH, TRANSFORMERS, "safetensors"), False),
    Environment(
        "llama-cpp",
        ("llama-cpp-python==0.3.36", "gguf==0.19.0", "safetensors", "ml_dtypes", "numpy"),
        compiling=COMPILING,
    ),
    # The newest that go together: optimum-onnx knows nothing after transformers 4.57.
    Environment(
        "st-onnx",
        ("sentence-transformers[onnx]==5.7.0", "transformers==4.57.6", "optimum-onnx==0.1.0", TORCH),
        False,
    ),
)


def python_of(name: str, folder: Path | None) -> Path:
    """The Python of an environment in `folder`, or the one that runs this where that environment was not made."""
    made = folder / name / "bin" / "python" if folder else None
    return made if made and made.exists() else Path(sys.executable)


def make(environment: Environment, folder: Path) -> None:
    """Makes an environment unless it is there, complete and with the same requirements.

    Raises:
        CalledProcessError: pip could not install what it needs.
    """
    place = folder / environment.name
    complete = place / COMPLETE
    if complete.exists() and complete.read_text(encoding="utf-8") == environment.record:
        return
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    limits = ["-c", str(CONSTRAINTS)] if environment.constrained else []
    fresh = ["--no-cache-dir"] if environment.compiling else []
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", *fresh, *limits]
    subprocess.run([*pip, *environment.requirements], check=True, env={**os.environ, **environment.compiling})
    complete.write_text(environment.record, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the environments that were asked for, each on its own, and says which could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only these: " + ", ".join(e.name for e in ENVIRONMENTS)
    )
    parser.add_argument("--make", type=Path, required=True, metavar="DIR", help="where the environments are made")
    options = parser.parse_args(arguments)
    failed = []
    for environment in ENVIRONMENTS:
        if options.names and environment.name not in options.names:
            continue
        print(f"{environment.name}: {' '.join(environment.requirements)}", file=sys.stderr)
        try:
            make(environment, options.make)
        except subprocess.CalledProcessError as error:
            failed.append(environment.name)
            print(f"{environment.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
