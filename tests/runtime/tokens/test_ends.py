"""Reading only a text's ends: the same ids as the whole text gives, for every kind of tokenizer, or no cut at all."""

import json
import re
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.ends import WORD, Cuts, find_cuts, read_ends
from distillery_runtime.tokens.window import TokenWindow

SPECIAL = ["<unk>", "<s>", "</s>", "[CLS]", "[SEP]"]
# The last two are never seen in training.
WORDS = ["wind", "mill", "Windmill", "\u00e9t\u00e9", "stra\u00dfe", "a", "I", "7", "42", "\u65e5", "\u0600l", "box"]
ODD = [
    "  ", "   ", "\u2581", "\u2581\u2581", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\u200b", "\x01", "\x00", "\ufffd",
    "\u0301", " \u0301", "\u0345", "e\u0301", "\u1100", "\u1161", "\u11a8", "\u0600", "\u0d4e", "\u094d",
    "\u0915", "\U0001f642", "\U0001f1e9", "\u200d", "\ufb01", "\u0130", "\u03a3", "\u01c5", "\u2460", "\u00b7",
    "<s>", "</s>", "[SEP]", "<b>", "<b", "> </", ">", "</", "[x]", "[mask]", "<0x41>", "'s", "'", "..", ". ", "\u00bd",
]  # fmt: skip
CORPUS = [" ".join([*WORDS[:-2], *WORDS[i:-2], "the windmill stands in the wind", "> </", *ODD]) for i in range(9)]
GEMMA_MERGES = (
    "<0x78>|\u2581 i|n \u2581|w \u2581w|in \u2581win|d m|i l|l mi|ll \u2581|mill W|in Win|d 4|2 \u2581|42 \u2581|a <|/ "
    "\u2581|</ >|\u2581</ \u2581|\u2581 \u2581\u2581|\u2581 \u2581\u2581|\u2581\u2581 \u2581\u2581|w"
)
E5_CLASS = r"[\x{1}\x{2}\x{8}\x{B}\x{7F}\x{8F}]", r"[\x{9}\x{A}\x{1680}\x{200B}\x{200D}\x{2581}\x{FEFF}\x{FFFD}]"


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=120, show_progress=False, special_tokens=SPECIAL)
    )
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 3), ("[SEP]", 4)])
    return tokenizer


