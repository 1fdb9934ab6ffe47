"""Single-model speed beside other programs: the same weights and token ids, batch 1, one thread, in turns.

    python benchmarks/peers/compare.py --models DIR --articles FILE --environments DIR --work DIR [--model NAME ...]

--models holds checkpoints in Hugging Face form, each in a folder of its model's name; that of the 1B shape is written
into --work. Each finished model is one file, which is kept: an interrupted run goes on with the next model.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script, its own folder would come first

from benchmarks.peers.comparison import Comparison, compare
from benchmarks.peers.models import MODELS, TOKENIZER_OF_RANDOM, Model, weights_label
from benchmarks.peers.shapes import write_random_gemma
from benchmarks.peers.table import CONTENDERS, Contender
from benchmarks.peers.texts import read_texts
from distillery_runtime.machine import this_machine

OUT = "benchmarks/results/peers-{model}.json"
TUNING_ARTICLES = 32
RANDOM_ARTICLES = 2  # random weights have no answers to compare, and time does not depend on the text


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call measures, and where things are."""

    models: Path
    articles: Path
    environments: Path | None
    work: Path
    out: str
    count: int
    rounds: int
    threads: int
    contenders: tuple[Contender, ...]

    @property
    def settings(self) -> dict[str, object]:
        """What the figures depend on."""
        peers = [contender.name for contender in self.contenders]
        return {"articles": self.count, "rounds": self.rounds, "threads": self.threads, "peers": peers}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares on one model after the other."""
    options = _parser().parse_args(arguments)
    names = options.peer or [contender.name for contender in CONTENDERS]
    plan = Plan(
        models=options.models.resolve(),
        articles=options.articles,
        environments=options.environments.resolve() if options.environments else None,
        work=options.work.resolve(),
        out=options.out,
        count=options.count,
        rounds=options.rounds,
        threads=options.threads,
        contenders=tuple(contender for contender in CONTENDERS if contender.name in names),
    )
    chosen = options.model or [model.name for model in MODELS]
    for model in (model for model in MODELS if model.name in chosen):
        out = Path(plan.out.format(model=model.name))
        if out.exists() and not options.again:
            _news(f"{out} is there; --again measures it again")
        else:
            _write(out, measure_model(model, plan))
    return 0


def measure_model(model: Model, plan: Plan) -> dict[str, object]:
    """One model's comparison, as its file has it."""
    work = plan.work / model.name
    work.mkdir(parents=True, exist_ok=True)
    folder = plan.models / model.name
    if model.random:
        folder = work / "checkpoint"
        write_random_gemma(folder, plan.models / TOKENIZER_OF_RANDOM)
    count = RANDOM_ARTICLES if model.random else plan.count
    texts = read_texts(plan.articles, folder / "tokenizer.json", model.tokens, count, TUNING_ARTICLES)
    task = Comparison(model, folder, work, texts, plan.environments, plan.threads, plan.rounds, this_machine())
    return {
        "benchmark": "peers",
        "schema_version": 1,
        "command": _command(model, plan),
        "settings": plan.settings,
        "machine": asdict(task.machine),
        "threads": plan.threads,
        "batch": 1,
        "model": model.name,
        "weights": weights_label(model, folder),
        **compare(task, plan.contenders, _news),
    }


def _command(model: Model, plan: Plan) -> str:
    """The command without the places of this machine."""
    folders = "--models DIR --articles FILE --environments DIR --work DIR"
    figures = f"--count {plan.count} --rounds {plan.rounds} --threads {plan.threads}"
    return f"python benchmarks/peers/compare.py {folders} --model {model.name} {figures}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="folder of checkpoints")
    parser.add_argument("--articles", type=Path, required=True, metavar="FILE", help="JSON lines with title and text")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="made by benchmarks.peers.environments")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps graphs and converted models")
    parser.add_argument("--model", action="append", choices=[model.name for model in MODELS])
    parser.add_argument("--peer", action="append", choices=[contender.name for contender in CONTENDERS])
    parser.add_argument("--count", type=int, default=16, help="articles (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each peer (default: %(default)s)")
    parser.add_argument("--out", default=OUT, metavar="FILE", help="with {model} for its name (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure models whose file is there, too")
    return parser


def _write(path: Path, record: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    beside.rename(path)
    _news(f"{path} written")


def _news(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
