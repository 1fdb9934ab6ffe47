"""Keeps what a run's evaluation found as a result: benchmarks/results/quality-NAME.json, without ids and texts.

    python benchmarks/quality.py NAME RUN [--note TEXT] [--results DIR]

`docs/results.md` is written from these files by `python benchmarks/run.py --render-only`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import command, news

RESULTS = Path(__file__).resolve().parent / "results"
SYSTEM_FIELDS = ("n", "mae", "overall", "tiers", "recall_at", "intervals")

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the result, and of the row in the table")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--note", default="", metavar="TEXT", help="what sets this run apart, in a few words")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(arguments)
    record = {"benchmark": "quality", "schema_version": 1, "command": command(sys.argv), "note": options.note}
    path = options.results / f"quality-{options.name}.json"
    path.write_text(json.dumps(record | found(options.run), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    news(f"{path.name} written")
    return 0


def found(run: Path) -> dict[str, object]:
    """What a run's files say of its settings and of its quality."""
    evaluation, certificate, manifest, metadata = (
        json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("eval", "certificate", "manifest", "training_metadata")
    )
    parts = {
        name: {system: {key: figures.get(key) for key in SYSTEM_FIELDS} for system, figures in part.items()}
        for name, part in evaluation["parts"].items()
    }
    history = run / "student" / "training_history.json"
    return {
        "filter": evaluation["filter"],
        "backend": evaluation["backend"],
        "model": Path(metadata["model_name"]).name,
        "window": metadata["window"]["max_tokens"],
        "training": metadata["training"],
        "split_sizes": evaluation["split_sizes"],
        "seed": manifest["seed"],
        "limit": manifest["limit"],
        "split_version": manifest.get("split_version", 1),
        "distilled": len(manifest.get("distil_from", [])),
        "history": json.loads(history.read_text(encoding="utf-8"))["epochs"] if history.is_file() else None,
        "parts": parts,
        "differences": evaluation["differences"],
        "cascade": evaluation["cascade"],
        "certificate": _certificate(certificate) | {"oracle": _certificate(certificate["oracle"])},
        "curve": certificate["curve"],
    }


def _certificate(found: Json) -> dict[str, object]:
    """A certificate without its curve."""
    return {key: value for key, value in found.items() if key not in ("curve", "oracle", "schema_version")}


if __name__ == "__main__":
    sys.exit(main())
