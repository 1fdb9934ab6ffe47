"""A bundle's whole cascade on a stream of articles: speed, memory over many passes, and PyTorch on a sample beside it.

    python benchmarks/stream.py --bundle DIR --articles FILE [--passes 10] [--torch-run RUN]

Streams the file as a process (`distillery score`) and by the public API, pass after pass. With --torch-run, the run
that the bundle was made from, a sample is then scored in turns by the bundle and by the same cascade in PyTorch, whose
batches are padded to the window (or to --pad-to). Exits with 1 when ours is less than 2.5 times as fast there.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.parity_result import Row, news, write_result
from benchmarks.stream_passes import run_process, stream_passes
from distillery_runtime import HybridScorer, load

OUT = "benchmarks/results/stream-{bundle}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one bundle."""
    options = _parser().parse_args(arguments)
    rows = measure(options)
    write_result(Path(options.out.format(bundle=options.bundle.resolve().name)), "stream", options.threads, rows)
    return 0 if all(row.get("holds") is not False for row in rows) else 1


def measure(options: argparse.Namespace) -> list[Row]:
    """All parts. PyTorch comes last, for its libraries would count as our memory."""
    rows = [] if options.no_process else [run_process(options.bundle, options.articles, options.threads)]
    scorer = load(options.bundle, provider="cpu", threads=options.threads)
    rows += stream_passes(scorer, options.articles, options.passes)
    rows.append(_beside_torch(scorer, options))
    return [{"bundle": scorer.bundle, **row} for row in rows]


def _beside_torch(scorer: HybridScorer, options: argparse.Namespace) -> Row:
    # Read when torch is imported, and by the trainer, which would otherwise use all cores.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    reason = "no --torch-run was given"
    if options.torch_run is not None:
        from benchmarks import stream_torch

        found = stream_torch.why_not(scorer.spec)
        if found is None:
            place, batch = options.bundle, options.torch_batch
            cascade, stages = stream_torch.open_torch_cascade(scorer, place, options.torch_run, batch, options.pad_to)
            records = stream_torch.sample_records(options.articles, options.torch_articles)
            return stream_torch.compare(scorer, cascade, stages, records)
        reason = found
    news(f"PyTorch is left out: {reason}")
    return {"part": "beside PyTorch", "left_out": reason}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    parser.add_argument("--articles", type=Path, required=True, metavar="FILE", help="JSON lines with id, title, text")
    parser.add_argument("--passes", type=int, default=10, help="of the file by the API (default: %(default)s)")
    parser.add_argument("--no-process", action="store_true", help="leave `distillery score` out")
    parser.add_argument("--torch-run", type=Path, metavar="RUN", help="the run that the bundle was made from")
    parser.add_argument("--torch-articles", type=int, default=128, help="articles of the sample (default: %(default)s)")
    parser.add_argument("--torch-batch", type=int, default=16, help="articles of a batch (default: %(default)s)")
    parser.add_argument("--pad-to", type=int, metavar="TOKENS", help="PyTorch's padded length (default: the window)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each model (default: %(default)s)")
    parser.add_argument(
        "--out", default=OUT, metavar="FILE", help="with {bundle} for its folder (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
