"""Articles without labels, read from files that nobody has checked: what cannot be read is counted and passed over."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, file_problem, read_again
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec, TextPolicy
from distillery_trainer.data.duplicates import near_duplicate_groups


@dataclass(frozen=True, slots=True)
class Pool:
    """The articles' ids and cleaned texts, equally many; `unusable`: lines that hold no article with a text."""

    ids: tuple[str, ...]
    cleaned: tuple[ArticleText, ...]
    unusable: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The composed texts that models read."""
        return tuple(text.joined for text in self.cleaned)


def read_pool(files: Sequence[Path], policy: TextPolicy) -> Pool:
    """Reads JSON lines with `id`, `title` and `text`.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no usable article in any.
    """
    if missing := [problem for file in files if (problem := file_problem(file))]:
        raise InputError("articles", missing)
    ids, cleaned, unusable = [], [], 0
    for file in files:
        for line in read_again(file):
            found = None if isinstance(line, BadLine) else _read(line, policy)
            if found is None:
                unusable += 1
            else:
                ids.append(found[0])
                cleaned.append(found[1])
    if not cleaned:
        problem = Problem(", ".join(map(str, files)), f"no usable article, {unusable} other lines", "at least one")
        raise InputError("articles", [problem])
    return Pool(tuple(ids), tuple(cleaned), unusable)


def admitted(pool: Pool, spec: FilterSpec) -> list[str]:
    """The texts of the articles that the filter's rules let through: a cascade sees no others."""
    prefilter = Prefilter(spec)
    return [text.joined for text in pool.cleaned if prefilter.check(text).blocked_by is None]


def new_texts(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The texts that are no near-duplicates of a known one, nor of one another."""
    every = [*known, *texts]
    groups = near_duplicate_groups([str(i) for i in range(len(every))], every)
    taken, kept = set(groups[: len(known)]), []
    for text, group in zip(texts, groups[len(known) :], strict=True):
        if group not in taken:
            taken.add(group)
            kept.append(text)
    return kept


def unlike(texts: Sequence[str], known: Sequence[str]) -> list[int]:
    """The places of the texts that are no near-duplicates of a known one."""
    every = [*known, *texts]
    groups = near_duplicate_groups([str(i) for i in range(len(every))], every)
    taken = set(groups[: len(known)])
    return [place for place, group in enumerate(groups[len(known) :]) if group not in taken]


def _read(record: object, policy: TextPolicy) -> tuple[str, ArticleText] | None:
    try:
        article = parse_article(record)
    except ArticleError:
        return None
    text = compose(article, policy)
    return (article.id, text) if text.joined else None
