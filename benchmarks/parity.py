"""How far our graphs are from PyTorch, from themselves in other batches, and in float16 from fp32, on real articles.

    python benchmarks/parity.py --models DIR --articles FILE --work DIR [--model NAME ...]

--models holds checkpoints in Hugging Face form, each in a folder of its model's name; that of the 1B shape, with random
weights, is written into --work. A decoder gets a random head whose outputs spread like raw scores, so that differences
are in points; an encoder's are those of its pooled state, which has length 1. Each finished model is one file. Exits
with 1 when a limit does not hold.
"""

import argparse
import gc
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

import torch

from benchmarks.parity_checks import (
    LONG_WINDOW,
    Reference,
    fp32_rows,
    half_rows,
    int8_rows,
    long_rows,
    torch_reference,
)
from benchmarks.parity_graphs import OurModel, Source
from benchmarks.parity_result import Row, news, write_result
from benchmarks.parity_texts import Sample, read_sample
from benchmarks.peers.models import MODELS, TOKENIZER_OF_RANDOM, Model
from benchmarks.peers.shapes import write_random_gemma

OUT = "benchmarks/results/parity-{model}.json"
MAX_TOKENS = 512
ARTICLES, RANDOM_ARTICLES = 200, 20  # random weights are there for the arithmetic alone


@dataclass(frozen=True, slots=True)
class Plan:
    """Where things are. `count`: articles of a model, by default 200, or 20 for random weights."""

    models: Path
    articles: Path
    work: Path
    threads: int
    count: int | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares one model after the other."""
    options = _parser().parse_args(arguments)
    plan = Plan(options.models, options.articles, options.work, options.threads, options.count)
    plan.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(plan.threads)
    held = True
    for model in MODELS:
        if options.model and model.name not in options.model:
            continue
        rows = measure_model(model, plan)
        write_result(Path(options.out.format(model=model.name)), "parity", plan.threads, rows)
        held = held and all(row.get("holds") is not False for row in rows)
    return 0 if held else 1


def measure_model(model: Model, plan: Plan) -> list[Row]:
    """All comparisons of one model."""
    folder = checkpoint(model, plan.models, plan.work)
    count = plan.count or (RANDOM_ARTICLES if model.random else ARTICLES)
    news(f"{model.name}: reading articles")
    sample = read_sample(plan.articles, folder / "tokenizer.json", count, MAX_TOKENS, model.kind == "decoder")
    news(f"{model.name}: PyTorch")
    reference = torch_reference(folder, model.kind, sample)
    gc.collect()  # PyTorch's copy of the weights need not be there beside ours
    with tempfile.TemporaryDirectory(dir=plan.work) as place:
        source = Source(folder, model.kind, reference.head, sample.tuning, Path(place), MAX_TOKENS)
        rows = _compare(model, source, sample, reference, plan.threads)
    return [{"model": model.name, **row} for row in rows]


def checkpoint(model: Model, models: Path, work: Path) -> Path:
    """A model's folder; random weights are written first."""
    if not model.random:
        return models / model.name
    folder = work / model.name / "checkpoint"
    write_random_gemma(folder, models / TOKENIZER_OF_RANDOM)
    return folder


def _compare(model: Model, source: Source, sample: Sample, reference: Reference, threads: int) -> list[Row]:
    place = source.work
    news(f"{model.name}: cpu-fp32")
    rows, exact = fp32_rows(OurModel(source.build_fp32(place / "fp32.onnx"), model.kind, threads), sample, reference)
    if sample.long:
        news(f"{model.name}: cpu-fp32, long texts")
        long = source.build_fp32(place / "long.onnx", LONG_WINDOW)
        rows += long_rows(OurModel(long, model.kind, threads), sample, reference)
    news(f"{model.name}: cpu-int8")
    rows += int8_rows(OurModel(source.build_int8(place / "int8.onnx"), model.kind, threads), sample, exact)
    if model.kind == "decoder" and not model.random:
        news(f"{model.name}: float16")
        rows += half_rows(source, place, sample, exact, threads)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="folder of checkpoints")
    parser.add_argument("--articles", type=Path, required=True, metavar="FILE", help="JSON lines with title and text")
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="keeps random weights; graphs for a while"
    )
    parser.add_argument("--model", action="append", choices=[model.name for model in MODELS])
    parser.add_argument("--count", type=int, help=f"articles (default: {ARTICLES}, random weights {RANDOM_ARTICLES})")
    parser.add_argument("--threads", type=int, default=1, help="threads of each model (default: %(default)s)")
    parser.add_argument("--out", default=OUT, metavar="FILE", help="with {model} for its name (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
