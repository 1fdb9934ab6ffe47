"""Labelling from a prepared job to its files: whatever happens on the way, what was paid for is written."""

from dataclasses import dataclass

from distillery_trainer.files import write_json, write_jsonl
from distillery_trainer.labelling.asked import Asked
from distillery_trainer.labelling.driving import Say, Stop
from distillery_trainer.labelling.ledger import open_ledger
from distillery_trainer.labelling.plan import Estimate
from distillery_trainer.labelling.prepared import Prepared
from distillery_trainer.labelling.results import Results, collect
from distillery_trainer.labelling.summary import summarise
from distillery_trainer.oracle.services import RECORDED


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a command has brought: the summary as JSON, why it stopped early, if it did, and whether it wrote labels."""

    summary: dict[str, object]
    stop: Stop | None
    has_labels: bool


def remaining(prepared: Prepared) -> Estimate:
    """What is still to be asked and what it will cost; no key is needed and nothing is written."""
    history = []
    if prepared.job.ledger.is_file():
        with open_ledger(prepared.job.ledger) as ledger:
            history = list(ledger.history(prepared.asking.id))
            again_up_to = ledger.last_call() if prepared.job.questions.asks_dead_again else 0
    return prepared.estimate(prepared.plan.open(prepared.standings(history), again_up_to if history else 0))


def label(prepared: Prepared, say: Say) -> Labelled:
    """Asks what has no answer yet, and writes labels, dead letters and summary.

    Args:
        prepared: the job.
        say: hears what happens.

    Raises:
        InputError: the key is not there, or another process is at work with the ledger.
    """
    job = prepared.job
    with open_ledger(job.ledger) as ledger:
        ledger.describe(prepared.asking.id, prepared.asking.record)
        if lost := ledger.close_lost():
            say(f"{lost} calls of a process that was killed are counted at the most that they can have cost")
        before = ledger.spent()
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
