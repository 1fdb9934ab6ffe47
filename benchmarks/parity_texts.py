"""Token ids of real articles for comparing models: always the same random ones, and batches of mixed lengths."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.spec.model import TextPolicy, Window
from distillery_runtime.tokens.window import TokenIds, TokenWindow

SMALLEST_BATCH, LARGEST_BATCH = 8, 16
SIMILAR_BATCH = 12
TUNING_ARTICLES = 32
# Beyond Gemma's sliding window of 512 tokens; and lengths below, at and just beyond it for one padded batch.
LONG_TOKENS = 640
LONG_LENGTHS = (640, 640, 600, 513, 512, 300, 100, 20)

Rows = Sequence[TokenIds]


@dataclass(frozen=True, slots=True)
class Sample:
    """Articles as a model reads them.

    `rows`: those that are compared. `tuning`: others, for the head's scale and for int8. `long`: articles of
    `LONG_TOKENS` tokens, empty where the model reads no more than its window.
    """

    rows: Rows
    tuning: Rows
    long: Rows

    @property
    def long_batch(self) -> Rows:
        """The long articles cut to `LONG_LENGTHS`, to be padded into one batch."""
        pairs = zip(self.long, LONG_LENGTHS, strict=False)
        return [TokenIds(row.ids[:length], truncated=True) for row, length in pairs]


def read_sample(articles: Path, tokenizer: Path, count: int, max_tokens: int, with_long: bool) -> Sample:
    """Chooses articles.

    Args:
        articles: JSON lines with `title` and `text`.
        tokenizer: a tokenizer.json.
        count: how many articles are compared.
        max_tokens: what longer ones are cut to.
        with_long: whether to look for articles of `LONG_TOKENS` tokens.

    Raises:
        SystemExit: the file has too few articles, or too few long ones.
    """
    texts = list(_texts(articles))
    wanted = count + TUNING_ARTICLES
    if len(texts) < wanted:
        raise SystemExit(f"{articles.name}: {len(texts)} articles, expected {wanted}")
    rows = _window(tokenizer, max_tokens).encode(texts[:wanted])
    long = _long_rows(texts[wanted:], _window(tokenizer, LONG_TOKENS)) if with_long else []
    return Sample(rows[:count], rows[count:], long)


def mixed_batches(count: int, seed: int) -> list[list[int]]:
    """Puts `count` rows in a random order into batches of 8 to 16, so that long and short ones are padded together."""
    generator = random.Random(seed)
    order = generator.sample(range(count), count)
    batches = []
    while order:
        size = len(order)
        if size > LARGEST_BATCH:
            size = generator.randint(SMALLEST_BATCH, min(LARGEST_BATCH, size - SMALLEST_BATCH))
        batches.append(order[:size])
        order = order[size:]
    return batches


def similar_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Puts rows in the order of their lengths into batches of 12, which are padded little, each to another length."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[i : i + SIMILAR_BATCH] for i in range(0, len(order), SIMILAR_BATCH)]


def _long_rows(texts: Sequence[str], window: TokenWindow) -> Rows:
    rows: list[TokenIds] = []
    for text in texts:
        if len(text) > 2 * LONG_TOKENS:  # a token has mostly more than two characters: others need not be tried
            rows.extend(row for row in window.encode([text]) if len(row.ids) == LONG_TOKENS)
        if len(rows) == len(LONG_LENGTHS):
            return rows
    raise SystemExit(f"{len(rows)} articles of {LONG_TOKENS} tokens, expected {len(LONG_LENGTHS)}")


def _window(tokenizer: Path, max_tokens: int) -> TokenWindow:
    return TokenWindow(tokenizer, Window(max_tokens=max_tokens, tail_share=0))


def _texts(articles: Path) -> Iterator[str]:
    """All texts that are not empty, in an order that is random and always the same."""
    lines = articles.read_text(encoding="utf-8").rstrip("\n").split("\n")
    random.Random(0).shuffle(lines)
    for line in lines:
        record = json.loads(line)
        text = compose(Article("", record["title"], record["text"]), TextPolicy()).joined
        if text:
            yield text
