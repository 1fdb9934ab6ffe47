"""Keeps what runs in folds found as a result: benchmarks/results/finds-NAME.json, without ids and texts.

    python benchmarks/finds.py NAME RUN [RUN ...] [--note TEXT] [--results DIR]

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
from distillery_runtime.spec.selection import best_point, f1, precision
from distillery_trainer.certify.operating_point import selected
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

RESULTS = Path(__file__).resolve().parent / "results"
SYSTEMS = ("constant", "tfidf_ridge", "static", "probe", "student", "cascade")

Json = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the result, and of the column in the table")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the runs' folders, one for each filter")
    parser.add_argument("--note", default="", metavar="TEXT", help="what the models are, in a few words")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(arguments)
    rows = [row(open_run(run)) for run in options.runs]
    record = {
        "benchmark": "finds",
        "schema_version": 1,
        "command": command(sys.argv),
        "note": options.note,
        "rows": rows,
    }
    path = options.results / f"finds-{options.name}.json"
    path.write_text(json.dumps(record | {"rows": rows}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    news(f"{path.name} written")
    return 0


def row(run: Run) -> dict[str, object]:
    """What a run in folds finds, and what baselines find on the same articles.

    `best` is the point of the highest F1 on the chances out of fold, as a threshold chosen on all of them has it;
    `systems` have thresholds that were chosen on the other folds.
    """
    evaluation, selection = run.evaluation, run.selection
    rule = selection.rule if selection.rule != "tier" else None
    point = best_point(selection.curve, selection.positives, rule) if rule else None
    systems = evaluation.total.by_name()
    tier = run.spec.operating_tier
    return {
        "filter": evaluation.filter,
        "operating_overall": run.spec.operating_overall,
        "backend": evaluation.backend,
        "articles": selection.articles,
        "positives": selection.positives,
        "folds": evaluation.split_sizes.folds,
        "best": point
        and {
            "f1": round(f1(point, selection.positives), 4),
            "recall": round(point.hits / selection.positives, 4),
            "precision": round(precision(point), 4),
        },
        "tier_rule": {key: getattr(systems["student"].tiers[tier], key) for key in ("recall", "precision", "f1")},
        "systems": {name: figures(systems[name]) for name in SYSTEMS},
        "origins": origins(run),
        "threshold": run.certificate["threshold"],
        "share_probe": evaluation.cascade.share_probe,
        "found": run.certificate["found"],
    }


def origins(run: Run) -> dict[str, object]:
    """What the student finds among articles drawn at random, and among those that were picked; {} of one kind alone.

    In weighted figures an article drawn at random has a weight above 1, one that was picked has 1.
    """
    made, drawn = run.predictions, run.articles().sampling_weights() > 1
    if drawn.all() or not drawn.any():
        return {}
    finds, chosen = run.are_finds(made.labels), selected(made.student, made.selects_from, run.spec)
    counted = {"positives": finds, "selected": chosen, "hits": finds & chosen}
    return {
        name: {"articles": int(part.sum()), **{key: int((of & part).sum()) for key, of in counted.items()}}
        for name, part in (("random", drawn), ("picked", ~drawn))
    }


def figures(system: Any) -> dict[str, object]:  # Any: SystemFigures
    """What a system finds, and how far it is from the labels."""
    return {
        **{key: getattr(system.finds, key) for key in ("predicted", "recall", "precision", "f1")},
        "average_precision": system.average_precision,
        "mae": system.mae,
        "rmse": system.rmse,
        "spearman": system.overall.spearman,
        "slope": system.slope,
        "intervals": system.intervals,
        "weighted": system.weighted,
    }


if __name__ == "__main__":
    raise SystemExit(main())
