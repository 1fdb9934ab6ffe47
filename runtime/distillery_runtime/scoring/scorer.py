"""The scorer of one bundle: an article, a list or a stream in, a result for each out."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.cascade import CascadeRunner
from distillery_runtime.scoring.engine import Engine
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.timings import Timings
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.selection import Selection


class HybridScorer:
    """Scores articles for one filter by the models of one bundle. Safe to share between threads; make it by `load`.

    An article is a mapping with `id`, `title` and `text`, or an `Article`. One that cannot be scored becomes a result
    with status `invalid` and a reason; it never stops the others.

    `bundle` is `<filter>-<version>@<first 12 hex digits of the bundle id>`, as results carry it. `selection` is its
    operating point; None selects by the tier.
    """

    def __init__(
        self, spec: FilterSpec, stages: Sequence[Stage], bundle: str, selection: Selection | None = None
    ) -> None:
        self.spec = spec
        self.stages = tuple(stages)
        self.bundle = bundle
        self.selection = selection
        self._engine = Engine([self.cascade])

    @property
    def cascade(self) -> CascadeRunner:
        """What it decides for itself, to run alone or beside others."""
        selects_from = None if self.selection is None else self.selection.chance
        return CascadeRunner(self.spec, self.stages, self.bundle, selects_from)

    def score(self, article: object, *, timings: Timings | None = None) -> Score:
        """Scores one article. See `score_batch`."""
        return self.score_batch([article], timings=timings)[0]

    def score_batch(self, articles: Iterable[object], *, timings: Timings | None = None) -> list[Score]:
        """Scores articles and gives a result for each, in order. Holds all of them at once.

        Args:
            articles: as many as fit into memory.
            timings: adds up the time of each step there.

        Raises:
            ModelError: a model gave values that are no scores; nothing plausible is made of them.
        """
        return self._engine.score(articles, timings)[0]

    def score_stream(
        self, articles: Iterable[object], *, timings: Timings | None = None
    ) -> Generator[Score, None, None]:
        """Scores any number of articles and gives a result for each, in order, in bounded memory.

        Articles are taken in chunks, in the caller's thread and only as results are asked for; cleaning, tokenising and
        each stage's model work on different chunks at the same time, in threads that end with the iterator. What the
        articles raise, or a step, comes after the results of the chunks before it.

        Args:
            articles: any number; `read_jsonl` of a file gives them too, with a `BadLine` where a line is none.
            timings: adds up the time of each step there. Steps overlap, so their sum may exceed the time passed.

        Raises:
            ModelError: as in `score_batch`.
        """
        with closing(self._engine.stream(articles, timings)) as chunks:
            for results in chunks:
                yield from results[0]