def unigram(normalizer: normalizers.Normalizer, splitter: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    trainer = trainers.UnigramTrainer(vocab_size=140, show_progress=False, special_tokens=SPECIAL, unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("[mask]", lstrip=True)])
    tokenizer.add_tokens([AddedToken("[x]", lstrip=True), AddedToken("<b>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return tokenizer


def e5() -> Tokenizer:
    """As multilingual-e5 is saved today."""
    gone, spaces = (Regex(pattern) for pattern in E5_CLASS)
    parts = [normalizers.Replace(gone, ""), normalizers.Replace(spaces, " "), normalizers.NFKC()]
    normalizer = normalizers.Sequence([*parts, normalizers.Replace(Regex(" {2,}"), " ")])
    return unigram(normalizer, pre_tokenizers.Metaspace())


def xlmr() -> Tokenizer:
    """As XLM-R was published, with SentencePiece's table of characters; this one turns a few letters into spaces."""
    table = {
        "\u0600l": " ",
        "7": " ",
        "\u3000": " ",
        "\u00a0": " ",
        "\ufb01": "fi",
        "\u200b": " ",
        "e\u0301": "\u00e9",
        "\u0301": "",
        "\u2460": "1",
    }
    normalizer = normalizers.Sequence(
        [normalizers.Precompiled(precompiled(table)), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return unigram(normalizer, pre_tokenizers.Metaspace())


def old_metaspace() -> Tokenizer:
    """Words are told apart before the metaspace is set, as in files of some years ago."""
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return unigram(normalizers.NFKD(), splitter)


def first_only() -> Tokenizer:
    """A metaspace before the text's first word alone."""
    normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    return unigram(normalizer, pre_tokenizers.Metaspace(prepend_scheme="first"))


def gemma() -> Tokenizer:
    """Spaces become U+2581 and whole texts are merged. As in Gemma's own vocabulary, one piece spans a space.

    Another joins a byte of `x`, which is no piece, to a space.
    """
    merges = [(pair[0], pair[1]) for pair in (joined.split("|") for joined in GEMMA_MERGES.split())]
    bytes_and_letters = [*(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581</>.'[]7W42abdilmnorsw\u00e9\u65e5\uac00"]
    pieces = [*SPECIAL, *bytes_and_letters, *("".join(pair) for pair in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("\n", "\n\n", "<b>")])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, show_progress=False, special_tokens=SPECIAL, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["  ", "   ", "[x]"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def precompiled(table: dict[str, str]) -> bytes:
    """SentencePiece's form of a table of replacements: a double-array trie and the replacements it points to."""
    units, replacements = {0: 0}, b""
    block = 0

    def add(position: int, keys: dict[bytes, int]) -> None:
        nonlocal block
        block += 256
        here = block
        units[position] = units.get(position, 0) | (position ^ here) << 10 | (0x100 if b"" in keys else 0)
        if b"" in keys:
            units[here] = keys[b""] | 1 << 31
        for byte in sorted({key[0] for key in keys if key}):
            units[here ^ byte] = byte
            add(here ^ byte, {key[1:]: value for key, value in keys.items() if key[:1] == bytes([byte])})

    targets = {}
    for key, value in table.items():
        targets[key.encode()] = len(replacements)
        replacements += value.encode() + b"\0"
    add(0, targets)
    trie = b"".join(struct.pack("<I", units.get(index, 0)) for index in range(block + 256))
    return struct.pack("<I", len(trie)) + trie + replacements


STYLES: dict[str, Callable[[], Tokenizer]] = {
    style.__name__: style for style in (bert, e5, xlmr, old_metaspace, first_only, gemma, byte_level)
}
# Words and spaces often, so that there are cuts; anything else between them.
ATOMS = st.sampled_from([*WORDS * 6, *[" "] * 70, *ODD])
TEXTS = st.lists(ATOMS, min_size=40, max_size=120).map("".join) | st.text(st.characters(codec="utf-8"))


def plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True
    return tokenizer


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module", params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(style: str) -> Tokenizer:
    return plain(STYLES[style]())


@pytest.fixture(scope="module")
def cuts(tokenizer: Tokenizer) -> Cuts:
    found = find_cuts(tokenizer, tokenizer.to_str())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def tokenizer_json(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@given(text=TEXTS)
def test_parts_of_a_text_give_the_ids_of_the_whole(tokenizer: Tokenizer, cuts: Cuts, text: str) -> None:
    cut, whole = cuts.first(text, 0, len(text)), ids_of(tokenizer, text)
    while cut is not None:
        assert ids_of(tokenizer, text[:cut]) + ids_of(tokenizer, text[cut:]) == whole
        cut = cuts.first(text, cut + 1, len(text))


@given(
    text=TEXTS,
    max_tokens=st.integers(8, 40),
    tail_share=st.just(0.0) | st.floats(0, 0.9),
    prefix=st.sampled_from(["", "query: "]),
)
def test_a_window_holds_what_tokenising_the_whole_text_gives(
    style: str, tokenizer: Tokenizer, tokenizer_json: Path, text: str, max_tokens: int, tail_share: float, prefix: str
) -> None:
    # The spelling of a special token is encoded as plain characters, which `test_tokenizing` holds.
    assume(not any(name in unicodedata.normalize("NFKC", text) for name in [*SPECIAL, "[mask]"]))
    whole = ids_of(tokenizer, prefix + text)
    separator = ids_of(tokenizer, ".") if tail_share else []
    room = max_tokens - tokenizer.num_special_tokens_to_add(False)
    tail = int((room - len(separator)) * tail_share)
    head = room - len(separator) - tail

    row = TokenWindow(
        tokenizer_json, Window(max_tokens=max_tokens, tail_share=tail_share, separator="."), prefix
    ).encode([text])[0]

    kept = whole[:head] + separator + whole[-tail:] if len(whole) > room and tail else whole[:room]
    first = 0 if style == "byte_level" else 1
    assert row.truncated == (len(whole) > room)
    assert row.ids[first : first + len(kept)].tolist() == kept
    assert len(row.ids) == len(kept) + tokenizer.num_special_tokens_to_add(False)


@given(texts=st.lists(TEXTS, max_size=8))
@settings(max_examples=15)
def test_a_batch_gives_what_each_text_gives_alone(tokenizer_json: Path, texts: list[str]) -> None:
    window = TokenWindow(tokenizer_json, Window(max_tokens=12, separator="."))

    rows = window.encode(texts)

    alone = [window.encode([text])[0] for text in texts]
    assert [(row.ids.tolist(), row.truncated) for row in rows] == [(row.ids.tolist(), row.truncated) for row in alone]


def test_the_middle_of_a_long_text_is_not_tokenised(tokenizer: Tokenizer, cuts: Cuts) -> None:
    text = "wind " + "mill a " * 300_000 + "42"
    rounds: list[list[str]] = []

    def tokenise(pieces: list[str]) -> list[list[int]]:
        rounds.append(pieces)
        return [ids_of(tokenizer, piece) for piece in pieces]

    ids = read_ends([text], 60, 50, cuts, tokenise)[0]

    assert sum(len(piece) for pieces in rounds for piece in pieces) < 2_000
    assert (ids[:60], ids[-50:]) == (ids_of(tokenizer, text[:2_000])[:60], ids_of(tokenizer, text[-2_000:])[-50:])


@pytest.mark.parametrize(
    "text", ["", " ", "mill" * 2_000, "\u65e5\u672c\u8a9e" * 2_000, "\u0e44\u0e17\u0e22 " * 500, "a - " * 500]
)
def test_a_text_without_a_safe_cut_is_tokenised_whole(tokenizer: Tokenizer, cuts: Cuts, text: str) -> None:
    rounds: list[list[str]] = []

    def tokenise(pieces: list[str]) -> list[list[int]]:
        rounds.append(pieces)
        return [ids_of(tokenizer, piece) for piece in pieces]

    ids = read_ends([text], 10, 10, cuts, tokenise)

    assert rounds == [[text]]
    assert ids == [ids_of(tokenizer, text)]


def test_a_text_of_few_tokens_takes_few_rounds(cuts: Cuts) -> None:
    rounds: list[list[str]] = []

    def one_id_a_piece(pieces: list[str]) -> list[list[int]]:
        rounds.append(pieces)
        return [[7] for _ in pieces]

    read_ends(["mill a " * 100_000], 60, 50, cuts, one_id_a_piece)

    assert len(rounds) < 25


def changed(make: Callable[[], Tokenizer], **parts: object) -> Tokenizer:
    tokenizer = make()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def with_token(token: AddedToken) -> Tokenizer:
    tokenizer = gemma()
    tokenizer.add_tokens([token])
    return tokenizer


def with_piece_across_a_space() -> Tokenizer:
    state = json.loads(gemma().to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary["a\u2581"] = len(vocabulary)
    state["model"]["merges"].append(["a", "\u2581"])
    return Tokenizer.from_str(json.dumps(state, ensure_ascii=False))


UNSAFE: dict[str, Callable[[], Tokenizer]] = {
    "a piece across a space": with_piece_across_a_space,
    "whole texts as words": lambda: changed(e5, pre_tokenizer=pre_tokenizers.Metaspace(split=False)),
    "no pre-tokenizer and no marks": lambda: changed(bert, pre_tokenizer=None),
    "spaces that do not split": lambda: changed(byte_level, pre_tokenizer=pre_tokenizers.ByteLevel(use_regex=False)),
    "an unknown pattern": lambda: changed(byte_level, pre_tokenizer=pre_tokenizers.Split(Regex("a b"), "isolated")),
    "words told apart by position": lambda: changed(
        e5,
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
        ),
    ),
    "spaces removed": lambda: changed(bert, normalizer=normalizers.Replace(" ", "")),
    "spaces stripped": lambda: changed(e5, normalizer=normalizers.Strip()),
    "something prepended": lambda: changed(e5, normalizer=normalizers.Prepend("a")),
    "a pattern over several characters": lambda: changed(e5, normalizer=normalizers.Replace(Regex("a b"), "c")),
    "a letter replaced": lambda: changed(e5, normalizer=normalizers.Replace("d", " ")),
    "letters of a class replaced": lambda: changed(e5, normalizer=normalizers.Replace(Regex(r"[\x{64}]"), " ")),
    "merges left out": lambda: changed(gemma, model=models.BPE({"\u2581": 0, "a": 1}, [], ignore_merges=True)),
    "merges at random": lambda: changed(byte_level, model=models.BPE({"a": 0}, [], dropout=0.5)),
    "an added token with a space": lambda: with_token(AddedToken("wind mill", normalized=False)),
    "an added token that takes the space": lambda: with_token(AddedToken("mill", rstrip=True, normalized=False)),
    "an added token that looks around": lambda: with_token(AddedToken("mill", single_word=True, normalized=False)),
}


@pytest.mark.parametrize("reason", UNSAFE)
def test_a_tokenizer_without_provably_safe_cuts_is_left_alone(reason: str) -> None:
    tokenizer = plain(UNSAFE[reason]())

    assert find_cuts(tokenizer, tokenizer.to_str()) is None


def test_a_tokenizer_written_in_escapes_is_left_alone() -> None:
    tokenizer = plain(gemma())

    assert find_cuts(tokenizer, json.dumps(json.loads(tokenizer.to_str()))) is None


def test_characters_before_a_cut_stand_alone_in_every_normal_form() -> None:
    word = re.compile(f"[{WORD}]")

    for character in filter(word.match, map(chr, range(0x11000))):
        assert unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo", "Nd"}
        assert unicodedata.category(unicodedata.normalize("NFKD", character)[0])[0] in "LN"
        assert unicodedata.normalize("NFC", "\uac00" + character) == "\uac00" + character
