"""Builds the runtime's wheel and proves it alone, then with the starter's: `python tests/wheel_alone.py`.

Checked: its size, what it must not bring along, that importing it loads the packages it names and what they need and
nothing more (so it starts in a fraction of a second), and that it scores the fixture bundle as golden articles say.
Needs a package index for the runtime's own dependencies.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
BUNDLE = REPOSITORY / "tests" / "fixtures" / "bundle-v1"
MAX_WHEEL_BYTES = 200_000  # code alone; a table or a model that slipped in would be far larger
MAX_STARTER_BYTES = 25_000_000
FORBIDDEN = ("torch", "transformers", "sklearn", "scipy", "pandas", "onnx")
LOADED = {"distillery_runtime", "numpy", "onnxruntime", "tokenizers", "re2", "pydantic"}
LOADED |= {"pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}  # pydantic's own
ARTICLE = json.dumps({"id": "1", "title": "Ferry", "text": "The electric ferry costs half"})

PROBE = f"""
import importlib.util, json, sys
before = set(sys.modules)
import distillery_runtime
found = [name for name in {FORBIDDEN!r} if importlib.util.find_spec(name)]
assert not found, f"installed along: {{found}}"
names = {{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(json.dumps(sorted(name for name in names if not name.startswith("_"))))
"""


def main() -> None:
    """Builds, installs and tries; any failure ends with its message."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(REPOSITORY, Path(folder), MAX_WHEEL_BYTES)
        python = install(wheel, Path(folder) / "venv")
        loaded = set(json.loads(run(python, "-c", PROBE)))
        expect(loaded == LOADED, f"import distillery_runtime loads {sorted(loaded)}, expected {sorted(LOADED)}")
        command = str(python.parent / "distillery")
        score = json.loads(run(command, "score", "--bundle", str(BUNDLE), "-", stdin=ARTICLE))
        expect(score["status"] == "scored", f"the fixture bundle gave {score}")
        expect("is sound" in run(command, "verify", str(BUNDLE)), "the fixture bundle does not verify")
        starter = try_starter(python, Path(folder))
        print(f"{starter.name}: {starter.stat().st_size:,} bytes, found by `distillery score` where no bundle is named")
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, loads {len(loaded)} packages, scores the fixture bundle")


def try_starter(python: Path, folder: Path) -> Path:
    """The starter's wheel, with which the command scores although no bundle is named."""
    wheel = build(REPOSITORY / "starter", folder / "starter", MAX_STARTER_BYTES)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", str(wheel))
    score = json.loads(run(python.parent / "distillery", "score", "-", stdin=ARTICLE))
    expect(score["status"] == "scored", f"the starter gave {score}")
    lines = run(python.parent / "distillery", "score", "--filters", "all", "-", stdin=ARTICLE).splitlines()
    expect(json.loads(lines[0]) == score, f"the first filter of the starter gave {lines[0]}, expected {score}")
    return wheel


def build(source: Path, folder: Path, most: int) -> Path:
    """A built wheel of acceptable size."""
    run(Path(sys.executable), "-m", "build", "--wheel", "--outdir", str(folder), str(source))
    wheel = next(folder.glob("*.whl"))
    expect(wheel.stat().st_size < most, f"{wheel.name}: {wheel.stat().st_size} bytes, expected less than {most}")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """A new environment's python, with the wheel and what it depends on."""
    run(Path(sys.executable), "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    constraints = str(REPOSITORY / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints, str(wheel))
    return python


def run(*command: str | Path, stdin: str | None = None) -> str:
    """A command's output; its errors when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd="/")
    expect(done.returncode == 0, f"{command[0]} ... {command[-1]}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def expect(holds: bool, message: str) -> None:
    """Ends with a message where something does not hold."""
    if not holds:
        raise SystemExit(message)


if __name__ == "__main__":
    main()
