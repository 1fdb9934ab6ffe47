"""`trainer label`, `prompt` and `agree`: articles labelled within a budget, what an oracle is sent, two compared."""

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillery_runtime.cli.command import news, print_lines, say
from distillery_runtime.cli.options import amount, file_to_write, json_object, non_negative, positive, share
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.named_filter import named_filter
from distillery_trainer.cli.summary import with_interval
from distillery_trainer.data.labels import default_labels, files_digest, read_labels
from distillery_trainer.evaluate.agreement import agreement
from distillery_trainer.filters.find import load_filter
from distillery_trainer.labelling import canary
from distillery_trainer.labelling.driver import Pace, Patience
from distillery_trainer.labelling.estimate import CostEstimate
from distillery_trainer.labelling.job import LabelJob, Money, PreparedJob, Questions, prepare
from distillery_trainer.labelling.labeller import LabellingResult, label, remaining
from distillery_trainer.labelling.preview import preview
from distillery_trainer.oracle.protocol import Settings
from distillery_trainer.oracle.services import GEMINI, RECORDED, SERVICES, Access, check_access, choose_model, price_of
from distillery_trainer.store.files import digest

AUTO = "auto"
RETRY_DEAD = "--retry-dead"
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
    parser.add_argument("--max-usd", type=amount, metavar="USD",
                        help="the budget, for all that the ledger has ever paid; not needed where no token is "
                        "paid")  # fmt: skip
    parser.add_argument("--limit", type=positive, metavar="N",
                        help="ask about the first N usable articles only, in file order; without it the same command "
                        "goes on with the rest")  # fmt: skip
    parser.add_argument("--out", type=file_to_write, metavar="FILE",
                        help="the labels file (default: labels/<filter>-<version>.jsonl)")  # fmt: skip
    parser.add_argument("--ledger", type=file_to_write, metavar="FILE", help="(default: beside the labels file)")
    parser.add_argument("--new-ledger", action="store_true",
                        help="begin a new ledger beside files of another one; asks and pays for everything "
                        "again")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would be asked and what it would cost")
    parser.add_argument("--repeats", type=positive, default=1, metavar="K",
                        help="ask about a share of the articles K times, to see how sure the oracle is")  # fmt: skip
    parser.add_argument("--repeat-share", type=share, default=0.0, metavar="S", help="the share, from 0 to 1")
    parser.add_argument(RETRY_DEAD, action="store_true", help="ask about dead letters of before once more")
    parser.add_argument("--canary", type=non_negative, metavar="N",
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
    group.add_argument("--extra", type=json_object, default={}, metavar="JSON",
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
    spec = load_filter(named_filter(options.filter))
    report = agreement(read_labels([options.a], spec), read_labels([options.b], spec), spec)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_lines(*_agreement_lines(report))
    return 0


def _label(options: argparse.Namespace) -> int:
    job = _job(options)
    for path, option in ((job.out, "--out"), (job.dead, "--out"), (job.summary, "--out"), (job.ledger, "--ledger")):
        refuse_same_file(path, [*job.articles, *job.recorded], option)
    prepared = prepare(job)
    plan = _dry_run_lines(prepared, remaining(prepared))
    if options.dry_run:
        print_lines(*plan)
        return 0
    news(*plan)
    done = label(prepared, say)
    print_lines(*_summary_lines(prepared, done))
    if done.stop is not None and done.stop.reason == "canary":
        summary: Any = done.summary  # Any: nested JSON of known shape
        command = ["trainer", *options.arguments]
        print_lines(*_next_steps(summary["articles"]["dead_by_reason"], options.temperature, command))
    if done.stop is not None and done.stop.reason == "interrupted":
        raise KeyboardInterrupt
    articles: Any = done.summary["articles"]  # Any: as above
    is_fruitless = articles["open"] > 0 and articles["labelled"] == 0
    return 1 if done.stop is not None or is_fruitless else 0


def _job(options: argparse.Namespace) -> LabelJob:
    folder = named_filter(options.filter)
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
    folder = named_filter(options.filter)
    spec = load_filter(folder)
    shown = preview(folder, spec, _access(options, spec), options.price, options.article)
    print(json.dumps(shown.to_record(), indent=1, ensure_ascii=False) if options.json else "\n".join(shown.lines()))
    return 0


def _dry_run_lines(prepared: PreparedJob, left: CostEstimate) -> Iterator[str]:
    """What would be asked and what it would cost."""
    access, price, money = prepared.job.access, prepared.price, prepared.job.money
    yield f"filter    {prepared.spec.label}"
    yield f"oracle    {access.model} of {access.service}, {prepared.mode}"
    yield f"articles  {len(prepared.articles.articles)}, {_passed_over(prepared)}"
    yield f"questions {len(prepared.plan.calls)}, of which {left.questions} have no answer yet"
    yield f"tokens    about {left.input_tokens:,} of input"
    yield f"price     ${price.input:g} in, ${price.cached:g} cached, ${price.output:g} out a million ({price.as_of})"
    budget = f", of a budget of ${money.max_usd:g}" if money.max_usd else ""
    by = f"by the cost of {left.replies} replies" if left.replies else "by length"
    yield f"cost      about ${left.likely_usd:.4f}, {by}{budget}"
    yield f"          at most ${left.most_usd:.4f}, at a token for each byte and all the output allowed"


def _summary_lines(prepared: PreparedJob, done: LabellingResult) -> Iterator[str]:
    """What came of it."""
    summary: Any = done.summary  # Any: nested JSON of known shape
    articles, cost = summary["articles"], summary["cost_usd"]
    yield f"{summary['filter']}: {summary['state']}{f', {done.stop}' if done.stop else ''}"
    yield f"articles  {articles['labelled']} labelled, {articles['dead']} dead letters, {articles['open']} not answered"
    for reason, count in articles["dead_by_reason"].items():
        yield f"          {count} {reason}"
    yield f"          {_passed_over(prepared)}"
    unsure = (f", and about ${cost['unsure_likely']:.4f}, at most ${cost['unsure']:.4f}, for calls without a known end"
              if cost["unsure"] else "")  # fmt: skip
    now, budget = cost["paid_now"], cost["budget"]
    yield f"cost      ${cost['paid']:.4f}, ${now:.4f} of it now{unsure}, of a budget of ${budget:g}"
    if summary["labels"]:
        tiers = ", ".join(f"{count} {name}" for name, count in summary["labels"]["tiers"].items())
        yield f"tiers     {tiers}"
    if summary["oracle_noise"]:
        noise = summary["oracle_noise"]
        yield f"noise     {noise['mae']:.3f} between two answers to the same article, {noise['articles']} articles"
    written = [prepared.job.out] if done.has_labels else []
    yield f"files     {', '.join(map(str, [*written, prepared.job.dead, prepared.job.summary]))}"


def _next_steps(dead_by_reason: Mapping[str, int], temperature: float | None, command: Sequence[str]) -> Iterator[str]:
    """Gives the commands to choose from after a failed canary.

    Args:
        dead_by_reason: the dead letters, by reason.
        temperature: of the questions.
        command: the command that failed.
    """
    dead = sum(dead_by_reason.values())
    again = shlex.join(word for word in command if word != RETRY_DEAD)
    if dead and temperature == 0:
        yield ("note      the same question to the same model at temperature 0 gets the same reply: "
               f"{RETRY_DEAD} repeats the failure unless the server was changed")  # fmt: skip
    elif dead:
        yield f"next      ask about the {dead} dead letters once more: {again} {RETRY_DEAD}"
    if "cut short" in dead_by_reason:
        yield f"next      give replies more room and ask about all articles again: {again} --max-output-tokens N"
    kept = f"keep the {dead} dead letters and go on" if dead else "accept these replies and go on"
    yield f"next      {kept} without a canary: {again} --canary 0"


def _passed_over(prepared: PreparedJob) -> str:
    reasons = prepared.articles.passed_over
    return "passed over: " + (", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none")


def _agreement_lines(report: Any) -> Iterator[str]:  # Any: nested JSON of known shape
    """How far two oracles agree, a line for each dimension."""
    first, second = report["oracles"]
    yield f"{first} against {second}: {report['articles']} articles in both"
    yield f"mean absolute difference over all dimensions {_interval(report['mae'])}"
    for name, part in (report["dimensions"] | {"overall": report["overall"]}).items():
        yield f"  {name}"
        yield "    " + ", ".join(f"{measure} {_interval(part[measure])}" for measure in part)
    tiers = report["tiers"]
    yield f"same tier: {tiers['same']} of {report['articles']} articles"
    yield (f"at the operating tier: found by both {tiers['found_by_both']}, by the first only "
           f"{tiers['found_by_first_only']}, by the second only {tiers['found_by_second_only']}")  # fmt: skip
    for oracle, noise in zip(report["oracles"], report["noise"], strict=True):
        if noise is not None:
            yield f"{oracle} against itself: {noise['mae']:.3f}, {noise['articles']} articles"


def _interval(found: Any) -> str:  # Any: as above
    if found["value"] is None:
        return "not defined"
    return with_interval(found["value"], found["interval"])


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


def _temperature(text: str) -> float | None:
    return None if text == AUTO else amount(text)


def _thinking(text: str) -> int | str:
    return text if text == AUTO else non_negative(text)
