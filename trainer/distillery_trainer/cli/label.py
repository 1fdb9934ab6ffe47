"""`trainer label`, `prompt` and `agree`: articles labelled within a budget, what an oracle is sent, two compared."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distillery_runtime.cli.command import news, positive, print_lines, say
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.strict_json import parse_json
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.telling import agreement_lines, dry_run_lines, summary_lines
from distillery_trainer.data.labels import default_labels, files_digest, read_labels
from distillery_trainer.evaluate.agreement import agreement
from distillery_trainer.filters.find import find_filter, load_filter
from distillery_trainer.labelling import canary
from distillery_trainer.labelling.driving import Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Money, Questions
from distillery_trainer.labelling.label import label, remaining
from distillery_trainer.labelling.prepared import prepare
from distillery_trainer.labelling.preview import preview
from distillery_trainer.oracle.protocol import Settings
from distillery_trainer.oracle.services import GEMINI, RECORDED, SERVICES, Access, check_access, choose_model, price_of
from distillery_trainer.store.files import digest

AUTO = "auto"
Commands = Any  # Any: what argparse's add_subparsers gives, a class without a public name


def register(commands: Commands) -> None:
    """Adds the three commands."""
    _add_label(commands.add_parser("label", help="label articles by an oracle, within a budget"))
    _add_prompt(commands.add_parser("prompt", help="show exactly what an oracle is sent about an article"))
    _add_agree(commands.add_parser("agree", help="tell how far two oracles agree on the articles that both labelled"))


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter to label for")
    parser.add_argument("--articles", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSON lines with id, title and text")  # fmt: skip
    parser.add_argument("--max-usd", type=_amount, metavar="USD",
                        help="the budget, for all that the ledger has ever paid; not needed where no token is "
                        "paid")  # fmt: skip
    parser.add_argument("--limit", type=positive, metavar="N",
                        help="ask about the first N usable articles only, in file order; without it the same command "
                        "goes on with the rest")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="the labels file (default: labels/<filter>-<version>.jsonl)")  # fmt: skip
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="(default: beside the labels file)")
    parser.add_argument("--new-ledger", action="store_true",
                        help="begin a new ledger beside files of another one; asks and pays for everything "
                        "again")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would be asked and what it would cost")
    parser.add_argument("--repeats", type=positive, default=1, metavar="K",
                        help="ask about a share of the articles K times, to see how sure the oracle is")  # fmt: skip
    parser.add_argument("--repeat-share", type=_share, default=0.0, metavar="S", help="the share, from 0 to 1")
    parser.add_argument("--retry-dead", action="store_true", help="ask about dead letters of before once more")
    parser.add_argument("--canary", type=_count, metavar="N",
                        help=f"replies to judge before the rest is asked for (default: {canary.SIZE})")  # fmt: skip
    parser.add_argument("--max-characters", type=positive, default=Questions().max_characters, metavar="N",
                        help="pass over articles with longer texts (default: %(default)s)")  # fmt: skip
    oracle = parser.add_argument_group("oracle")
    _add_oracle(oracle, SERVICES)
    oracle.add_argument("--recorded", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                        help=f"labels files that --oracle {RECORDED} answers with")  # fmt: skip
    oracle.add_argument("--batch", action="store_true", help="in the provider's batch mode: slower, at half the price")
    _add_pace(parser.add_argument_group("pace"))
    parser.set_defaults(run=_label)


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", required=True, metavar="NAME[/vN]|PATH", help="the filter whose prompt it is")
    parser.add_argument("--article", metavar="FILE|-",
                        help="a file whose first article is asked about, - for the standard input (default: a "
                        "placeholder)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print address, body and figures as JSON")
    _add_oracle(parser.add_argument_group("oracle"), [name for name in SERVICES if name != RECORDED])
    parser.set_defaults(run=_prompt, timeout=Pace().timeout_s, batch=False)


def _add_oracle(group: Any, services: Sequence[str]) -> None:  # Any: argparse's group, a class without a public name
    group.add_argument("--oracle", choices=services, type=_service, default=GEMINI, help="(default: %(default)s)")
    group.add_argument("--model", metavar="NAME",
                       help=f"(default: the filter's oracle.model, where {GEMINI} is asked at Google)")  # fmt: skip
    group.add_argument("--price", metavar="input=USD,output=USD",
                       help="for a million tokens; also cached=, batch= (default: the price table; free for an oracle "
                       "on your own hardware)")  # fmt: skip
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
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_lines(*agreement_lines(report))
    return 0


def _label(options: argparse.Namespace) -> int:
    job = _job(options)
    for path, option in ((job.out, "--out"), (job.dead, "--out"), (job.summary, "--out"), (job.ledger, "--ledger")):
        refuse_same_file(path, [*job.articles, *job.recorded], option)
    prepared = prepare(job)
    plan = dry_run_lines(prepared, remaining(prepared))
    if options.dry_run:
        print_lines(*plan)
        return 0
    news(*plan)
    done = label(prepared, say)
    print_lines(*summary_lines(prepared, done))
    if done.stop is not None and done.stop.reason == "canary":
        summary: Any = done.summary  # Any: nested JSON of known shape
        command = ["trainer", *options.arguments]
        print_lines(*canary.next_steps(summary["articles"]["dead_by_reason"], options.temperature, command))
    if done.stop is not None and done.stop.reason == "interrupted":
        raise KeyboardInterrupt
    articles: Any = done.summary["articles"]  # Any: as above
    is_fruitless = articles["open"] > 0 and articles["labelled"] == 0
    return 1 if done.stop is not None or is_fruitless else 0


def _job(options: argparse.Namespace) -> LabelJob:
    folder = find_filter(options.filter)
    spec = load_filter(folder)
    out = options.out or default_labels(spec)
    is_recorded = options.oracle == RECORDED
    access = _access(options, spec)
    if options.max_usd is None and not options.dry_run and not price_of(access, options.price).is_free:
        raise InputError("trainer label", [Problem("--max-usd", "not given", "a budget in US dollars")])
    size = options.canary if options.canary is not None else 0 if is_recorded else canary.SIZE
    return LabelJob(
        folder,
        tuple(options.articles),
        out,
        options.ledger or out.with_suffix(".ledger.sqlite"),
        access,
        Money(options.max_usd or 0.0, options.price),
        Questions(
            options.repeats, options.repeat_share, options.max_characters, size, options.retry_dead, options.limit
        ),
        Pace(
            options.concurrency,
            options.requests_per_minute,
            options.tokens_per_minute,
            options.timeout,
            Patience(options.attempts),
        ),
        options.batch,
        tuple(options.recorded),
        options.new_ledger,
    )


def _access(options: argparse.Namespace, spec: FilterSpec) -> Access:
    """Which oracle the options name, for a filter. Raises as `check_access` does."""
    if options.oracle == RECORDED:
        model = _recording(options.recorded)
    else:
        model = choose_model(options.oracle, options.base_url, options.model, spec.oracle.model)
    settings = Settings(options.temperature, options.max_output_tokens, _thinking_of(options), options.extra)
    access = Access(options.oracle, model, settings, options.base_url, options.key_variable, options.timeout)
    check_access(access, options.batch)
    return access


def _prompt(options: argparse.Namespace) -> int:
    folder = find_filter(options.filter)
    spec = load_filter(folder)
    shown = preview(folder, spec, _access(options, spec), options.price, options.article)
    print(json.dumps(shown.to_record(), indent=1, ensure_ascii=False) if options.json else "\n".join(shown.lines()))
    return 0


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


def _service(text: str) -> str:
    """A service by the name that people write: `llama.cpp` and `llama-cpp` are `llamacpp`."""
    return text.lower().replace(".", "").replace("-", "")


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
        value = parse_json(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object")
    return value
