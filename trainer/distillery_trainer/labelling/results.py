"""Results of a labelling as files: labels that `trainer fit` reads, dead letters, and a summary."""

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from distillery_runtime.errors import Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import VerdictRules, round_scores
from distillery_runtime.version import __version__
from distillery_trainer.data.articles import ReceivedArticle
from distillery_trainer.evaluate.noise import noise_floor
from distillery_trainer.filters.reply import applied
from distillery_trainer.labelling.canary import CanaryResult
from distillery_trainer.labelling.database import LedgerError
from distillery_trainer.labelling.driver import Stop
from distillery_trainer.labelling.job import LabelJob, PreparedJob
from distillery_trainer.labelling.ledger import Ledger, PastCall, Spent
from distillery_trainer.labelling.state import QuestionState
from distillery_trainer.oracle.services import RECORDED
from distillery_trainer.store.files import digest, write_json, write_jsonl

SCHEMA_VERSION = 1  # of the summary
DECIMALS = 6  # of its US dollars
ROUNDING = 1e-5  # US dollars by which they may differ from the ledger's
COST_DECIMALS = 9
SCORE_DECIMALS = 4
OURS = ("labels", "oracle", "repeats", "flags", "cost_usd")  # of a record: replaced, or left out where we have none

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Results:
    """What is written: labels and dead letters as JSON lines, in file order. `open`: articles without an answer yet."""

    labels: tuple[Row, ...]
    dead: tuple[Row, ...]
    open: tuple[str, ...]


def collect(prepared: PreparedJob, states: Mapping[str, QuestionState], is_whole: bool) -> Results:
    """Sorts the articles into labelled, dead and open.

    Args:
        prepared: the job.
        states: of the questions that were asked.
        is_whole: whether the command came to its end; then an article that got no answer is a dead letter too.
    """
    paid: set[str] = set()
    labels, dead, still_open = [], [], []
    for article in prepared.articles.articles:
        found = [states[key] for key in prepared.plan.keys[article.id] if key in states]
        cost = sum(state.cost_usd for state in found if state.last.key not in paid)
        paid |= {state.last.key for state in found}
        valid = [state for state in found if state.status == "labelled"]
        if valid:
            labels.append(_label(article, valid, prepared, cost))
        elif found and (found[0].status == "dead" or is_whole):
            dead.append(_dead_letter(article, found[0], cost))
        else:
            still_open.append(article.id)
    return Results(tuple(labels), tuple(dead), tuple(still_open))


