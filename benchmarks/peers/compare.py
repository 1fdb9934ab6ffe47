"""Single-model speed beside other programs: the same weights and token ids, batch 1, one thread, in turns.

    python benchmarks/peers/compare.py --models DIR --articles FILE --environments DIR --work DIR [--model NAME ...]

--models holds checkpoints in Hugging Face form, each in a folder of its model's name; that of the 1B shape is written
into --work. Everyone runs on the same core, the machine's last. Each finished model is one file, which is kept, and so
is what was measured of one that is not finished: an interrupted run goes on where it was.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # run as a script, its own folder would come first

import distillery_exporter
from benchmarks.peers.affinity import Cores, last_cores
from benchmarks.peers.comparison import compare
from benchmarks.peers.journal import Journal
from benchmarks.peers.kept import digest, digest_of_code, digest_of_weights
from benchmarks.peers.models import MODELS, TOKENIZER_OF_RANDOM, Model, weights_label
from benchmarks.peers.shapes import write_random_gemma
from benchmarks.peers.sitting import Comparison
from benchmarks.peers.table import ANCHORS, CONTENDERS, Contender
from benchmarks.peers.texts import read_texts
from distillery_runtime.bench.machine import this_machine

OUT = "benchmarks/results/peers-{model}.json"
JOURNAL = "journal.json"  # in the model's folder of --work, until its file is written
TUNING_ARTICLES = 32
# Random weights have no answers to compare, and time does not depend on the text.
RANDOM_ARTICLES, RANDOM_TUNING = 2, 8


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
    cores: Cores
    contenders: tuple[Contender, ...]

    @property
    def settings(self) -> dict[str, object]:
        """What the figures depend on."""
        peers = [contender.name for contender in self.contenders]
        return {
            "articles": self.count,
            "rounds": self.rounds,
            "threads": self.threads,
            "cores": sorted(self.cores),
            "peers": peers,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares on one model after the other."""
    options = _parser().parse_args(arguments)
    names = [*ANCHORS, *options.peer] if options.peer else [contender.name for contender in CONTENDERS]
    plan = Plan(
        models=options.models.resolve(),
        articles=options.articles,
        environments=options.environments.resolve() if options.environments else None,
        work=options.work.resolve(),
        out=options.out,
        count=options.count,
        rounds=options.rounds,
        threads=options.threads,
        cores=last_cores(options.threads),
        contenders=tuple(contender for contender in CONTENDERS if contender.name in names),
    )
    chosen = options.model or [model.name for model in MODELS]
    for model in (model for model in MODELS if model.name in chosen):
        out = Path(plan.out.format(model=model.name))
        if out.exists() and not options.again:
            _news(f"{out} is there; --again measures it again")
            continue
        _write(out, measure_model(model, plan))
        (plan.work / model.name / JOURNAL).unlink()
    return 0


def measure_model(model: Model, plan: Plan) -> dict[str, object]:
    """One model's comparison, as its file has it."""
    work = plan.work / model.name
    work.mkdir(parents=True, exist_ok=True)
    folder = plan.models / model.name
    if model.random:
        folder = work / "checkpoint"
        write_random_gemma(folder, plan.models / TOKENIZER_OF_RANDOM)
    count, tuning = (RANDOM_ARTICLES, RANDOM_TUNING) if model.random else (plan.count, TUNING_ARTICLES)
    texts = read_texts(plan.articles, folder / "tokenizer.json", model.tokens, count, tuning)
    place, machine = plan.environments, this_machine()
    task = Comparison(model, folder, work, texts, place, plan.threads, plan.cores, plan.rounds, machine)
    journal = Journal(work / JOURNAL, _key(task, plan))
    found = compare(task, plan.contenders, journal, _news)
    return {
        "benchmark": "peers",
        "schema_version": 1,
        "command": _command(model, plan),
        "settings": {**plan.settings, "articles": count},
        "machine": asdict(machine),
        "threads": plan.threads,
        "batch": 1,
        "model": model.name,
        "weights": weights_label(model, folder),
        **found,
    }


def _key(task: Comparison, plan: Plan) -> str:
    """What rows are kept for: the settings, the machine, the model, its texts, and the programs that are ours."""
    settings = {**plan.settings, "peers": None}  # more or fewer peers change nothing for the others
    places = [Path(__file__).parent, Path(distillery_exporter.__file__).parent]
    code = digest_of_code(path for place in places for path in place.rglob("*.py"))
    texts = [task.texts.tuning, task.texts.timed[task.texts.longest]]
    return digest(settings, asdict(task.machine), digest_of_weights(task.folder), texts, code)


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
    parser.add_argument(
        "--peer", action="append", choices=[contender.name for contender in CONTENDERS], help="beside PyTorch and ours"
    )
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
