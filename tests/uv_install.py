"""Installs runtime and starter with uv, as the README says, and scores the demo articles: `python tests/uv_install.py`.

uv installs by hard links from its cache, wherever both are on one file system; that is asked for here, and checked, so
that a bundle installed so is what is scored with. Needs a package index.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
ARTICLES = REPOSITORY / "docs" / "demo-articles.jsonl"
INSTALL = ("pip", "install", "--quiet", "--constraint", "constraints.txt", ".[starter]")


def main() -> None:
    """Installs and scores; any failure ends with its message."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "venv")
        settings = {
            "UV_CACHE_DIR": str(Path(folder, "cache")),
            "UV_LINK_MODE": "hardlink",
            "VIRTUAL_ENV": str(environment),
        }
        uv = str(Path(sys.executable).parent / "uv")
        run(uv, "venv", "--quiet", "--python", sys.executable, str(environment), settings=settings)
        run(uv, *INSTALL, settings=settings)
        manifest = next(environment.rglob("distillery_starter/*/bundle.json"))
        expect(manifest.stat().st_nlink > 1, f"{manifest}: not a hard link, so nothing was tried")
        command = str(environment / "bin" / "distillery")
        results = [json.loads(line) for line in run(command, "score", str(ARTICLES)).splitlines()]
        articles = [json.loads(line) for line in ARTICLES.read_text(encoding="utf-8").splitlines() if line.strip()]
        expect([r["id"] for r in results] == [a["id"] for a in articles], f"{len(results)} results of {len(articles)}")
        unjudged = [r for r, a in zip(results, articles, strict=True) if a["text"].strip() and r["status"] == "invalid"]
        expect(not unjudged, f"not scored: {unjudged}")
        print(f"uv: installed by hard links, {len(results)} demo articles scored")


def run(*command: str, settings: dict[str, str] | None = None) -> str:
    """A command's output; its errors when it fails."""
    environment = {**os.environ, **(settings or {})}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment)
    expect(done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def expect(holds: bool, message: str) -> None:
    """Ends with a message where something does not hold."""
    if not holds:
        raise SystemExit(message)


if __name__ == "__main__":
    main()
