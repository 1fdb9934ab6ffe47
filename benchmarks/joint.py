"""Filters on one backbone: what they gain or lose against students of their own, and what one pass for all saves.

    python benchmarks/joint.py NAME --pair JOINT_RUN OWN_RUN ... [--bundle DIR --bundle DIR --articles FILE] \
      [--rounds 3] [--note TEXT] [--results DIR]

Each pair is a filter's run of a joint fit and one with a student of its own, on the same split (`trainer fit
--splits`): their students are compared on their test articles. With bundles of the joint runs, articles are scored by
a panel of them and by one scorer after the other, in turns. Writes benchmarks/results/joint-NAME.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import command, news
from benchmarks.quality import RESULTS
from distillery_runtime import load, load_panel
from distillery_runtime.articles.jsonl import read_jsonl
from distillery_runtime.bench.machine import this_machine
from distillery_trainer.data.split import SPLIT_VERSION
from distillery_trainer.runs.compare import compare
from distillery_trainer.runs.opening import open_run

THREADS = 1

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, measures and writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the result")
    parser.add_argument("--pair", type=Path, nargs=2, action="append", required=True, metavar=("JOINT_RUN", "OWN_RUN"))
    parser.add_argument("--bundle", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--articles", type=Path, metavar="FILE")
    parser.add_argument("--count", type=int, default=1000, help="of the articles to score (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", metavar="TEXT", help="what was trained, in a few words")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(arguments)
    if bool(options.bundle) != bool(options.articles):
        parser.error("--bundle, --articles: one without the other, expected both or none")
    record = {
        "benchmark": "joint", "schema_version": 1, "command": command(sys.argv), "machine": asdict(this_machine()),
        "split_version": SPLIT_VERSION,
        "note": options.note, "filters": [_compared(*pair) for pair in options.pair],
        "panel": _timed(options) if options.bundle else None,
    }  # fmt: skip
    path = options.results / f"joint-{options.name}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    news(f"{path.name} written")
    return 0


def _compared(joint: Path, own: Path) -> dict[str, object]:
    """The joint student against the filter's own."""
    run = open_run(joint)
    report: Json = compare(run, open_run(own))
    found = report["parts"]["total"]
    return {
        "filter": run.spec.label,
        "train": run.evaluation.split_sizes.train,
        "test": found["n"],
        **{name: found[name] for name in ("mae", "recall", "outcome")},
    }


def _timed(options: argparse.Namespace) -> dict[str, object]:
    """Seconds for all articles by the panel and by the scorers in turn, and the ratio, in alternating rounds."""
    with options.articles.open("rb") as stream:
        articles = [record for record, _ in zip(read_jsonl(stream), range(options.count), strict=False)]
    panel = load_panel(options.bundle, threads=THREADS)
    scorers = [load(bundle, threads=THREADS) for bundle in options.bundle]
    rounds = []
    for number in range(options.rounds):
        began = time.perf_counter()
        panel.score_batch(articles)
        between = time.perf_counter()
        for scorer in scorers:
            scorer.score_batch(articles)
        rounds.append((between - began, time.perf_counter() - between))
        news(f"round {number + 1}: {rounds[-1][0]:.1f} s together, {rounds[-1][1]:.1f} s one after the other")
    return {
        "articles": len(articles),
        "threads": THREADS,
        "together_s": [round(together, 3) for together, _ in rounds],
        "apart_s": [round(apart, 3) for _, apart in rounds],
        "ratio": round(median(apart / together for together, apart in rounds), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
