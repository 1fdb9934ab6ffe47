"""Texts tokenised by a checked tokenizer: ids, none of them special, and the share that the vocabulary cannot read.

A text is unread where an unknown token stands for it (a letter or a word that the vocabulary lacks) or no token at all
(a character that the normaliser drops, or a BPE without an unknown token). Characters are counted and not tokens: a
text without spaces may be one unknown token. Spaces do not count, and combining marks do not count as dropped. A
word-level vocabulary leaves out most words by design: of an unknown word, it does not read the letters that it knows
from no other word.

Special ids come from the post-processor alone. A text that spells a special token becomes the characters it is, also
where the vocabulary holds the spelling as a piece (Unigram, WordLevel, a word of WordPiece).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer, pre_tokenizers
from tokenizers.models import BPE, WordLevel

from distillery_runtime.errors import ModelError
from distillery_runtime.tokens.ends import Settings, replaces_characters, settings_of

_UNKNOWN_ID = re.compile(r'"unk_id"\s*:\s*(\d+)')
_SPECIAL = (
    *("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>", "<cls>", "<sep>", "<|endoftext|>"),
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "[EOS]"),
)
_SPACES = " \n\t\u2581\u0120"  # the last two stand for a space in SentencePiece's and GPT-2's vocabularies
_FEW = 2  # ids of a text of which nothing may be left
_REPLACEMENT = "\ufffd"  # what was lost before; some normalisers drop it
_KEEPING = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Prepend", "ByteLevel", "Nmt", "Strip"}
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


class Token(NamedTuple):
    """One token: its id, the characters it stands for, spaces not counted, and how many of these are unread."""

    id: int
    characters: int
    unread: int


class TextTokenizer:
    """Tokenises texts by one tokenizer. Safe to share between threads.

    Args:
        tokenizer: with `encode_special_tokens` set.
        source: the tokenizer.json that it was read from.
        special: ids known to be special, as those that it puts around a text.
    """

    def __init__(self, tokenizer: Tokenizer, source: str, special: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._unknown = _unknown_id(tokenizer, source)
        self._special = _special_ids(tokenizer, special) - {self._unknown}
        self._odd = np.zeros(tokenizer.get_vocab_size() + 1, dtype=np.bool_)  # one more, for ids beyond
        self._odd[[i for i in (*self._special, self._unknown) if i is not None and i < len(self._odd) - 1]] = True
        self._may_drop = _may_drop(tokenizer)
        self._known = _known_letters(tokenizer)
        self._dropped: dict[str, bool] = {}  # by character, as far as texts had them

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids as the tokenizer gives them, which are those of `tokens` where `is_plain` says so.

        Raises:
            ModelError: the tokenizer fails on one of the texts.
        """
        return [item.ids for item in self._encode(texts, fast=True)]

    def is_plain(self, ids: NDArray[np.int64], text: str) -> bool:
        """Whether no id of a text is special or unknown, and no part of it may be without a token."""
        try:
            is_odd = self._odd[ids].any()
        except IndexError:  # of a vocabulary with gaps
            is_odd = np.take(self._odd, ids, mode="clip").any()
        if is_odd or len(ids) <= _FEW or _REPLACEMENT in text:
            return False
        return not self._may_drop or not self._dropped_of(text)

    def tokens(self, texts: Sequence[str], most: int) -> list[list[Token]]:
        """Each text's tokens without special ids, and what they stand for. Slower than `ids`; errors as there.

        Args:
            texts: as in `ids`.
            most: how many tokens are needed of either end; what lies between them is left out.
        """
        encodings = self._encode(texts, fast=False)
        return [list(self._weigh(text, encoding, most)) for text, encoding in zip(texts, encodings, strict=True)]

    def _encode(self, texts: Sequence[str], *, fast: bool) -> list[Encoding]:
        encode = self._tokenizer.encode_batch_fast if fast else self._tokenizer.encode_batch
        try:
            return encode(list(texts), add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises bare Exception, and a Rust panic is no Exception
            raise ModelError("the tokenizer fails on a text") from error  # its message may quote the text

    def _weigh(self, text: str, encoding: Encoding, most: int) -> Iterator[Token]:
        """A token stands for the characters from its start to the next one's: what lies between was dropped."""
        dropped = dict.fromkeys(map(ord, self._dropped_of(text)))
        ids, offsets = encoding.ids, encoding.offsets
        starts = [0, *(start for start, _ in offsets[1:]), len(text)]
        at = 0
        for index in (*range(min(most, len(ids))), *range(max(most, len(ids) - most), len(ids))):
            token, (start, stop), at = ids[index], offsets[index], max(at, starts[index])
            end = max(at, starts[index + 1])
            # Nearly all white space of a text is single spaces, which this counts in a tenth of the time.
            characters = end - at - text.count(" ", at, end)
            if token in self._special or (token == self._unknown and self._spells_unknown(text[start:stop])):
                yield from self._spelled(token)
            elif token == self._unknown:
                yield Token(token, characters, min(self._unread(text[max(at, start) : min(stop, end)]), characters))
            elif dropped:
                yield Token(token, characters, min(end - at - len(text[at:end].translate(dropped)), characters))
            else:
                yield Token(token, characters, 0)
            at = end

    def _unread(self, text: str) -> int:
        """How many characters an unknown token leaves unread of those it stands for."""
        return _length(self._normalised(text).translate(self._known) if self._known else text)

    def _spells_unknown(self, text: str) -> bool:
        return self._normalised(text).strip(_SPACES) == self._spelling(self._unknown)

    def _normalised(self, text: str) -> str:
        return self._tokenizer.normalizer.normalize_str(text) if self._tokenizer.normalizer else text

    def _spelled(self, special: int) -> Iterator[Token]:
        """The tokens of a special token's characters, each for itself."""
        for ids in self.ids(list(self._spelling(special))):
            plain = [i for i in ids if i not in self._special and not self._is_space(i)]
            yield from (Token(i, int(not place), int(i == self._unknown)) for place, i in enumerate(plain))

    def _is_space(self, token: int) -> bool:
        return not self._spelling(token).strip(_SPACES)

    def _spelling(self, token: int | None) -> str:
        return "" if token is None else self._tokenizer.id_to_token(token) or ""

    def _dropped_of(self, text: str) -> list[str]:
        """Those of a text's characters that the tokenizer makes nothing of."""
        found = set(text)
        if new := sorted(found - self._dropped.keys()):
            try:
                self._dropped |= dict(zip(new, map(self._is_dropped, new, self.ids(new)), strict=True))
            except ModelError:  # a character alone breaks the tokenizer, so that it does not drop it
                if len(new) > 1:
                    return [character for one in found for character in self._dropped_of(one)]
                self._dropped[new[0]] = False
        return [character for character in found if self._dropped[character]]

    def _is_dropped(self, character: str, ids: Iterable[int]) -> bool:
        kind = unicodedata.category(character)
        is_text = kind in ("Co", "Cn") or (kind[0] not in "MC" and not character.isspace())
        return is_text and all(map(self._is_space, ids))


def _length(text: str) -> int:
    """How many characters a text has, spaces not counted."""
    return sum(map(len, text.split()))


def _unknown_id(tokenizer: Tokenizer, source: str) -> int | None:
    model = tokenizer.model
    if (name := getattr(model, "unk_token", None)) is not None:
        return tokenizer.token_to_id(str(name))
    found = _UNKNOWN_ID.search(source)  # tokenizers shows no Unigram's
    return int(found[1]) if found else None


def _special_ids(tokenizer: Tokenizer, known: Iterable[int]) -> frozenset[int]:
    flagged = (i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    named = (i for name in _SPECIAL if (i := tokenizer.token_to_id(name)) is not None)
    return frozenset((*known, *flagged, *named))


def _known_letters(tokenizer: Tokenizer) -> dict[int, None]:
    """The letters of a word-level vocabulary, as a table that removes them; empty for other models."""
    if not isinstance(tokenizer.model, WordLevel):
        return {}
    words = tokenizer.get_vocab(with_added_tokens=False)
    return dict.fromkeys(map(ord, "".join(words.keys() - set(_SPECIAL))))


def _may_drop(tokenizer: Tokenizer) -> bool:
    """Whether a character of a text, other than spaces, marks and controls, may be left without a token."""
    if isinstance(tokenizer.model, BPE) and not _knows_every_character(tokenizer, tokenizer.model):
        return True
    normaliser, splitter = settings_of(tokenizer.normalizer), settings_of(tokenizer.pre_tokenizer)
    return not (_normaliser_keeps(normaliser) and _splitter_keeps(splitter))


def _knows_every_character(tokenizer: Tokenizer, model: BPE) -> bool:
    if model.unk_token is not None or (model.byte_fallback and _has_all(model, _BYTES)):
        return True
    parts = f"{settings_of(tokenizer.normalizer)}{settings_of(tokenizer.pre_tokenizer)}"
    return "'ByteLevel'" in parts and _has_all(model, pre_tokenizers.ByteLevel.alphabet())


def _has_all(model: BPE, pieces: Iterable[str]) -> bool:
    return all(model.token_to_id(piece) is not None for piece in pieces)


def _normaliser_keeps(part: Settings | None) -> bool:
    if part is None:
        return True
    if part["type"] == "Sequence":
        return all(map(_normaliser_keeps, part["normalizers"]))
    if part["type"] == "Replace":
        return bool(part["content"].strip()) or replaces_characters(part)
    return part["type"] in _KEEPING


def _splitter_keeps(part: Settings | None) -> bool:
    if part is None:
        return True
    if part["type"] == "Sequence":
        return all(map(_splitter_keeps, part["pretokenizers"]))
    if part["type"] == "Split":
        return part["behavior"] != "Removed" or not part["pattern"].get("String", "x").strip()
    return bool(part["type"] != "CharDelimiterSplit")
