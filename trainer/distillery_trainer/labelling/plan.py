"""The plan: which questions there are, and what the ones without an answer will cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distillery_trainer.data.articles import ReceivedArticle
from distillery_trainer.labelling.asking import Asking
from distillery_trainer.labelling.budget import Terms
from distillery_trainer.labelling.estimate import likely
from distillery_trainer.labelling.ledger import CostRatio
from distillery_trainer.labelling.standing import Standing
from distillery_trainer.oracle.protocol import Call

SHARE_DIGITS = 8
FEWEST_REPLIES = 10  # that tell more of what calls cost than their length does


@dataclass(frozen=True, slots=True)
class Plan:
    """The questions that are asked by key, in file order, and by article's id the keys of its answers.

    Under a limit `keys` still has every article: what was answered before counts, and the rest is open.
    """

    requests: Mapping[str, Call]
    keys: Mapping[str, tuple[str, ...]]

    def open(self, standings: Mapping[str, Standing], again_up_to: int = 0) -> list[Call]:
        """The questions that still want an answer.

        Args:
            standings: what came of those that were asked.
            again_up_to: dead ones whose last call has this number or a lower one are asked again; 0 for none.
        """
        return [
            request
            for key, request in self.requests.items()
            if (standing := standings.get(key)) is None
            or standing.state == "open"
            or (standing.state == "dead" and standing.last.call <= again_up_to)
        ]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What questions will use and cost: `likely_usd`, and `most_usd` that no call can go beyond.

    `replies`: from how many replies of the same asking the likely cost was learned, 0 where it is by length.
    """

    questions: int
    input_tokens: int
    likely_usd: float
    most_usd: float
    replies: int = 0


def make_plan(
    asking: Asking,
    articles: Sequence[ReceivedArticle],
    repeats: int = 1,
    repeat_share: float = 0.0,
    limit: int | None = None,
) -> Plan:
    """The questions about some articles; the same text is asked about once, whatever ids it has.

    Args:
        asking: how they are asked.
        articles: the articles.
        repeats: how often the articles of the repeated share are asked about.
        repeat_share: of the texts; chosen by digest, so that a larger file leaves the choice as it was.
        limit: only the first so many articles are asked about; None for all.
    """
    requests: dict[str, Call] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for place, article in enumerate(articles):
        first = asking.request(article.id, article.text)
        again = repeats - 1 if _place(first.key) < repeat_share else 0
        asked = [first, *(asking.request(article.id, article.text, repeat) for repeat in range(1, again + 1))]
        keys[article.id] = tuple(request.key for request in asked)
        for request in asked if limit is None or place < limit else ():
            requests.setdefault(request.key, request)
    return Plan(requests, keys)


def estimate(requests: Sequence[Call], terms: Terms, answers: int, ratio: CostRatio) -> Estimate:
    """What some questions will use and cost, before they are asked.

    Args:
        requests: the questions.
        terms: what calls cost.
        answers: how many a reply holds, for its length.
        ratio: what replies of this asking have cost until now.
    """
    probable = [likely(request, answers) for request in requests]
    most_usd = sum(terms.most_usd(request) for request in requests)
    is_learned = ratio.replies >= FEWEST_REPLIES
    return Estimate(
        len(requests),
        sum(usage.input_tokens for usage in probable),
        ratio.likely_usd(most_usd) if is_learned else sum(terms.cost_usd(usage) for usage in probable),
        most_usd,
        ratio.replies if is_learned else 0,
    )


def _place(key: str) -> float:
    """A number in [0, 1) that a key has for ever."""
    return int(key[:SHARE_DIGITS], 16) / float(1 << (4 * SHARE_DIGITS))
