"""What one filter decides for itself: who is admitted, who is answered by which stage, and what the result says.

A stage that cannot answer (its threshold was not certified) is not run, and none answers a text that it cannot read:
that goes on to the next stage, and the last one refuses it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText
from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.result import Score
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import DECIMALS, VerdictRules, round_scores
from distillery_runtime.tokens.window import TokenIds


class Waiting(NamedTuple):
    """An article that waits for a stage: its place in the batch, its id, and a shadow rule's note."""

    place: int
    id: str
    note: str | None


def running(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Those of a bundle's stages that are run: the last one, and those before it that can answer."""
    return (*(stage for stage in stages[:-1] if stage.routing.answers), stages[-1])


class CascadeRunner:
    """One filter as it runs: its spec, its stages that answer, cheapest first, and its bundle's name in results.

    `selects_from`: the chance from which it selects articles, None where it selects by the tier.
    """

    def __init__(
        self, spec: FilterSpec, stages: Sequence[Stage], bundle: str, selects_from: float | None = None
    ) -> None:
        self.spec = spec
        self.stages = running(stages)
        self.bundle = bundle
        self._prefilter = Prefilter(spec)
        self.selects_from = selects_from
        self._selects_from = math.inf if selects_from is None else selects_from
        self._rules = VerdictRules(spec)
        self._names = spec.dimension_names

    def refuse(self, article_id: str | None, reason: str) -> Score:
        """The result of what is no article."""
        return Score(article_id, "invalid", self.bundle, reason=reason)

    def admit(self, place: int, article: Article, text: ArticleText) -> Score | Waiting:
        """Gives an article to the first stage, or a result at once where no model needs to see it."""
        if not text.joined:
            return self.refuse(article.id, "text: nothing left after cleaning")
        found = self._prefilter.check(text)
        if found.blocked_by is not None:
            return Score(article.id, "blocked", self.bundle, reason=f"prefilter rule {found.blocked_by}")
        note = f"shadow rule {', '.join(found.shadows)} would block" if found.shadows else None
        return Waiting(place, article.id, note)

    def pass_over(self, depth: int, item: Waiting, row: TokenIds) -> Score | None:
        """Gives the result of an article that the stage at `depth` cannot read, or None when it goes on to the next."""
        if depth < len(self.stages) - 1:
            return None
        limit = self.spec.text.max_unknown_share
        found = f"{row.unread:.0%} of the characters are not in its vocabulary, at most {limit:.0%} may be"
        if limit == 1:
            found = "none of its characters is in its vocabulary"
        why = found if math.isfinite(row.unread) else "its tokenizer fails on it"
        return self.refuse(item.id, f"text: the {self.stages[depth].name} cannot read it ({why})")

    def decide(
        self, depth: int, waiting: Sequence[Waiting], rows: Mapping[int, TokenIds], values: NDArray[np.float32]
    ) -> Iterator[Score | None]:
        """Gives for each article the result that the stage at `depth` decides, or None when it goes on to the next.

        Args:
            depth: which stage answered, 0 for the first.
            waiting: the N articles, each of which it can read.
            rows: what the stage read, by place.
            values: (N, 2 D) or (N, 2 D + 1) float32, what it answered, as `StageOutput.rows`.

        Raises:
            ModelError: a score is not finite or outside [0, 10].
        """
        stage, count = self.stages[depth], len(self._names)
        is_last, operating = depth == len(self.stages) - 1, self.spec.operating_overall
        scores, expected = (round_scores(part).tolist() for part in (values[:, :count], values[:, count : 2 * count]))
        by_tier = self.selects_from is None
        finds = np.asarray(values[:, 2 * count :], np.float64).round(DECIMALS).tolist()
        for item, own, means, find in zip(waiting, scores, expected, finds, strict=True):
            verdict = self._rules.decide(own)
            chance = stage.chance([*means, *find])
            if not is_last and stage.routing.hands_on(chance, verdict.overall, operating, self._selects_from):
                yield None
                continue
            row = rows[item.place]
            yield Score(
                id=item.id,
                status="scored",
                bundle=self.bundle,
                stage=stage.name,
                scores=dict(zip(self._names, own, strict=True)),
                overall=verdict.overall,
                tier=verdict.tier,
                gatekeeper=verdict.gatekeeper,
                reason=item.note,
                tokens=len(row.ids),
                truncated=row.truncated,
                selected=verdict.overall >= operating if by_tier else chance >= self._selects_from,
                chance=chance if stage.knows_chance else None,
                selected_from=self.selects_from,
                expected=dict(zip(self._names, means, strict=True)),
                expected_overall=self._rules.weighted_mean(means),
            )
