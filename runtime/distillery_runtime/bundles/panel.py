"""A panel: several filters score the same articles, and what they have in common is done once."""

import itertools
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from distillery_runtime.bundles.find import starter_bundles
from distillery_runtime.bundles.load import load
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.models.session import Provider
from distillery_runtime.models.shared import Shared
from distillery_runtime.scoring.engine import Engine
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.scoring.timings import Timings


class Panel:
    """Scores articles for several filters. Safe to share between threads; make it by `load_panel`.

    Each article is read once, cleaned once for each text policy, tokenised once for each token window and passed once
    through each encoder, as far as the filters' bundles have these in common byte for byte. The rest (rules, heads,
    thresholds, verdicts) is each filter's own: a result is what the filter's own scorer gives, within what the same
    scorer's results differ by between one batch and another.

    `scorers` are the filters' own, in the order of their results.

    Raises:
        InputError: there is no scorer.
    """

    def __init__(self, scorers: Sequence[HybridScorer]) -> None:
        if not scorers:
            raise InputError("panel", [Problem("scorers", "none", "at least one")])
        self.scorers = tuple(scorers)
        self._engine = Engine([scorer.cascade for scorer in scorers])

    @property
    def chunk_articles(self) -> int:
        """The largest number of articles that a stream scores together."""
        return self._engine.chunk_articles

    def score(self, article: object, *, timings: Timings | None = None) -> tuple[Score, ...]:
        """Scores one article; gives a result for each filter. See `score_batch`."""
        return self.score_batch([article], timings=timings)[0]

    def score_batch(self, articles: Iterable[object], *, timings: Timings | None = None) -> list[tuple[Score, ...]]:
        """Gives for each article, in order, a result for each filter. Otherwise as `HybridScorer.score_batch`."""
        return list(zip(*self._engine.score(articles, timings), strict=True))

    def score_stream(
        self, articles: Iterable[object], *, timings: Timings | None = None
    ) -> Generator[tuple[Score, ...], None, None]:
        """Gives for each article, in order, a result for each filter. Otherwise as `HybridScorer.score_stream`."""
        with closing(self._engine.stream(articles, timings)) as chunks:
            for results in chunks:
                yield from zip(*results, strict=True)


def load_panel(
    paths: Sequence[str | Path] | None = None,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    variant: str | None = None,
    expected_ids: Sequence[str] | None = None,
    select: str | None = None,
) -> Panel:
    """Opens several bundles for scoring together; what is equal in them is opened once.

    Args:
        paths: the bundles' folders, in the order in which results are wanted; None opens all of the starter's.
        provider: as in `load`.
        threads: as in `load`.
        variant: as in `load`, for every bundle.
        expected_ids: the ids that the bundles must have, in the order of the paths; None expects none.
        select: as in `load`, for every bundle.

    Raises:
        InputError: there is no path, or not one id for each, the starter is wanted and not installed, or a bundle's
            curve has no such operating point.
        BundleError: as in `load`, for any of the bundles.
        ProviderError: as in `load`.
    """
    paths = starter_bundles() if paths is None else paths
    if not paths:
        raise InputError("panel", [Problem("bundles", "none", "at least one, or the extra [starter]")])
    if expected_ids is not None and len(expected_ids) != len(paths):
        found = f"{len(expected_ids)} for {len(paths)} bundles"
        raise InputError("panel", [Problem("expected ids", found, "one for each bundle, in their order")])
    shared, ids = Shared(), expected_ids or itertools.repeat(None, len(paths))
    return Panel(
        [
            load(
                path,
                provider=provider,
                threads=threads,
                variant=variant,
                expected_id=expected,
                select=select,
                shared=shared,
            )
            for path, expected in zip(paths, ids, strict=True)
        ]
    )
