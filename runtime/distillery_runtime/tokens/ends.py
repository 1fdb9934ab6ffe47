"""The token ids of a text's two ends, exactly as in the whole text, without tokenising what lies between.

The ends are read from the outside in until they are enough or meet; nothing is tokenised twice. A text is cut before a
space that follows two letters or digits. Whether every such cut is safe, so that the parts give the ids of the whole,
is read off the tokenizer's own structure, step by step, and never assumed:

- added tokens are matched on the text first: none may hold a space behind something else;
- the normaliser must act on each character by itself or within a combining sequence, and keep spaces;
- the pre-tokenizer must begin a word at the space. Or there is none, as with Gemma, where spaces become U+2581: then
  the model must be a BPE without a piece in which U+2581 follows a letter or digit, so that no merge spans the cut.

A tokenizer that does not fit is tokenised whole.
"""

import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import re2
from tokenizers import Tokenizer
from tokenizers.models import BPE

T = TypeVar("T")  # what stands for a token: its id, or more

# Characters read at first for each token wanted, a little fewer than most texts need: a second round costs less than
# reading too far. It grows by half from round to round, so that rounds are few.
_CHARACTERS_PER_TOKEN = 4

_SPACE = "\u2581"
# Letters and digits of common scripts. Each is a grapheme by itself after another of them, begins with a letter in
# every normal form, and composes with nothing before it: no jamo, no marks, no prepended signs.
WORD = (
    "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0391-\u03a1\u03a3-\u03ce\u0400-\u0481\u048a-\u052f"
    "\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u0904-\u0939\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_TWO = re.compile(f"[{WORD}]{{2}}")
# In a tokenizer.json a piece may also spell its characters by their numbers (\u2581): what cannot be read here counts
# as a find.
_JOINED = re2.compile(rf"(?:[{WORD}]|\\u[0-9A-Fa-f]{{4}}){_SPACE}|\\u2581")
_SPACE_INSIDE = re.compile(rf"[^\s{_SPACE}][\s{_SPACE}]")
_CHARACTER_CLASS = re.compile(r"\[(?:\\x\{[0-9A-Fa-f]+\})+\]")
_BY_CHARACTER = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Precompiled"}
_AT_WHITESPACE = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_WITHIN_WORDS = {*_AT_WHITESPACE, "Punctuation", "Digits", "ByteLevel"}
# The settings of a tokenizer's part: an object of unchecked JSON.
Settings = dict[str, Any]


class Cuts:
    """Finds safe cuts in texts for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, whole_text: bool) -> None:
        self._tokenizer = tokenizer
        self._whole_text = whole_text
        self._known: dict[str, bool] = {}

    def first(self, text: str, start: int, stop: int) -> int | None:
        """Gives the first safe cut in `[start, stop)`: text[:cut] and text[cut:] may be tokenised apart."""
        cut = text.find(" ", start, stop)
        while cut >= 0 and not self._is_safe(text, cut):
            cut = text.find(" ", cut + 1, stop)
        return None if cut < 0 else cut

    def last(self, text: str, start: int, stop: int) -> int | None:
        """Gives the last safe cut in `[start, stop)`."""
        cut = text.rfind(" ", start, stop)
        while cut >= 0 and not self._is_safe(text, cut):
            cut = text.rfind(" ", start, cut)
        return None if cut < 0 else cut

    def _is_safe(self, text: str, cut: int) -> bool:
        return cut >= 2 and _TWO.match(text, cut - 2, cut) is not None and self._stays(text[cut - 1])

    def _stays(self, character: str) -> bool:
        """Whether the normaliser leaves a letter or digit of it, and a model of whole texts knows that as a piece."""
        if character not in self._known:
            normalizer = self._tokenizer.normalizer
            form = normalizer.normalize_str(character) if normalizer else character
            known = not self._whole_text or self._tokenizer.model.token_to_id(form) is not None
            self._known[character] = form.isalnum() and known
        return self._known[character]


def find_cuts(tokenizer: Tokenizer, source: str) -> Cuts | None:
    """Gives the rule by which this tokenizer's texts may be cut, or None if no cut is provably safe.

    Args:
        tokenizer: with `encode_special_tokens` set, so that special tokens are never taken out of a text.
        source: the tokenizer.json that it was read from.
    """
    model = tokenizer.model
    if any(getattr(model, name, None) for name in ("dropout", "alpha", "nbest_size")):
        return None  # pieces are drawn at random
    if not all(_is_found_alike(tokenizer, token) for token in tokenizer.get_added_tokens_decoder().values()):
        return None
    normalizer, splitter = settings_of(tokenizer.normalizer), settings_of(tokenizer.pre_tokenizer)
    if _is_local(normalizer) and _keeps_spaces(tokenizer) and _splits_before_spaces(splitter):
        return Cuts(tokenizer, whole_text=False)
    if _only_marks_spaces(normalizer, splitter) and _merges_within_words(model, source):
        return Cuts(tokenizer, whole_text=True)
    return None


def settings_of(part: Any) -> Settings | None:  # a normaliser or pre-tokenizer, which share no public type
    """The state of a tokenizer's part as its tokenizer.json spells it."""
    return None if part is None else dict(json.loads(part.__getstate__()))


def _is_found_alike(tokenizer: Tokenizer, token: Any) -> bool:  # AddedToken has no attributes in its type stub
    forms = [token.content]
    if token.normalized and tokenizer.normalizer:
        forms.append(tokenizer.normalizer.normalize_str(token.content))
    looks_around = not token.special and (token.single_word or token.rstrip)
    return not looks_around and not any(_SPACE_INSIDE.search(form) for form in forms)


def _is_local(normalizer: Settings | None) -> bool:
    if normalizer is None:
        return True
    if normalizer["type"] == "Sequence":
        return all(_is_local(part) for part in normalizer["normalizers"])
    if normalizer["type"] == "Replace":
        return replaces_characters(normalizer)
    return normalizer["type"] in _BY_CHARACTER


def replaces_characters(normalizer: Settings) -> bool:
    """Whether single characters are replaced, none of them a letter or digit; or a run of spaces by one."""
    kind, pattern = next(iter(normalizer["pattern"].items()))
    if kind == "String":
        return len(pattern) == 1 and not pattern.isalnum()
    if _CHARACTER_CLASS.fullmatch(pattern):
        return not any(chr(int(code, 16)).isalnum() for code in re.findall(r"\{(\w+)\}", pattern))
    return (pattern, normalizer["content"]) == (" {2,}", " ")


def _keeps_spaces(tokenizer: Tokenizer) -> bool:
    return tokenizer.normalizer is None or tokenizer.normalizer.normalize_str("a a") == "a a"


def _splits_before_spaces(splitter: Settings | None) -> bool:
    """Whether words begin at a space behind a letter or digit, whatever stands elsewhere."""
    if splitter is None:
        return False
    if splitter["type"] == "Sequence":
        first, *rest = splitter["pretokenizers"] or [None]
        return _splits_before_spaces(first) and all(_splits_words_alike(part) for part in rest)
    if splitter["type"] == "ByteLevel":
        return bool(splitter["use_regex"])  # GPT-2's pattern: no alternative has a space behind anything else
    return splitter["type"] in _AT_WHITESPACE or (splitter["type"] == "Metaspace" and bool(splitter["split"]))


def _splits_words_alike(splitter: Settings) -> bool:
    """Whether a word is split the same wherever it stands; `first` looks whether it begins the text."""
    if splitter["type"] == "Metaspace":
        return bool(splitter["prepend_scheme"] != "first")
    return splitter["type"] in _WITHIN_WORDS


def _only_marks_spaces(normalizer: Settings | None, splitter: Settings | None) -> bool:
    """Whether spaces become U+2581, and a split at spaces, if any, therefore finds none."""
    marks = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    return normalizer == marks and (
        splitter is None or (splitter["type"] == "Split" and splitter["pattern"] == {"String": " "})
    )


def _merges_within_words(model: object, source: str) -> bool:
    """Whether no merge can join what stands before a space to the space: every merge's result is a piece."""
    if not isinstance(model, BPE) or model.ignore_merges or model.token_to_id(_SPACE) is None:
        return False
    return not (model.continuing_subword_prefix or model.end_of_word_suffix or _JOINED.search(source))


def read_ends(
    texts: Sequence[str], head: int, tail: int, cuts: Cuts, tokenise: Callable[[list[str]], list[list[T]]]
) -> list[list[T]]:
    """Gives each text's ids, in order: all of them, or those of its two ends.

    Where a middle is missing, the result begins with at least the first `head` ids of the whole text and ends with at
    least its last `tail`.

    Args:
        texts: each of any length.
        head: from 1.
        tail: from 0.
        cuts: where texts may be cut for this tokenizer.
        tokenise: gives the ids of each piece, in order. It is called once a round, with the pieces of all texts.
    """
    readers: list[Generator[list[str], list[list[T]], list[T]]] = [_read(text, head, tail, cuts) for text in texts]
    found: list[list[T]] = [[] for _ in texts]
    wanted = {index: next(reader) for index, reader in enumerate(readers)}
    while wanted:
        ids = iter(tokenise([piece for pieces in wanted.values() for piece in pieces]))
        further = {}
        for index, pieces in wanted.items():
            try:
                further[index] = readers[index].send([next(ids) for _ in pieces])
            except StopIteration as end:
                found[index] = end.value
        wanted = further
    return found


def _read(text: str, head: int, tail: int, cuts: Cuts) -> Generator[list[str], list[list[T]], list[T]]:
    """Yields the pieces to tokenise next, is sent their ids, and returns what `read_ends` gives for this text."""
    front: list[T] = []
    back: list[T] = []
    start, stop, per_token = 0, len(text), _CHARACTERS_PER_TOKEN
    while len(front) < head or len(back) < tail:
        before = max(0, head - len(front)) * per_token
        after = max(0, tail - len(back)) * per_token
        middle = _middle(text, (start, start + before), (stop - after, stop), cuts)
        if middle is None:
            (rest,) = yield [text[start:stop]]
            return front + rest + back
        pieces = [text[start : middle[0]], text[middle[1] : stop]]
        ids = iter((yield [piece for piece in pieces if piece]))
        front, back = (front + next(ids) if pieces[0] else front), (next(ids) + back if pieces[1] else back)
        start, stop = middle
        per_token += per_token // 2
    return front + back


def _middle(text: str, head: tuple[int, int], tail: tuple[int, int], cuts: Cuts) -> tuple[int, int] | None:
    """What lies between two safe cuts and can be left for later; None if that is nothing.

    Args:
        head: where the unread part begins, and from where on it may be cut.
        tail: before where it may be cut, and where it ends.
    """
    if head[1] >= tail[0]:
        return None
    first = head[0] if head[0] == head[1] else cuts.first(text, head[1], tail[0])
    if first is None:
        return None
    last = tail[1] if tail[0] == tail[1] else cuts.last(text, first + 1, tail[0])
    return None if last is None else (first, last)
