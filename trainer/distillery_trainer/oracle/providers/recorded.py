"""An oracle that replays a labels file: no network, no cost, for tests and for trying things out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import LabelledArticle, read_labels
from distillery_trainer.filters.reply import lowest_caps
from distillery_trainer.oracle.protocol import Call, RefusedError, Reply, Usage

NOTHING = Usage(0, 0)


class RecordedOracle:
    """Answers with the labels that a file has for an article of the same id and text.

    Args:
        files: labels files of the filter.
        spec: the filter.
        key_of: the key of the question about a recorded article and which of its repeats.

    Raises:
        InputError: a file is no labels file of this filter.
    """

    def __init__(self, files: Sequence[Path], spec: FilterSpec, key_of: Callable[[LabelledArticle, int], str]) -> None:
        self._articles = {article.id: article for article in read_labels(files, spec).articles}
        self._spec = spec
        self._key_of = key_of

    async def ask(self, call: Call) -> Reply:
        """The recorded labels, or one of the recorded repeats, as a reply."""
        article = self._articles.get(call.article_id)
        if article is None:
            raise RefusedError("not recorded", "no article of this id in the recorded labels")
        if self._key_of(article, call.repeat) != call.key:
            raise RefusedError("not recorded", "the recorded article of this id has another text")
        scores = dict(zip(self._spec.dimension_names, _answer(article, call.repeat), strict=True))
        flags = {name: name in article.flags and self._obeys(scores, name) for name in self._spec.flag_names}
        return Reply(json.dumps(flags | scores), NOTHING, article.oracle or "not stated")

    def _obeys(self, scores: Mapping[str, float], flag: str) -> bool:
        """Whether an answer can have raised a flag: one of several answers to an article may not have."""
        caps = lowest_caps([flag], self._spec)
        return all(score <= caps[name] for name, score in scores.items())

    async def close(self) -> None:
        """Has nothing to close."""


def _answer(article: LabelledArticle, repeat: int) -> tuple[float, ...]:
    return article.repeats[repeat % len(article.repeats)] if article.repeats else article.labels
