"""What a run took to train, and how many articles a second its models answer: benchmarks/results/cost-NAME.json.

    python benchmarks/cost.py NAME RUN BUNDLE ARTICLES [--count 200] [--rounds 3] [--note TEXT] [--results DIR]

NAME is that of the run's quality-NAME.json. Trainings are timed by the records of the run's stages, so a fit that was
interrupted counts the pause too. The bundle answers ARTICLES (JSON lines) on one thread, in rounds: the probe alone,
the student alone, and the cascade as `distillery score` has it; what is kept is each one's median. The baselines are
trained again on the run's articles and answer its test articles, where the labels files are still there.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import command, news
from benchmarks.quality import RESULTS
from distillery_runtime import HybridScorer, load
from distillery_runtime.articles.article import parse_article
from distillery_runtime.articles.jsonl import read_jsonl
from distillery_runtime.articles.text import compose
from distillery_runtime.bench.machine import this_machine
from distillery_trainer.evaluate.baselines import static, tfidf_ridge
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

THREADS = 1
BEFORE = {"fit": "split", "probe": "calibrate"}  # a stage begins when the one before it has ended

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the result, and of the run's quality-NAME.json")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle made of it")
    parser.add_argument("articles", type=Path, metavar="ARTICLES")
    parser.add_argument("--count", type=int, default=200, help="of the articles to answer (default: 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", metavar="TEXT", help="what else the machine did, in a few words")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(arguments)
    record = {
        "benchmark": "cost", "schema_version": 1, "command": command(sys.argv), "machine": asdict(this_machine()),
        "note": options.note, "training_s": _training(options.run), "speed": _speed(options),
        "baselines_s": _baselines(open_run(options.run)),
        "split_version": open_run(options.run).manifest.get("split_version", 1),
    }  # fmt: skip
    path = options.results / f"cost-{options.name}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    news(f"{path.name} written")
    return 0


def _training(run: Path) -> dict[str, float]:
    """Seconds that the stages took which train the student (`fit`) and the probe."""
    ended = {path.stem: path.stat().st_mtime for path in (run / "stages").glob("*.json")}
    return {stage: round(ended[stage] - ended[before], 1) for stage, before in BEFORE.items()}


def _speed(options: argparse.Namespace) -> dict[str, object]:
    """Articles a second, the median of the rounds, and how many articles the probe answered for good."""
    with options.articles.open("rb") as stream:
        records = [record for record, _ in zip(read_jsonl(stream), range(options.count), strict=False)]
    scorer = load(options.bundle, threads=THREADS)
    texts = [compose(parse_article(record), scorer.spec.text).joined for record in records]
    systems = {stage.name: _stage(scorer, place, texts) for place, stage in enumerate(scorer.stages)}
    systems["cascade"] = lambda: scorer.score_batch(records)
    found: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(options.rounds):
        for name, answer in systems.items():
            began = time.perf_counter()
            answer()
            found[name].append(len(records) / (time.perf_counter() - began))
        news(f"round {number + 1}: " + ", ".join(f"{name} {rates[-1]:.1f}/s" for name, rates in found.items()))
    by_stage = [score.stage for score in scorer.score_batch(records)]
    return {
        "articles": len(records), "threads": THREADS, "answered_by_probe": by_stage.count("probe"),
        "articles_per_second": {name: round(median(rates), 2) for name, rates in found.items()},
    }  # fmt: skip


def _stage(scorer: HybridScorer, place: int, texts: Sequence[str]) -> Callable[[], object]:
    stage = scorer.stages[place]
    return lambda: stage.run(stage.window.encode(texts))


def _baselines(run: Run) -> dict[str, float] | None:
    """Seconds in which each baseline is trained on the run's articles and answers its test articles."""
    if run.labelled is None:
        return None
    data, held_out = run.fit_data(), run.part("test").texts
    answers: dict[str, Callable[[], object]] = {
        "tfidf_ridge": lambda: tfidf_ridge(data, held_out),
        "static": lambda: static(data, held_out),
    }
    found = {}
    for name, answer in answers.items():
        began = time.perf_counter()
        answer()
        found[name] = round(time.perf_counter() - began, 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
