"""Article records as they were received, each with its cleaned text; what cannot be read is kept with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, file_problem, read_again
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.store.files import is_writable

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Received:
    """One article: its record as it stood in the file, its id and its cleaned text."""

    record: Record
    id: str
    cleaned: ArticleText

    @property
    def text(self) -> str:
        """The composed text that models read."""
        return self.cleaned.joined


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that holds no article: where it stands and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the files held: articles in file order, and the lines that are none."""

    articles: tuple[Received, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def ids(self) -> list[str]:
        """The articles' ids."""
        return [article.id for article in self.articles]

    @property
    def texts(self) -> list[str]:
        """The articles' composed texts."""
        return [article.text for article in self.articles]


def read_records(files: Sequence[Path], policy: TextPolicy) -> Receipt:
    """Reads JSON lines with `id`, `title` and `text`. An id that was seen before makes a line unreadable.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no article in any.
    """
    if missing := [problem for file in files if (problem := file_problem(file))]:
        raise InputError("articles", missing)
    articles: dict[str, Received] = {}
    unreadable: list[Unreadable] = []
    for file in files:
        for number, line in enumerate(read_again(file), start=1):
            found = _read(line, policy, articles)
            if isinstance(found, Received):
                articles[found.id] = found
            else:
                unreadable.append(Unreadable(f"{file}: article {number}", found))
    if not articles:
        problem = Problem(", ".join(map(str, files)), f"no usable article, {len(unreadable)} other lines", "at least 1")
        raise InputError("articles", [problem])
    return Receipt(tuple(articles.values()), tuple(unreadable))


def _read(line: Record | BadLine, policy: TextPolicy, known: Mapping[str, Received]) -> Received | str:
    if isinstance(line, BadLine):
        return line.reason
    try:
        article = parse_article(line)
    except ArticleError as error:
        return str(error)
    if not is_writable(line):
        return "a field that JSON cannot hold"
    text = compose(article, policy)
    if not text.joined:
        return "text: nothing left after cleaning"
    if article.id in known:
        return f"id: {article.id!r} stands in an earlier line"
    return Received(line, article.id, text)
