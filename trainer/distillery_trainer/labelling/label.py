"""Labelling from a prepared job to its files: whatever happens on the way, what was paid for is written."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.errors import Problem
from distillery_trainer.labelling.asked import Asked
from distillery_trainer.labelling.driving import Say, Stop
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.ledger import CostRatio, Ledger, open_ledger
from distillery_trainer.labelling.ledger_tables import LedgerError
from distillery_trainer.labelling.plan import Estimate
from distillery_trainer.labelling.prepared import Prepared
from distillery_trainer.labelling.results import Results, collect
from distillery_trainer.labelling.summary import summarise
from distillery_trainer.oracle.services import RECORDED
from distillery_trainer.store.files import write_json, write_jsonl

ROUNDING = 1e-5  # US dollars, of a summary's figures


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a command has brought: the summary as JSON, why it stopped early, if it did, and whether it wrote labels."""

    summary: dict[str, object]
    stop: Stop | None
    has_labels: bool


def remaining(prepared: Prepared) -> Estimate:
    """What is still to be asked and what it will cost; no key is needed and nothing is written.

    Raises:
        InputError: the ledger is damaged, or missing beside labels that it paid for.
    """
    if not _has_content(prepared.job.ledger):
        _check_beside(prepared.job, None)
        return prepared.estimate(prepared.plan.open({}), CostRatio(0, 0.0, 0.0))
    with open_ledger(prepared.job.ledger) as ledger:
        _check_beside(prepared.job, ledger)
        standings = prepared.standings(list(ledger.history(prepared.asking.id)))
        again_up_to = ledger.last_call() if prepared.job.questions.asks_dead_again else 0
        ratio = ledger.cost_ratio(prepared.asking.id, prepared.mode)
        return prepared.estimate(prepared.plan.open(standings, again_up_to), ratio)


def label(prepared: Prepared, say: Say) -> Labelled:
    """Asks what has no answer yet, and writes labels, dead letters and summary.

    Args:
        prepared: the job.
        say: callback for progress messages.

    Raises:
        InputError: the key is not there, another process is at work with the ledger, or the ledger is damaged, or
            missing beside labels that it paid for.
    """
    job = prepared.job
    if not _has_content(job.ledger):
        _check_beside(job, None)
    with open_ledger(job.ledger) as ledger:
        _check_beside(job, ledger)
        ledger.describe(prepared.asking.id, prepared.asking.record)
        lost, before = ledger.close_lost(), ledger.spent()
        if lost:
            say(f"{lost} calls were under way when an earlier command was killed, and are asked again")
            say(f"calls without a known end: about ${before.likely_usd:.4f}, ${before.unsure_usd:.4f} reserved")
        asked = Asked(prepared, ledger, say)
        asked.run()
        standings = prepared.standings(asked.history())
        oracle = None if job.access.service == RECORDED else job.access.model
        is_whole = asked.stop is None
        results = collect(prepared.articles.articles, prepared.plan, standings, prepared.spec, oracle, is_whole)
        summary = summarise(prepared, asked, results, before, ledger.spent())
    return Labelled(summary, asked.stop, _write(prepared, results, summary, asked.stop))


def _write(prepared: Prepared, results: Results, summary: dict[str, object], stop: Stop | None) -> bool:
    """Whether labels were written. Those that the canary did not vouch for are not; an older file is left as it is."""
    job = prepared.job
    has_labels = bool(results.labels) and not (stop and stop.reason == "canary")
    if has_labels:
        write_jsonl(job.out, results.labels)
    write_jsonl(job.dead, results.dead)
    write_json(job.summary, summary)
    return has_labels


def _check_beside(job: LabelJob, ledger: Ledger | None) -> None:
    """Refuses a ledger that knows less than what stands beside the labels: what they cost would be paid again.

    Raises:
        LedgerError: the summary names another ledger or more calls, or there are labels and no call.
    """
    if not job.may_begin_ledger and (problems := list(_missing_calls(job, ledger))):
        raise LedgerError(str(job.ledger), problems)


def _missing_calls(job: LabelJob, ledger: Ledger | None) -> Iterator[Problem]:
    """What a ledger (None: an empty or missing one) does not know of the files that were written with it."""
    expected = ("the ledger that they were made with: restore it or name it with --ledger; or name another --out; or "
                "give --new-ledger, which asks and pays for everything again")  # fmt: skip
    calls = ledger.last_call() if ledger else 0
    if not calls and (files := [str(file) for file in (job.out, job.dead) if _has_content(file)]):
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


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
