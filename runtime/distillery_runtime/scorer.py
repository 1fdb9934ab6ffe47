"""The cascade: validate, prefilter, then stage by stage until an article is decided."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distillery_runtime.article import Article, ArticleError, id_of, parse_article
from distillery_runtime.prefilter import Prefilter
from distillery_runtime.result import Score
from distillery_runtime.spec import FilterSpec
from distillery_runtime.stage import Stage
from distillery_runtime.text import compose
from distillery_runtime.verdict import decide, round_scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """An article on its way through the stages: its place in the batch, its text, and a shadow rule's note."""

    place: int
    id: str
    text: str
    note: str | None


class HybridScorer:
    """Scores articles for one filter by the models of one bundle. Safe to share between threads; make it by `load`.

    `bundle` is `<filter>-<version>@<first 12 hex digits of the bundle id>`, as results carry it.
    """

    def __init__(self, spec: FilterSpec, stages: Sequence[Stage], bundle: str) -> None:
        self.spec = spec
        self.stages = tuple(stages)
        self.bundle = bundle
        self._prefilter = Prefilter(spec)

    def score(self, article: object) -> Score:
        """Scores one article: a mapping with `id`, `title` and `text`, or an `Article`. See `score_batch`."""
        return self.score_batch([article])[0]

    def score_batch(self, articles: Iterable[object]) -> list[Score]:
        """Scores articles and gives a result for each, in order.

        An article that cannot be scored becomes a result with status `invalid` and a reason; it never stops the others.

        Raises:
            ModelError: a model gave values that are no scores; nothing plausible is made of them.
        """
        results: list[Score | None] = []
        pending: list[_Pending] = []
        for place, record in enumerate(articles):
            outcome = self._admit(place, record)
            results.append(outcome if isinstance(outcome, Score) else None)
            if isinstance(outcome, _Pending):
                pending.append(outcome)
        for index, stage in enumerate(self.stages):
            last = index == len(self.stages) - 1
            pending = self._run_stage(stage, pending, results, last) if pending else pending
        return [result for result in results if result is not None]

    def _admit(self, place: int, record: object) -> Score | _Pending:
        try:
            article: Article = parse_article(record)
        except ArticleError as error:
            return Score(id_of(record), "invalid", self.bundle, reason=str(error))
        text = compose(article, self.spec.text)
        if not text.joined:
            return Score(article.id, "invalid", self.bundle, reason="text: nothing left after cleaning")
        found = self._prefilter.check(text)
        if found.blocked_by is not None:
            return Score(article.id, "blocked", self.bundle, reason=f"prefilter rule {found.blocked_by}")
        note = f"shadow rule {', '.join(found.shadows)} would block" if found.shadows else None
        return _Pending(place, article.id, text.joined, note)

    def _run_stage(
        self, stage: Stage, pending: Sequence[_Pending], results: list[Score | None], last: bool
    ) -> list[_Pending]:
        """Decides what this stage may decide, writes it into `results`, and gives the articles that go on."""
        rows = stage.window.encode([item.text for item in pending])
        scores = round_scores(stage.run(rows).scores)
        onward = []
        for item, row, values in zip(pending, rows, scores, strict=True):
            verdict = decide(values, self.spec)
            if not last and (stage.threshold is None or verdict.overall >= stage.threshold):
                onward.append(item)
                continue
            results[item.place] = Score(
                id=item.id,
                status="scored",
                bundle=self.bundle,
                stage=stage.name,
                scores=dict(zip(self.spec.dimension_names, values.tolist(), strict=True)),
                overall=verdict.overall,
                tier=verdict.tier,
                gatekeeper=verdict.gatekeeper,
                reason=item.note,
                tokens=len(row.ids),
                truncated=row.truncated,
            )
        logger.debug("stage done", extra={"stage": stage.name, "articles": len(pending), "onward": len(onward)})
        return onward
