"""Rows of token ids of exactly a given length, one for each article."""

from collections.abc import Sequence

from distillery_runtime.tokens.window import TokenIds, TokenWindow

MAX_CHARS = 4000  # of one article: enough for one row's worth of any tokenizer here, or joined with the next ones


def rows_of_length(window: TokenWindow, texts: Sequence[str], tokens: int) -> list[TokenIds] | None:
    """A row for each text, its ids first and those of the texts after it where it is too short.

    The row is cut to the length; its first and last id (special tokens, where the tokenizer has them) stay.

    Returns:
        As many rows as texts, each of `tokens` ids; None where the window is shorter than that.
    """
    if tokens > window.window.max_tokens:
        return None
    parts = [text[:MAX_CHARS] for text in texts]
    return [_row(window, [*parts[first:], *parts[:first]], tokens) for first in range(len(parts))]


def _row(window: TokenWindow, parts: Sequence[str], tokens: int) -> TokenIds:
    text, following = parts[0], 1
    row = window.encode([text])[0]
    while len(row.ids) < tokens:
        text = f"{text} {parts[following % len(parts)]}"
        following += 1
        row = window.encode([text])[0]
    ids = row.ids[:tokens].copy()
    ids[-1] = row.ids[-1]
    return TokenIds(ids, truncated=True)
