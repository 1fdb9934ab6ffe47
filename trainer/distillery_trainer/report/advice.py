"""The answer in words: whether to deploy, what it costs, what it misses.

The rules are few and stated on the page. They read the evaluation only, so that the same run gets the same answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.certify.certificate import statements
from distillery_trainer.evaluate.evaluation import CascadeUse, Evaluation, PrefilterUse, SystemFigures, Systems
from distillery_trainer.evaluate.metrics import Decisions, Interval
from distillery_trainer.evaluate.parts import TOTAL
from distillery_trainer.report.facts import Facts, in_words, percent

MIN_RECALL = 0.5
MIN_POSITIVES = 30
RULES = (
    "How this answer is made: “No” where the cascade's error is not below that of counting words, or where it finds "
    f"less than {percent(MIN_RECALL)} of the oracle's finds, or where a bundle refuses more than half of those as "
    "unreadable. “Not proved” where the interval of the two errors' "
    f"difference, article by article, holds 0, where fewer than {MIN_POSITIVES} finds were there to be found, where "
    f"the interval of what it finds begins below {percent(MIN_RECALL)}, or where the probe alone errs less than the "
    "student. Else “Yes”."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether to deploy, in a sentence, with the reasons against it."""

    words: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer, its reasons, and what deploying means."""

    answer: str
    reasons: tuple[str, ...]
    meaning: tuple[str, ...]


def advise(facts: Facts) -> Advice:
    """What the evaluation says to the one who decides."""
    found = answer(facts.evaluation, facts.spec.operating_tier)
    return Advice(found.words, found.reasons, tuple(_meaning(facts)))


def answer(evaluation: Evaluation, tier: str) -> Answer:
    """Whether to deploy what was evaluated, for the report and for the terminal; `tier`: the operating one."""
    total = evaluation.total
    against = [*_against(total, tier), *_unread(evaluation, is_too_much=True)]
    doubts = [*_luck(evaluation), *_doubts(total)]
    if against:
        words = "No: do not deploy it."
    elif doubts:
        words = "Not proved: try it beside what you have."
    else:
        words = "Yes: it can be deployed."
    return Answer(words, (*against, *doubts))


def _against(total: Systems, tier: str) -> Iterator[str]:
    ours, words = total.cascade, total.tfidf_ridge
    if ours.mae >= words.mae:
        yield f"Its error ({ours.mae:.2f}) is not below that of merely counting words ({words.mae:.2f})."
    found = ours.finds
    if found.recall is not None and found.recall < MIN_RECALL:
        yield (
            f"Of the {found.positives} articles that the oracle places at “{in_words(tier)}” or above, it finds "
            f"{hits(found)} ({percent(found.recall)})."
        )


def _unread(evaluation: Evaluation, is_too_much: bool) -> Iterator[str]:
    """The test articles that a bundle refuses as unreadable, where they are too many finds to deploy, or are not."""
    lost, ours = evaluation.unreadable, evaluation.total.cascade
    if lost is None or not lost.invalid:
        return
    found = ours.finds
    readable = 1 - lost.invalid_positive / found.positives if found.positives else 1.0
    if is_too_much == (readable < MIN_RECALL):
        yield (
            f"A bundle refuses {lost.invalid} of {ours.n} test articles as unreadable, "
            f"{lost.invalid_positive} of the oracle's finds among them; the figures here count them as scored."
        )


def _luck(evaluation: Evaluation) -> Iterator[str]:
    gain = evaluation.differences[TOTAL].cascade_minus_tfidf_ridge.mae
    interval = gain.interval
    if gain.difference is not None and gain.difference < 0 and (interval is None or interval[1] >= 0):
        between = f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        yield (
            f"Its error is {-gain.difference:.2f} lower than that of counting words{between}, article by article: "
            "it may be luck."
        )


def _doubts(total: Systems) -> Iterator[str]:
    if total.probe.mae < total.student.mae:
        yield (
            f"The probe alone errs less ({total.probe.mae:.2f}) than the student "
            f"({total.student.mae:.2f}): the student is not worth its cost."
        )
    found = total.cascade.finds
    if found.positives < MIN_POSITIVES:
        yield f"Only {found.positives} test articles are finds by the oracle, too few to know how many it finds."
    interval = recall_interval(total.cascade)
    recall = found.recall or 0.0
    if interval and recall >= MIN_RECALL > interval[0]:
        share, least = percent(recall), percent(interval[0])
        yield f"It finds {share} of the oracle's finds, but that may be as little as {least}."


def _meaning(facts: Facts) -> Iterator[str]:
    total, tier = facts.evaluation.total, facts.spec.operating_tier
    ours, words = total.cascade, total.tfidf_ridge
    interval = ours.intervals["mae"]
    between = f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    found = ours.finds
    yield (
        f"What it finds and misses: of {found.positives} articles that the oracle places at "
        f"“{in_words(tier)}” or above it finds {hits(found)} and misses {found.positives - hits(found)}. "
        f"{_announced(found)} {_selects(facts)}"
    )
    yield (
        f"How wrong: on the scale of 0 to 10 its scores lie {ours.mae:.2f} points from the oracle's on "
        f"average{between}; counting words reaches {words.mae:.2f}, the best constant answer "
        f"{total.constant.mae:.2f}."
    )
    yield from _unread(facts.evaluation, is_too_much=False)
    yield _cost(facts.evaluation.cascade)
    yield f"What is certified: {statements(facts.certificate)}"
    yield _prefilter(facts.evaluation.prefilter, ours.n)


def _selects(facts: Facts) -> str:
    """Which articles are selected."""
    chance = facts.selection.chance
    if chance is None:
        return f"Articles are selected that reach “{in_words(facts.spec.operating_tier)}”."
    return f"Articles are selected from a chance of {percent(chance, 1)} on."


def _announced(found: Decisions) -> str:
    if found.precision is None:
        return "It announces none at all."
    return f"It announces {found.predicted}, of which {percent(found.precision)} are right."


def _prefilter(counts: PrefilterUse, articles: int) -> str:
    if not counts.blocked:
        return f"Before any model: the prefilter's rules drop none of the {articles} test articles."
    return (
        f"Before any model: the prefilter's rules drop {counts.blocked} of the {articles} test articles, "
        f"{counts.blocked_positive} of which the oracle counts as finds."
    )


def _cost(cascade: CascadeUse) -> str:
    share = cascade.share_probe
    if not share:
        return "What it costs: every article needs the student, the slower of the two models; the probe saves nothing."
    return (
        f"What it costs: the probe, the fast model, answers {percent(share)} of the articles by itself; "
        f"{percent(1 - share)} need the student, the slower one. On the test articles the probe dropped "
        f"{cascade.missed.dropped} of the {cascade.missed.student_positives} that the student would have "
        "announced."
    )


def hits(found: Decisions) -> int:
    """How many of the positives were found."""
    return round((found.recall or 0) * found.positives)


def recall_interval(system: SystemFigures) -> Interval | None:
    """The 95 % interval of a system's recall of finds; None where no article is a positive."""
    found = system.finds
    return share_interval(hits(found), found.positives, system.intervals["recall"])
