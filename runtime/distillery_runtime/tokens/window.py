"""From a text to the token ids a model reads: head, separator and tail, joined in id space, never over budget.

Training and serving both make their ids here, with the `tokenizers` library alone. A tokenizer's own special tokens
(`[CLS] x [SEP]`, `<s> x </s>`, `<bos> x`) are taken from its post-processor, so BERT, XLM-R and Gemma style tokenizers
need no code of their own. A special token that an article's text spells out is encoded as the plain characters it is.
Of a long text only the ends are tokenised, where that gives exactly the ids of the whole. What of a text the vocabulary
cannot read is counted (see `tokenizing`).
"""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from distillery_runtime.errors import BundleError, ModelError
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.ends import T, find_cuts, read_ends
from distillery_runtime.tokens.tokenizer_check import check_tokenizer
from distillery_runtime.tokens.tokenizing import TextTokenizer, Token

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """One text's input to a model.

    `ids`: (T,) int64, special tokens included, T <= max_tokens. `truncated`: whether a part of the text was left out.
    `unread`: the share, in [0, 1], of the characters that the vocabulary cannot read, among those that the ids stand
    for, prefix and spaces not counted; infinite where the tokenizer failed, and `ids` then hold nothing of the text.
    """

    ids: Ids
    truncated: bool
    unread: float = 0.0


class TokenWindow:
    """Makes token ids from texts by one tokenizer and one window.

    Args:
        tokenizer_json: the tokenizer's file.
        window: how much of a text is read, and which part.
        prefix: put before every text.
        content: the file's content; None reads it.

    Raises:
        BundleError: the file is no tokenizer, or the window leaves no room for text.
    """

    def __init__(self, tokenizer_json: Path, window: Window, prefix: str = "", content: bytes | None = None) -> None:
        try:
            content = tokenizer_json.read_bytes() if content is None else content
            check_tokenizer(content)
            source = content.decode("utf-8")
            self._tokenizer = Tokenizer.from_str(source)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._lead, self._trail = (np.array(ids, dtype=np.int64) for ids in _special_ids(self._tokenizer))
            self._tokenizer.encode_special_tokens = True
            self._cuts = find_cuts(self._tokenizer, source)
            self._tokens = TextTokenizer(self._tokenizer, source, (*self._lead, *self._trail))
            separator = self._tokens.tokens([window.separator], window.max_tokens)[0] if window.tail_share else []
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises bare Exception, and for some files a Rust panic
            raise BundleError(f"{tokenizer_json}: not a tokenizer.json ({error})") from error
        self._separator = np.array([token.id for token in separator], dtype=np.int64)
        self.prefix = prefix
        self._prefix_characters = sum(map(len, prefix.split()))
        self.window = window
        room = window.max_tokens - len(self._lead) - len(self._trail)
        self._room = room
        self._tail = int((room - len(self._separator)) * window.tail_share)
        self._head = room - len(self._separator) - self._tail if window.tail_share else room
        if self._head < 1 or self._tail < 0:
            raise BundleError(f"{tokenizer_json}: a window of {window.max_tokens} tokens leaves no room for text")

    @property
    def vocabulary_size(self) -> int:
        """How many ids the tokenizer can produce, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Gives each text's token ids, in order. A text on which the tokenizer fails spoils no other."""
        whole = [self.prefix + text for text in texts]
        try:
            return [self._fit(*pair) for pair in zip(whole, self._read(whole, self._tokens.ids), strict=True)]
        except ModelError:
            if len(texts) == 1:
                return [TokenIds(self._around(), truncated=False, unread=math.inf)]
            return [row for text in texts for row in self.encode([text])]

    def _read(self, whole: list[str], tokenise: Callable[[list[str]], list[list[T]]]) -> list[list[T]]:
        if self._cuts is None:
            return tokenise(whole)
        # Both ends together hold more ids than there is room for, so that a text whose middle was left out is cut.
        return read_ends(whole, self._room + 1 - self._tail, self._tail, self._cuts, tokenise)

    def _fit(self, text: str, ids: list[int]) -> TokenIds:
        # An array.array reads a list in half the time that numpy takes.
        found, unread = np.array(array("I", ids), dtype=np.int64), 0.0
        if not self._tokens.is_plain(found, text):
            tokens = self._read([text], partial(self._tokens.tokens, most=self._room + 1))[0]
            found, unread = np.array([token.id for token in tokens], dtype=np.int64), self._unread(text, tokens)
        return TokenIds(self._around(*self._kept(found)), len(found) > self._room, unread)

    def _kept(self, ids: Ids) -> Sequence[Ids]:
        """All ids, or what fits of them."""
        if len(ids) <= self._room:
            return (ids,)
        return (ids[: self._head], self._separator, ids[-self._tail :]) if self._tail else (ids[: self._room],)

    def _around(self, *ids: Ids) -> Ids:
        return np.concatenate([self._lead, *ids, self._trail])

    def _unread(self, text: str, tokens: Sequence[Token]) -> float:
        if len(tokens) > self._room:
            tokens = [*tokens[: self._head], *tokens[-self._tail :]] if self._tail else tokens[: self._room]
        characters = sum(token.characters for token in tokens) - self._prefix_characters
        unread = sum(token.unread for token in tokens)
        if not tokens and text.strip():
            return 1.0
        return unread / max(characters, unread, 1)


def pad(rows: Sequence[TokenIds]) -> tuple[Ids, Ids]:
    """Pads on the right to the longest row.

    Returns:
        input_ids: (B, T) int64, padded with 0, and attention_mask: (B, T) int64, 1 on real tokens. Models must read
        the mask: a real token may have id 0 too.
    """
    longest = max(len(row.ids) for row in rows)
    input_ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.ids)] = row.ids
        mask[index, : len(row.ids)] = 1
    return input_ids, mask


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups rows of similar length so that rows times longest row stays within `budget` tokens.

    Returns:
        Lists of row indices, shortest rows first; together they hold every index once. A row longer than the budget
        stands alone.
    """
    batches: list[list[int]] = []
    current: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if current and lengths[index] * (len(current) + 1) > budget:
            batches.append(current)
            current = []
        current.append(index)
    return [*batches, current] if current else batches


def _special_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special ids that the tokenizer puts before and after every text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    real = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    if not real:
        raise ValueError("it gives no token for the letter 'a'")
    return list(encoding.ids[: real[0]]), list(encoding.ids[real[-1] + 1 :])