def summarise(
    prepared: PreparedJob,
    ledger: Ledger,
    results: Results,
    canary: CanaryResult | None,
    stop: Stop | None,
    before: Spent,
) -> dict[str, object]:
    """The summary as JSON.

    Args:
        prepared: the job.
        ledger: open, with all calls of this command.
        results: the articles by what came of them.
        canary: how it went, if there was one.
        stop: why the command stopped early, if it did.
        before: what the ledger had spent before this command.
    """
    repeats = list(repeats_of(results.labels, prepared.spec))
    return {
        "schema_version": SCHEMA_VERSION,
        "filter": prepared.spec.label,
        "state": "stopped" if stop else "complete",
        "stop": asdict(stop) if stop else None,
        "oracle": _oracle(prepared),
        "articles": _articles(prepared, results),
        "calls": _calls(list(ledger.history(prepared.asking.id))),
        "cost_usd": _cost(prepared, before, ledger.spent()),
        "ledger": {"id": ledger.id, "calls": ledger.last_call()},
        "canary": canary.to_record() if canary else None,
        "labels": _labels(results.labels, prepared.spec),
        "oracle_noise": asdict(noise) if (noise := noise_floor(repeats, prepared.spec.dimension_names)) else None,
        "distillery": __version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_files(prepared: PreparedJob, results: Results, summary: dict[str, object], stop: Stop | None) -> bool:
    """Writes the three files, and gives whether labels were written.

    They are not where the canary failed; an older file is left as it is.
    """
    job = prepared.job
    has_labels = bool(results.labels) and not (stop and stop.reason == "canary")
    if has_labels:
        write_jsonl(job.out, results.labels)
    write_jsonl(job.dead, results.dead)
    write_json(job.summary, summary)
    return has_labels


def check_ledger(job: LabelJob, ledger: Ledger | None) -> None:
    """Refuses a ledger that knows less than the files beside it: what they cost would be paid again.

    Args:
        job: names the files.
        ledger: open; None for an empty or missing one.

    Raises:
        LedgerError: the summary names another ledger or more calls, or there are labels and no call.
    """
    if not job.may_begin_ledger and (problems := list(_missing_calls(job, ledger))):
        raise LedgerError(str(job.ledger), problems)


def _label(article: ReceivedArticle, valid: Sequence[QuestionState], prepared: PreparedJob, cost: float) -> Row:
    """The article's own record with its labels: the mean of the valid answers, each with the flags' caps applied."""
    spec, access = prepared.spec, prepared.job.access
    oracle = valid[0].last.outcome.model if access.service == RECORDED else access.model
    parsed = [state.parsed for state in valid if state.parsed is not None]
    answers = [applied(reply, spec) for reply in parsed]
    means = [round(sum(column) / len(answers), SCORE_DECIMALS) for column in zip(*answers, strict=True)]
    flags = sorted({flag for reply in parsed for flag in reply.flags})
    row = {name: value for name, value in article.record.items() if name not in OURS}
    row |= {"labels": _named(means, spec), "oracle": oracle}
    if len(answers) > 1:
        row["repeats"] = [_named(answer, spec) for answer in answers]
    if flags:
        row["flags"] = flags
    return row | {"cost_usd": round(cost, COST_DECIMALS)}


def _dead_letter(article: ReceivedArticle, state: QuestionState, cost: float) -> Row:
    outcome = state.last.outcome
    return {
        "id": article.id,
        "reason": state.reason,
        "detail": state.detail,
        "raw": outcome.raw,
        "calls": state.calls,
        "cost_usd": round(cost, COST_DECIMALS),
        "key": state.last.key,
    }


def _named(scores: Sequence[float], spec: FilterSpec) -> dict[str, float]:
    return dict(zip(spec.dimension_names, scores, strict=True))


def repeats_of(rows: Sequence[Row], spec: FilterSpec) -> Iterator[list[list[float]]]:
    """The several answers of each labelled article that has them: n of D scores."""
    for row in rows:
        repeats = row.get("repeats")
        if isinstance(repeats, list):
            yield [[answer[name] for name in spec.dimension_names] for answer in repeats]


def _oracle(prepared: PreparedJob) -> dict[str, object]:
    access = prepared.job.access
    return {
        "service": access.service,
        "model": access.model,
        "mode": prepared.mode,
        "settings": asdict(access.settings),
        "asking": prepared.asking.id,
        "prompt_sha256": digest(prepared.asking.instruction),
        "schema_sha256": digest(prepared.asking.schema),
    }


def _articles(prepared: PreparedJob, results: Results) -> dict[str, object]:
    dead = Counter(str(row["reason"]) for row in results.dead)
    return {
        "usable": len(prepared.articles.articles),
        "labelled": len(results.labels),
        "dead": len(results.dead),
        "open": len(results.open),
        "dead_by_reason": dict(dead.most_common()),
        "passed_over": dict(prepared.articles.passed_over),
    }


def _calls(history: Sequence[PastCall]) -> dict[str, object]:
    """All calls of this asking, those of earlier commands included."""
    used = [past.outcome.usage for past in history if past.outcome.usage is not None]
    return {
        "by_outcome": dict(Counter(past.outcome.kind for past in history)),
        "failed_by_reason": dict(Counter(p.outcome.reason for p in history if p.outcome.kind == "failed")),
        "input_tokens": sum(usage.input_tokens for usage in used),
        "cached_tokens": sum(usage.cached_tokens for usage in used),
        "output_tokens": sum(usage.output_tokens for usage in used),
        "thinking_tokens": sum(usage.thinking_tokens for usage in used),
    }


def _cost(prepared: PreparedJob, before: Spent, after: Spent) -> dict[str, object]:
    """What the ledger has paid in all, and in this command; `unsure` is at most, `unsure_likely` what is probable."""
    return {
        "paid": round(after.known_usd, DECIMALS),
        "unsure": round(after.unsure_usd, DECIMALS),
        "unsure_likely": round(after.likely_usd, DECIMALS),
        "paid_now": round(after.known_usd - before.known_usd, DECIMALS),
        "budget": prepared.job.money.max_usd,
        "price": asdict(prepared.price),
    }


def _labels(rows: Sequence[Row], spec: FilterSpec) -> dict[str, object] | None:
    """Mean and spread of each dimension, and how many articles each tier and each flag has."""
    named = [row["labels"] for row in rows]
    scores = np.array([[labels[n] for n in spec.dimension_names] for labels in named if isinstance(labels, Mapping)])
    if not len(scores):
        return None
    rules = VerdictRules(spec)
    tiers = Counter(rules.decide(row).tier for row in round_scores(scores).tolist())
    flags = Counter(flag for row in rows if isinstance(raised := row.get("flags"), list) for flag in raised)
    columns = zip(spec.dimension_names, scores.mean(axis=0), scores.std(axis=0), strict=True)
    return {
        "dimensions": {n: {"mean": round(float(m), 3), "deviation": round(float(d), 3)} for n, m, d in columns},
        "tiers": {tier.name: tiers[tier.name] for tier in spec.tiers},
        "flags": {name: flags[name] for name in spec.flag_names},
    }


def _missing_calls(job: LabelJob, ledger: Ledger | None) -> Iterator[Problem]:
    """What a ledger lacks of the calls that the files beside it were written with."""
    expected = ("the ledger that they were made with: restore it or name it with --ledger; or name another --out; or "
                "give --new-ledger, which asks and pays for everything again")  # fmt: skip
    calls = ledger.last_call() if ledger else 0
    if not calls and (files := [str(file) for file in (job.out, job.dead) if has_content(file)]):
        yield Problem("(ledger)", f"no call, beside {' and '.join(files)}", expected)
    summary = _read_summary(job.summary)
    named, cost = (part if isinstance(part := summary.get(name), Mapping) else {} for name in ("ledger", "cost_usd"))
    paid = sum(float(cost[name]) for name in ("paid", "unsure") if isinstance(cost.get(name), int | float))
    if isinstance(named.get("calls"), int) and named["calls"]:
        if ledger is None or named.get("id") != ledger.id:
            found = f"of ledger {named.get('id')}, which is not {ledger.id if ledger else 'there'}"
            yield Problem(str(job.summary), found, expected)
        elif named["calls"] > calls:
            yield Problem(str(job.summary), f"{named['calls']} calls, of which the ledger knows {calls}", expected)
    elif paid > (ledger.spent().total_usd if ledger else 0.0) + ROUNDING:  # written before summaries named ledgers
        yield Problem(str(job.summary), f"${paid:.4f} spent, more than the ledger knows", expected)


def _read_summary(path: Path) -> Mapping[str, object]:
    """An earlier summary; nothing where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def has_content(path: Path) -> bool:
    """Whether a path is a file that is not empty."""
    return path.is_file() and path.stat().st_size > 0
