"""`trainer label` and `agree`: articles labelled by an oracle within a budget, and two oracles compared."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from distillery_runtime.command import positive
from distillery_runtime.errors import InputError, Problem
from distillery_trainer.files import digest
from distillery_trainer.filters import find_filter, load_filter
from distillery_trainer.labelling import canary
from distillery_trainer.labelling.agreement import agreement
from distillery_trainer.labelling.driving import Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Money, Questions
from distillery_trainer.labelling.label import label, remaining
from distillery_trainer.labelling.prepared import prepare
from distillery_trainer.labelling.telling import agreement_lines, dry_run_lines, summary_lines
from distillery_trainer.labels import default_labels, files_digest, read_labels
from distillery_trainer.oracle.protocol import Settings
from distillery_trainer.oracle.services import GEMINI, RECORDED, SERVICES, Access

AUTO = "auto"
Commands = Any  # Any: what argparse's add_subparsers gives, a class without a public name


def register(commands: Commands) -> None:
    """Adds the two commands."""
    _add_label(commands.add_parser("label", help="label articles by an oracle, within a budget"))
    _add_agree(commands.add_parser("agree", help="tell how far two oracles agree on the articles that both labelled"))


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter to label for")
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines with id, title and text")  # fmt: skip
    parser.add_argument("--max-usd", type=_amount, metavar="USD",
                        help="the budget, for all that the ledger has ever paid")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the labels file (default: labels/<filter>-<version>.jsonl)")  # fmt: skip
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="(default: beside the labels file)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be asked and what it would cost")
    parser.add_argument("--repeats", type=positive, default=1, metavar="K",
                        help="ask about a share of the articles K times, to see how sure the oracle is")  # fmt: skip
    parser.add_argument("--repeat-share", type=_share, default=0.0, metavar="S", help="the share, from 0 to 1")
    parser.add_argument("--retry-dead", action="store_true", help="ask about dead letters of before once more")
    parser.add_argument("--canary", type=_count, metavar="N",
                        help=f"replies to judge before the rest is asked for (default: {canary.SIZE})")  # fmt: skip
    parser.add_argument("--max-characters", type=positive, default=Questions().max_characters, metavar="N",
                        help="pass over articles with longer texts (default: %(default)s)")  # fmt: skip
    _add_oracle(parser.add_argument_group("oracle"))
    _add_pace(parser.add_argument_group("pace"))
    parser.set_defaults(run=_label)


def _add_oracle(group: Any) -> None:  # Any: argparse's group, a class without a public name
    group.add_argument("--oracle", choices=SERVICES, default=GEMINI, help="(default: %(default)s)")
    group.add_argument("--model", metavar="NAME", help="(default: the filter's oracle.model)")
    group.add_argument("--recorded", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                       help=f"labels files that --oracle {RECORDED} answers with")  # fmt: skip
    group.add_argument("--batch", action="store_true", help="in the provider's batch mode: slower, at half the price")
    group.add_argument("--price", metavar="input=USD,output=USD", help="for a million tokens; also cached=, batch=")
    group.add_argument("--base-url", metavar="URL", help="where the oracle is, if not at its usual address")
    group.add_argument("--key-variable", metavar="NAME", help="the environment variable that holds the key")
    group.add_argument("--thinking-tokens", type=_thinking, metavar="N",
                       help="Gemini's budget for thinking; auto leaves it to the model (default: 0)")  # fmt: skip
    group.add_argument("--max-output-tokens", type=positive, default=Settings().max_output_tokens, metavar="N",
                       help="of a reply (default: %(default)s)")  # fmt: skip
    group.add_argument("--temperature", type=_temperature, default=0.0, metavar="T", help="or auto (default: 0)")
    group.add_argument("--extra", type=_extra, default={}, metavar="JSON",
                       help="further fields of each request, of an OpenAI-compatible server")  # fmt: skip


def _add_pace(group: Any) -> None:  # Any: as above
    group.add_argument("--concurrency", type=positive, default=Pace().concurrency, metavar="N",
                       help="calls at once (default: %(default)s)")  # fmt: skip
    group.add_argument("--requests-per-minute", type=positive, metavar="N", help="(default: no limit)")
    group.add_argument("--tokens-per-minute", type=positive, metavar="N", help="(default: no limit)")
    group.add_argument("--timeout", type=positive, default=round(Pace().timeout_s), metavar="S",
                       help="of one call, in seconds (default: %(default)s)")  # fmt: skip
    group.add_argument("--attempts", type=positive, default=Patience().attempts, metavar="N",
                       help="at one question in a row (default: %(default)s)")  # fmt: skip


def _add_agree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="LABELS_A", help="labels of one oracle")
    parser.add_argument("b", type=Path, metavar="LABELS_B", help="labels of another one, or of people")
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter that both are of")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_agree)


def _agree(options: argparse.Namespace) -> int:
    spec = load_filter(find_filter(options.filter))
    report = agreement(read_labels([options.a], spec), read_labels([options.b], spec), spec)
    print(json.dumps(report, indent=1) if options.json else "\n".join(agreement_lines(report)))
    return 0


def _label(options: argparse.Namespace) -> int:
    prepared = prepare(_job(options))
    plan = dry_run_lines(prepared, remaining(prepared))
    if options.dry_run:
        print("\n".join(plan))
        return 0
    for line in plan:
        _say(line)
    done = label(prepared, _say)
    print("\n".join(summary_lines(prepared, done)))
    if done.stop is not None and done.stop.reason == "interrupted":
        raise KeyboardInterrupt
    return 1 if done.stop is not None else 0


def _job(options: argparse.Namespace) -> LabelJob:
    folder = find_filter(options.filter)
    spec = load_filter(folder)
    out = options.out or default_labels(spec)
    is_recorded = options.oracle == RECORDED
    if options.max_usd is None and not (is_recorded or options.dry_run):
        raise InputError("trainer label", [Problem("--max-usd", "not given", "a budget in US dollars")])
    settings = Settings(options.temperature, options.max_output_tokens, _thinking_of(options), options.extra)
    access = Access(
        options.oracle,
        _recording(options.recorded) if is_recorded else options.model or spec.oracle.model,
        settings,
        options.base_url,
        options.key_variable,
        options.timeout,
    )
    size = options.canary if options.canary is not None else 0 if is_recorded else canary.SIZE
    return LabelJob(
        folder,
        tuple(options.articles),
        out,
        options.ledger or out.with_suffix(".ledger.sqlite"),
        access,
        Money(options.max_usd or 0.0, options.price),
        Questions(options.repeats, options.repeat_share, options.max_characters, size, options.retry_dead),
        Pace(
            options.concurrency,
            options.requests_per_minute,
            options.tokens_per_minute,
            options.timeout,
            Patience(options.attempts),
        ),
        options.batch,
        tuple(options.recorded),
    )


def _recording(files: list[Path]) -> str:
    """What stands for the model: other recorded labels are other answers."""
    return f"{RECORDED}-{digest([file['sha256'] for file in files_digest([f for f in files if f.is_file()])])[:12]}"


def _thinking_of(options: argparse.Namespace) -> int | None:
    """Gemini does not think unless told to; where there is no such setting, none is sent."""
    if options.thinking_tokens == AUTO:
        return None
    if options.thinking_tokens is None:
        return 0 if options.oracle == GEMINI else None
    return int(options.thinking_tokens)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0")
    return value


def _temperature(text: str) -> float | None:
    return None if text == AUTO else _amount(text)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 to 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value


def _thinking(text: str) -> int | str:
    return text if text == AUTO else _count(text)


def _extra(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object")
    return value
