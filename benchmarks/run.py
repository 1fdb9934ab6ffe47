"""Measures everything, part by part in processes of their own, and renders docs/benchmarks.md from the results.

    python benchmarks/run.py --models DIR --articles FILE --bundle DIR ... --torch-run RUN ... --environments DIR \
      --work DIR [--again] [--only PART ...]
    python benchmarks/run.py --render-only

A part whose inputs are not given is left out with a reason; one whose result file is there is kept unless --again. A
run that was interrupted goes on with the same command. Exits with 1 when a part ended without its result.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import command, news, without_folders
from benchmarks.peers.models import MODELS
from benchmarks.render import write_page
from benchmarks.run_parts import NAMES, RESULTS, ROOT, Inputs, Part, all_parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts that are not done, and renders."""
    parser = _parser()
    options = parser.parse_args(arguments)
    failed = False
    if not options.render_only:
        if options.work is None:
            parser.error("--work: nothing, expected a folder (or --render-only)")
        options.work.mkdir(parents=True, exist_ok=True)
        options.results.mkdir(parents=True, exist_ok=True)
        wanted = [part for part in all_parts(_inputs(options)) if part.name in (options.only or NAMES)]
        done = [_done(part, options.again) for part in wanted]
        failed = not all(done)
    for path in write_page(options.results.resolve(), options.docs.resolve()):
        news(f"{path.name} written")
    return 1 if failed else 0


def _done(part: Part, again: bool) -> bool:
    """Runs a part unless it is done or cannot run. Says whether all is well with it."""
    if part.missing:
        news(f"{part.out.stem}: left out, for {part.missing} was not given")
        return True
    if part.out.exists() and not again:
        news(f"{part.out.stem}: {part.out.name} is there; --again measures it again")
        return True
    news(f"{part.out.stem}: begins")
    before, began = _stamp(part.out), time.monotonic()
    for path in filter(None, [part.writes]):
        path.unlink(missing_ok=True)
    status = subprocess.run(part.command, cwd=ROOT, check=False).returncode
    if part.writes and part.writes.exists():
        _take_over(part, part.writes)
    wrote = _stamp(part.out) != before
    found = f"wrote {part.out.name}" if wrote else "wrote no result"
    news(f"{part.out.stem}: ended with {status} after {(time.monotonic() - began) / 60:.1f} min, {found}")
    return wrote


def _take_over(part: Part, made: Path) -> None:
    """Puts what a process wrote into its place; a report of `distillery bench` gets the envelope of the others."""
    record = json.loads(made.read_text(encoding="utf-8"))
    if part.name == "bench":
        record = bench_record(record, part.command)
    beside = part.out.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.rename(part.out)
    made.unlink()


def bench_record(report: dict[str, object], ran: Sequence[str]) -> dict[str, object]:
    """A report of `distillery bench` in the envelope of our results, without a place of this machine in it."""
    left_out = report["left_out"]
    assert isinstance(left_out, list)  # as docs/formats/bench.md has it
    typed = command(["", *ran[4 : ran.index("--json")]])
    return {
        "benchmark": "bench",
        "schema_version": 1,
        "command": typed.replace("python benchmarks/", "distillery bench", 1),
        "machine": report["machine"],
        "threads": report["threads"],
        "report": {**report, "left_out": [without_folders(line) for line in left_out]},
    }


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _inputs(options: argparse.Namespace) -> Inputs:
    def whole(path: Path | None) -> Path | None:
        return path.resolve() if path else None

    articles, work = whole(options.articles), options.work.resolve()
    return Inputs(
        models=whole(options.models),
        model_names=tuple(options.model or ()),
        articles=articles,
        bundles=tuple(path.resolve() for path in options.bundle),
        panel=tuple(path.resolve() for path in options.panel_bundle),
        torch_runs=tuple(path.resolve() for path in options.torch_run),
        environments=whole(options.environments),
        work=work,
        results=options.results.resolve(),
        threads=options.threads,
        quick=options.quick,
        stream_articles=_sample(articles, work, options.stream_articles) if articles else None,
    )


def _sample(articles: Path, work: Path, count: int | None) -> Path:
    """Some lines of a file as a file of its own, always the same; the file itself where all are wanted."""
    if count is None:
        return articles
    lines = articles.read_text(encoding="utf-8").splitlines(keepends=True)
    path = work / f"{articles.stem}-{count}.jsonl"
    path.write_text("".join(random.Random(0).sample(lines, min(count, len(lines)))), encoding="utf-8")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of checkpoints: parity, peers")
    parser.add_argument("--model", action="append", choices=[model.name for model in MODELS], help="of parity, peers")
    parser.add_argument("--articles", type=Path, metavar="FILE", help="JSON lines with id, title, text")
    parser.add_argument("--bundle", type=Path, action="append", default=[], metavar="DIR", help="may be repeated")
    parser.add_argument(
        "--panel-bundle", type=Path, action="append", default=[], metavar="DIR", help="one of a panel's bundles"
    )
    parser.add_argument(
        "--torch-run", type=Path, action="append", default=[], metavar="RUN", help="the run of one of the bundles"
    )
    parser.add_argument("--environments", type=Path, metavar="DIR", help="made by benchmarks.peers.environments")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps checkpoints, graphs and what is being written")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: benchmarks/results)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="(default: docs)")
    parser.add_argument("--only", action="append", choices=NAMES, help="these parts; may be repeated")
    parser.add_argument(
        "--stream-articles", type=int, metavar="N", help="stream so many of the articles (default: all)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each model (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure what has its result file, too")
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that everything runs")
    parser.add_argument("--render-only", action="store_true", help="measure nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
