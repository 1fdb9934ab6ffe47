"""Checks of a real bundle that are too heavy for the tests: `python benchmarks/bundle_checks.py CHECK ...`.

    ids BUNDLE RUN LABELS...   the ids that training recorded are the ids that the runtime makes
    corruptions BUNDLE         random single-byte changes of random files: how many load (0 expected)
    quality RUN                test MAE, total and per dimension, of every system, as a table

Each prints one JSON line with its figures and exits with 1 when the check does not hold.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from distillery_runtime import BundleError
from distillery_runtime.bundles.golden import ids_digest
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_trainer.data.labels import read_labels
from distillery_trainer.evaluate.evaluation import read_evaluation

SYSTEMS = ("constant", "tfidf_ridge", "probe", "student", "cascade")


def main() -> int:
    """Parses the command line and runs one check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    ids = commands.add_parser("ids")
    ids.add_argument("bundle", type=Path)
    ids.add_argument("run", type=Path)
    ids.add_argument("labels", type=Path, nargs="+")
    ids.add_argument("--articles", type=int, default=500)
    ids.set_defaults(check=lambda o: check_ids(o.bundle, o.run, o.labels, o.articles))
    corruptions = commands.add_parser("corruptions")
    corruptions.add_argument("bundle", type=Path)
    corruptions.add_argument("--count", type=int, default=1000)
    corruptions.set_defaults(check=lambda o: check_corruptions(o.bundle, o.count))
    quality = commands.add_parser("quality")
    quality.add_argument("run", type=Path)
    quality.set_defaults(check=lambda o: show_quality(o.run))
    options = parser.parse_args()
    return 0 if options.check(options) else 1


def check_ids(folder: Path, run: Path, labels: Sequence[Path], count: int) -> bool:
    """Compares the digests of token ids, article by article, for both stages."""
    bundle = open_bundle(folder)
    texts = {article.id: article.text for article in read_labels(labels, bundle.spec).articles}
    report: dict[str, object] = {}
    for stage in open_stages(bundle, "cpu"):
        lines = (run / stage.name / "inputs.jsonl").read_text(encoding="utf-8").splitlines()
        trained = [json.loads(line) for line in lines][:count]
        served = stage.window.encode([texts[row["id"]] for row in trained])
        equal = sum(row["ids_sha256"] == ids_digest(ids.ids) for row, ids in zip(trained, served, strict=True))
        report[stage.name] = {
            "articles": len(trained),
            "equal": equal,
            "truncated": sum(r["truncated"] for r in trained),
        }
    print(json.dumps({"check": "ids", **report}))
    return all(value["equal"] == value["articles"] for value in report.values() if isinstance(value, dict))


def check_corruptions(folder: Path, count: int) -> bool:
    """Changes one random byte of a random file, tries to open the bundle, and puts the byte back."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copytree(folder, Path(temporary) / "bundle"))
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        loaded = sum(_loads(copy) for _ in _damages(files, count, generator))
        sound = _loads(copy)
    print(json.dumps({"check": "corruptions", "tried": count, "loaded": loaded, "restored_loads": sound}))
    return loaded == 0 and sound


def _damages(files: Sequence[Path], count: int, generator: random.Random) -> Iterator[None]:
    for _ in range(count):
        path = generator.choice(files)
        place, change = generator.randrange(path.stat().st_size), generator.randrange(1, 256)
        _flip(path, place, change)
        yield
        _flip(path, place, change)


def _flip(path: Path, place: int, change: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ change]))


def _loads(folder: Path) -> bool:
    try:
        open_bundle(folder)
    except BundleError:
        return False
    return True


def show_quality(run: Path) -> bool:
    """Prints every part of `eval.json` as a table: MAE in total and per dimension, Spearman and recall."""
    evaluation = read_evaluation(run / "eval.json")
    for part, figures in evaluation.parts.items():
        names, systems = list(figures.constant.dimensions), figures.by_name()
        print(f"\n{part} (n = {figures.constant.n})\n{'':<14}{'MAE':>8}" + "".join(f"{_short(n):>8}" for n in names))
        for system in SYSTEMS:
            row = systems[system]
            per_dimension = "".join(f"{row.dimensions[name].mae:>8.3f}" for name in names)
            print(f"{system:<14}{row.mae:>8.3f}{per_dimension}  {row.intervals['mae']}")
    print(
        json.dumps(
            {"check": "quality", "cascade": asdict(evaluation.cascade), "prefilter": asdict(evaluation.prefilter)}
        )
    )
    return True


def _short(name: str) -> str:
    return "".join(part[0] for part in name.split("_")).upper()


if __name__ == "__main__":
    sys.exit(main())
