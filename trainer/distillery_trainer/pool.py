"""Articles without labels, read from files that nobody has checked: what cannot be read is counted and passed over."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.article import ArticleError, parse_article
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.jsonl import BadLine, read_jsonl
from distillery_runtime.spec import TextPolicy
from distillery_runtime.text import compose


@dataclass(frozen=True, slots=True)
class Pool:
    """The articles' ids and composed texts, equally many; `unusable`: lines that hold no article with a text."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    unusable: int


def read_pool(files: Sequence[Path], policy: TextPolicy) -> Pool:
    """Reads JSON lines with `id`, `title` and `text`.

    Raises:
        InputError: a file is missing, or there is no usable article in any.
    """
    missing = [file for file in files if not file.is_file()]
    if missing:
        problems = [Problem(str(file), "no such file", "a JSON lines file with articles") for file in missing]
        raise InputError("articles", problems)
    ids, texts, unusable = [], [], 0
    for file in files:
        with file.open("rb") as stream:
            for line in read_jsonl(stream):
                found = None if isinstance(line, BadLine) else _read(line, policy)
                if found is None:
                    unusable += 1
                else:
                    ids.append(found[0])
                    texts.append(found[1])
    if not texts:
        problem = Problem(", ".join(map(str, files)), f"no usable article, {unusable} other lines", "at least one")
        raise InputError("articles", [problem])
    return Pool(tuple(ids), tuple(texts), unusable)


def _read(record: object, policy: TextPolicy) -> tuple[str, str] | None:
    try:
        article = parse_article(record)
    except ArticleError:
        return None
    text = compose(article, policy).joined
    return (article.id, text) if text else None
