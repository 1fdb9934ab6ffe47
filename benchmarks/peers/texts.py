"""Token ids of real articles, cut to exact lengths: some that are timed, and others that int8 is prepared with."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.spec.model import TextPolicy
from distillery_runtime.tokens.window import TokenIds

# No tokenizer here makes fewer tokens of more characters, so that the rest of a long article need not be read.
CHARACTERS_PER_TOKEN = 16

Ids = list[int]


@dataclass(frozen=True, slots=True)
class Texts:
    """Articles as token ids, the model's first and last special tokens included.

    `timed`: for each length the same articles. `tuning`: other articles, at most the longest length each.
    """

    timed: dict[int, list[Ids]]
    tuning: list[Ids]

    @property
    def longest(self) -> int:
        """The longest length."""
        return max(self.timed)

    def tuning_rows(self) -> list[TokenIds]:
        """The tuning articles as the exporter takes them."""
        return [TokenIds(np.array(ids, dtype=np.int64), truncated=True) for ids in self.tuning]


def read_texts(articles: Path, tokenizer: Path, lengths: tuple[int, ...], count: int, tuning: int) -> Texts:
    """Takes articles that have at least the longest length's tokens, in an order that is random and always the same.

    Args:
        articles: JSON lines with `title` and `text`.
        tokenizer: a tokenizer.json.
        lengths: in tokens.
        count: how many articles are timed.
        tuning: how many others are taken.

    Raises:
        SystemExit: there are too few that are long enough.
    """
    cutter = Tokenizer.from_file(str(tokenizer))
    found: list[str] = []
    for text in _texts(articles, max(lengths)):
        if len(_cut(cutter, text, max(lengths))) == max(lengths):
            found.append(text)
        if len(found) == count + tuning:
            break
    else:
        raise SystemExit(f"{articles}: {len(found)} articles of {max(lengths)} tokens, expected {count + tuning}")
    timed = {length: [_cut(cutter, text, length) for text in found[:count]] for length in lengths}
    return Texts(timed, [_cut(cutter, text, max(lengths)) for text in found[count:]])


def _cut(cutter: Tokenizer, text: str, length: int) -> Ids:
    """A text's first ids, with special tokens at most `length` of them."""
    cutter.no_padding()
    cutter.enable_truncation(length)
    return list(cutter.encode(text[: CHARACTERS_PER_TOKEN * length]).ids)


def _texts(articles: Path, tokens: int) -> Iterator[str]:
    lines = articles.read_text(encoding="utf-8").rstrip("\n").split("\n")
    random.Random(0).shuffle(lines)
    for line in lines:
        record = json.loads(line)
        text = compose(Article("", record["title"], record["text"]), TextPolicy()).joined
        if len(text) > tokens:
            yield text
