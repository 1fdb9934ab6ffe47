"""What a bundle says of its own building, copied into a result file: sizes, parity, and the gate's figures by variant.

    python benchmarks/run_build.py BUNDLE FILE

Nothing is measured here: the bundle holds all of it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import news, without_folders
from distillery_runtime.bundles.load import Bundle, open_bundle

MODELS = ("tfidf_ridge", "probe", "student", "cascade")

Json = dict[str, Any]  # Any: JSON


def main(arguments: Sequence[str]) -> int:
    """Writes one bundle's record."""
    folder, out = (Path(argument) for argument in arguments)
    record = build_record(open_bundle(folder), folder.resolve().name)
    beside = out.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.rename(out)
    news(f"{out.name} written")
    return 0


def build_record(bundle: Bundle, name: str) -> Json:
    """The content of a result file; `name` is the folder's."""
    quality = json.loads((bundle.folder / bundle.manifest.path_of("quality")).read_bytes())
    lineage = bundle.manifest.lineage
    return {
        "benchmark": "build",
        "schema_version": 1,
        "command": f"exporter build {lineage['run']} --out {name}",
        "machine": None,  # of the machine where it was built a bundle says nothing
        "threads": None,
        "bundle": bundle.name,
        "versions": {"distillery": lineage["distillery"]},
        "bases": {stage: _base(lineage, stage) for stage in ("probe", "student")},
        "student_backend": bundle.spec.student.backend,
        "windows": {entry.name: entry.window.max_tokens for entry in bundle.manifest.stages},
        "split_sizes": quality["evaluation"]["split_sizes"],
        "evaluation": _evaluation(quality["evaluation"]["parts"]["total"]),
        "certificate": quality["certificate"],
        "variants": quality["variants"],
        "refused": [
            {**item, "reasons": [without_folders(reason) for reason in item["reasons"]]} for item in quality["refused"]
        ],
    }


def _base(lineage: Mapping[str, str], stage: str) -> str | None:
    """The name of the model that a stage was made from, or None for the token table."""
    try:
        name = json.loads(lineage.get(f"{stage}_base", "null"))
    except ValueError:
        return lineage[f"{stage}_base"]
    return str(name["name"]) if isinstance(name, dict) else None


def _evaluation(total: Json) -> Json:
    return {
        name: {"articles": found["n"], "mae": found["mae"], "spearman": found["overall"]["spearman"]}
        for name in MODELS
        if (found := total.get(name))
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
