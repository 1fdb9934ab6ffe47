"""Articles in JSON Lines files that nobody has checked: each line gives an article, or the reason why it is none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, file_problem, read_again
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec, TextPolicy
from distillery_trainer.store.files import is_writable

Record = Mapping[str, object]
Fault = Literal["no object", "no article", "not writable", "no text", "too long", "repeated id"]


@dataclass(frozen=True, slots=True)
class ReceivedArticle:
    """An article with its cleaned text, its record as it stood in the file, and where it stood."""

    where: str
    record: Record
    id: str
    cleaned: ArticleText

    @property
    def text(self) -> str:
        """The composed text that models read."""
        return self.cleaned.joined


@dataclass(frozen=True, slots=True)
class UnusableLine:
    """A line that gives no article: where it stands, which fault it has, and the reason in words."""

    where: str
    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True)
class ReceivedSet:
    """Articles with their records in file order, each id once, and the lines that give none."""

    articles: tuple[ReceivedArticle, ...]
    unusable: tuple[UnusableLine, ...]

    @property
    def ids(self) -> list[str]:
        """The articles' ids."""
        return [article.id for article in self.articles]

    @property
    def texts(self) -> list[str]:
        """The articles' composed texts."""
        return [article.text for article in self.articles]


@dataclass(frozen=True, slots=True)
class Pool:
    """Articles without labels: ids, which may repeat, and cleaned texts, equally many; the records are let go.

    `unusable`: how many lines hold no article with a text.
    """

    ids: tuple[str, ...]
    cleaned: tuple[ArticleText, ...]
    unusable: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The composed texts that models read."""
        return tuple(text.joined for text in self.cleaned)


def read_lines(
    file: Path, policy: TextPolicy, is_rewritten: bool = False
) -> Iterator[tuple[Record, ReceivedArticle | UnusableLine]]:
    """Reads a file line by line: the JSON object, empty where there is none, and what it gives.

    Blank lines are passed over.

    Args:
        file: JSON lines with `id`, `title` and `text`.
        policy: how an article becomes one text.
        is_rewritten: whether records are written to another file; then one that JSON cannot hold is unusable.

    Raises:
        InputError: the file is missing or no JSON lines.
    """
    for number, line in enumerate(read_again(file), start=1):
        record = {} if isinstance(line, BadLine) else line
        yield record, _read_line(line, f"{file}: article {number}", policy, is_rewritten)


def read_pool(files: Sequence[Path], policy: TextPolicy) -> Pool:
    """Reads articles for their ids and texts alone.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no usable article in any.
    """
    check_files(files)
    ids, cleaned, unusable = [], [], 0
    for file in files:
        for _, line in read_lines(file, policy):
            if isinstance(line, ReceivedArticle):
                ids.append(line.id)
                cleaned.append(line.cleaned)
            else:
                unusable += 1
    if not cleaned:
        problem = Problem(", ".join(map(str, files)), f"no usable article, {unusable} other lines", "at least one")
        raise InputError("articles", [problem])
    return Pool(tuple(ids), tuple(cleaned), unusable)


def read_received(files: Sequence[Path], policy: TextPolicy) -> ReceivedSet:
    """Reads articles with their records, to write the records to another file.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no article in any.
    """
    received = collect_received(files, policy)
    if not received.articles:
        found = f"no usable article, {len(received.unusable)} other lines"
        raise InputError("articles", [Problem(", ".join(map(str, files)), found, "at least 1")])
    return received


def collect_received(
    files: Sequence[Path], policy: TextPolicy, where: str = "articles", max_characters: int | None = None
) -> ReceivedSet:
    """Reads as `read_received` does, and may find no article at all.

    Args:
        files: the files, in order.
        policy: how an article becomes one text.
        where: the place that an error of a missing file names.
        max_characters: of a text; a line with a longer one is unusable, and its id still free. None for no limit.

    Raises:
        InputError: a file is missing or no JSON lines.
    """
    check_files(files, where)
    articles: dict[str, ReceivedArticle] = {}
    unusable: list[UnusableLine] = []
    for file in files:
        for _, line in read_lines(file, policy, is_rewritten=True):
            if isinstance(line, UnusableLine):
                unusable.append(line)
            elif max_characters is not None and len(line.text) > max_characters:
                unusable.append(UnusableLine(line.where, "too long", f"longer than {max_characters} characters"))
            elif line.id in articles:
                reason = f"id: {line.id!r} stands in an earlier line"
                unusable.append(UnusableLine(line.where, "repeated id", reason))
            else:
                articles[line.id] = line
    return ReceivedSet(tuple(articles.values()), tuple(unusable))


def check_files(files: Sequence[Path], where: str = "articles") -> None:
    """Checks that all files are there, before the first is read.

    Raises:
        InputError: one is missing, a folder, or a pipe.
    """
    if missing := [problem for file in files if (problem := file_problem(file))]:
        raise InputError(where, missing)


def admitted(pool: Pool, spec: FilterSpec) -> list[str]:
    """The texts of the articles that the filter's rules let through: a cascade sees no others."""
    prefilter = Prefilter(spec)
    return [text.joined for text in pool.cleaned if prefilter.check(text).blocked_by is None]


def _read_line(
    line: Record | BadLine, where: str, policy: TextPolicy, is_rewritten: bool
) -> ReceivedArticle | UnusableLine:
    if isinstance(line, BadLine):
        return UnusableLine(where, "no object", line.reason)
    try:
        article = parse_article(line)
    except ArticleError as error:
        return UnusableLine(where, "no article", str(error))
    if is_rewritten and not is_writable(line):
        return UnusableLine(where, "not writable", "a field that JSON cannot hold")
    text = compose(article, policy)
    if not text.joined:
        return UnusableLine(where, "no text", "text: nothing left after cleaning")
    return ReceivedArticle(where, line, article.id, text)
