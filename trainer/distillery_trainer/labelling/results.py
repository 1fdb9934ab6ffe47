"""From what the ledger says to what is written: labels files that `trainer fit` reads, and the dead letters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.articles import ReceivedArticle
from distillery_trainer.filters.reply import applied
from distillery_trainer.labelling.plan import Plan
from distillery_trainer.labelling.standing import Standing

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


def collect(
    articles: Sequence[ReceivedArticle],
    plan: Plan,
    standings: Mapping[str, Standing],
    spec: FilterSpec,
    oracle: str | None,
    is_whole: bool,
) -> Results:
    """What came of each article.

    Args:
        articles: those that were to be labelled.
        plan: their questions.
        standings: what came of those.
        spec: the filter.
        oracle: the name that labels carry; None for the one that each reply names.
        is_whole: whether the run came to its end; then an article that got no answer is a dead letter too.
    """
    paid: set[str] = set()
    labels, dead, still_open = [], [], []
    for article in articles:
        found = [standings[key] for key in plan.keys[article.id] if key in standings]
        cost = sum(standing.cost_usd for standing in found if standing.last.key not in paid)
        paid |= {standing.last.key for standing in found}
        valid = [standing for standing in found if standing.state == "labelled"]
        if valid:
            labels.append(_label(article, valid, spec, oracle, cost))
        elif found and (found[0].state == "dead" or is_whole):
            dead.append(_dead_letter(article, found[0], cost))
        else:
            still_open.append(article.id)
    return Results(tuple(labels), tuple(dead), tuple(still_open))


def _label(
    article: ReceivedArticle, valid: Sequence[Standing], spec: FilterSpec, oracle: str | None, cost: float
) -> Row:
    """The article's own record with its labels: the mean of the valid answers, each with the flags' caps applied."""
    parsed = [standing.parsed for standing in valid if standing.parsed is not None]
    answers = [applied(reply, spec) for reply in parsed]
    means = [round(sum(column) / len(answers), SCORE_DECIMALS) for column in zip(*answers, strict=True)]
    flags = sorted({flag for reply in parsed for flag in reply.flags})
    row = {name: value for name, value in article.record.items() if name not in OURS}
    row |= {"labels": _named(means, spec), "oracle": oracle or valid[0].last.outcome.model}
    if len(answers) > 1:
        row["repeats"] = [_named(answer, spec) for answer in answers]
    if flags:
        row["flags"] = flags
    return row | {"cost_usd": round(cost, COST_DECIMALS)}


def _dead_letter(article: ReceivedArticle, standing: Standing, cost: float) -> Row:
    outcome = standing.last.outcome
    return {
        "id": article.id,
        "reason": standing.reason,
        "detail": standing.detail,
        "raw": outcome.raw,
        "calls": standing.calls,
        "cost_usd": round(cost, COST_DECIMALS),
        "key": standing.last.key,
    }


def _named(scores: Sequence[float], spec: FilterSpec) -> dict[str, float]:
    return dict(zip(spec.dimension_names, scores, strict=True))


def repeats_of(rows: Sequence[Row], spec: FilterSpec) -> Iterator[list[list[float]]]:
    """The several answers of each labelled article that has them: n of D scores."""
    for row in rows:
        repeats = row.get("repeats")
        if isinstance(repeats, list):
            yield [[answer[name] for name in spec.dimension_names] for answer in repeats]
