"""Tokenizers that were made to hang, abort or eat memory are refused; those of models in use pass."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from distillery_runtime import BundleError
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.tokenizer_check import check_tokenizer
from distillery_runtime.tokens.window import TokenWindow

REPOSITORY = Path(__file__).parents[3]
WORDS = {"[UNK]": 0, "a": 1, "b": 2}

# Patterns as the tokenizers of GPT-2, GPT-4, GPT-4o, Qwen, DeepSeek and CodeLlama's kin have them.
WORDS_OF_4O = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
IN_USE = [
    "|".join(alternatives)
    for alternatives in (
        ["'s", "'t", "'re", r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+", r"\s+(?!\S)", r"\s+"],
        ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*"],
        ["'(?i:[sdmt]|ll|ve|re)", r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]++[\r\n]*"],
        [r"\p{N}", r"\s*[\r\n]+", r"\s*[\r\n]", r"\s+(?!\S)", r"\s+", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"],
        [
            r"[^\r\n\p{{L}}\p{{N}}]?{}*{}+{}".format(*WORDS_OF_4O),
            r"[^\r\n\p{{L}}\p{{N}}]?{}+{}*{}".format(*WORDS_OF_4O),
        ],
        ["[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+", "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"],
        [" ?[\\p{P}\\p{S}]+[\r\n]*", "\\s*[\r\n]+", "\\s+(?!\\S)", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"],
        [" {2,}", r"\n+", "[\\x{9}\\x{A}\\x{200B}]"],
    )
]
HOSTILE = [
    "(a+)+$", r"(\w+\s?)*$", "(x+x+)+y", "(a|a)*b", "(a|aa)+$", "(.*a){20}", ".*.*=.*", r"\w+\w+\w+!", "a*a*a*a*b",
    "(?=.*x)y", r"(a)\1+", r"\k<n>", "a?" * 30 + "a" * 30, "(?:a?){30}a{30}", "a{1000}{1000}", "(a{1000}){1000}",
    ".{0,999}.{0,999}.{0,999}x", "[a&&b]+c", "(?i:a|aa)(?i:a|aa)(?i:a|aa)b", "(?>a+)+b", "a++b+c+d", r"\X+z", "(",
    r"[\w\s]+[\w\s]+!", "a" * 3000, "(?i:(a+)+)$",
]  # fmt: skip


def content_of(tokenizer: Tokenizer | None = None, **parts: Any) -> dict[str, Any]:
    """A tokenizer.json's content with other parts."""
    made = tokenizer or Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    return json.loads(made.to_str()) | parts


def check(content: object) -> None:
    check_tokenizer(json.dumps(content).encode())


def split(pattern: dict[str, str]) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def charsmap(trie: list[int], texts: bytes, size: int | None = None) -> str:
    """A Precompiled normaliser's table; `size` is what it says of its trie."""
    units = struct.pack(f"<{len(trie)}I", *trie)
    return base64.b64encode(struct.pack("<I", len(units) if size is None else size) + units + texts).decode()


def precompiled(table: str) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": table}


# A root whose children are 256 further on, one of which, for the letter q, has a leaf beside it.
def trie(leaf: int = 0, root: int = 256 << 10, child: int | None = None) -> list[int]:
    units = [0] * 768
    units[0] = root
    units[256 ^ ord("q")] = ord("q") | 1 << 8 | (512 ^ 256 ^ ord("q")) << 10 if child is None else child
    units[512] = 1 << 31 | leaf
    return units


SOUND_TABLE = charsmap(trie(leaf=0), b"quick\0")


@pytest.mark.parametrize("pattern", IN_USE)
def test_patterns_of_tokenizers_in_use_pass(pattern: str) -> None:
    check(content_of(pre_tokenizer=split({"Regex": pattern})))


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "decoder"])
def test_patterns_that_may_not_end_are_refused_in_every_part(part: str, pattern: str) -> None:
    step = split({"Regex": pattern}) if part == "pre_tokenizer" else replace(pattern, "", "Regex")

    with pytest.raises(ValueError, match=f"{part}: .*pattern"):
        check(content_of(**{part: step}))


@pytest.mark.parametrize(
    "steps",
    [
        [replace("q", "q" * 10)] * 9,
        [replace("q", "q" * 1000)],
        [replace("q", "qq")] * 7,
        [replace("[a-z]", "q" * 10, "Regex")] * 3,
        [replace("a*", "xy", "Regex")] * 5,
        [{"type": "ByteLevel"}] * 4,
        [precompiled(charsmap(trie(), b"q" * 100 + b"\0"))],
        [precompiled(SOUND_TABLE)] * 3,
        [sequence(replace("q", "q" * 10), sequence(replace("q", "q" * 10)))],
    ],
)
def test_a_normaliser_that_multiplies_a_text_is_refused(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="times as long"):
        check(content_of(normalizer=sequence(*steps)))


@pytest.mark.parametrize(
    "table",
    [
        "/////////w==",
        "AAAA",
        "!",
        charsmap(trie(), b"q\0", size=3 << 30),
        charsmap(trie(), b"q\0", size=769 * 4),
        charsmap(trie(), b"q\0", size=767 * 4 + 1),
        charsmap(trie(), b"q\0", size=0),
        charsmap([1 << 31], b"q\0"),
        charsmap(trie(root=(1 << 21) << 10), b"q\0"),
        charsmap(trie(child=ord("q") | 1 << 8 | (1 << 20) << 10), b"q\0"),
        charsmap(trie(leaf=2), b"q\0"),
        charsmap(trie(leaf=1 << 30), b"q\0"),
        charsmap(trie(leaf=1), "é\0".encode()),
        charsmap(trie(), b"\xff\0"),
    ],
)
def test_a_charsmap_that_points_outside_of_itself_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(content_of(normalizer=precompiled(table)))


def test_a_sound_charsmap_passes_and_does_what_the_check_takes_it_for(tmp_path: Path) -> None:
    content = json.dumps(content_of(normalizer=precompiled(SOUND_TABLE)))

    check_tokenizer(content.encode())

    assert Tokenizer.from_str(content).normalizer.normalize_str("aqb") == "aquickb"


OTHERS: dict[str, Any] = {
    "an unknown normaliser": content_of(normalizer={"type": "Python"}),
    "a pre-tokenizer among the normalisers": content_of(normalizer={"type": "Whitespace"}),
    "a part without a type": content_of(normalizer={"lowercase": True}),
    "an unknown model": content_of(model={"type": "Neural", "vocab": {}}),
    "a model without a vocabulary": content_of(model={"type": "BPE"}),
    "no model": {"version": "1.0"},
    "a list": [],
    "an unknown key": content_of(script="import os"),
    "an empty pattern": content_of(pre_tokenizer=split({"String": ""})),
    "a pre-tokenizer of no length": content_of(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "a word without an end": content_of(
        model={"type": "WordPiece", "unk_token": "a", "max_input_chars_per_word": 10**9, "vocab": WORDS}
    ),
    "a piece without an end": content_of(model={"type": "WordLevel", "unk_token": "a", "vocab": {"a" * 10**5: 0}}),
    "an added token without an end": content_of(added_tokens=[{"id": 1, "content": "a" * 10**5}]),
    "steps without an end": content_of(normalizer=sequence(*[{"type": "NFC"}] * 1000)),
    "a prefix without an end": content_of(normalizer={"type": "Prepend", "prepend": "a" * 10**5}),
    "a number for a part": content_of(normalizer=3),
    "a number for a pattern": content_of(pre_tokenizer=split({"String": 3})),  # type: ignore[dict-item]
    "pieces that are numbers": content_of(model={"type": "Unigram", "vocab": [3]}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_things_that_no_tokenizer_in_use_has_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(OTHERS[name]), encoding="utf-8")

    with pytest.raises(BundleError, match="tokenizer"):
        TokenWindow(path, Window())


@pytest.mark.parametrize("key", ["normalizer", "norm\\u0061lizer"])
def test_a_part_that_is_there_twice_is_refused(key: str) -> None:
    """Two parsers could each read another one of them."""
    text = json.dumps(content_of()).replace('"normalizer"', f'"{key}": {{"type": "NFC"}}, "normalizer"')

    with pytest.raises(ValueError, match="given twice"):
        check_tokenizer(text.encode())


def test_nesting_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        check_tokenizer(b"[" * 100_000)


def tokenizers_in_use() -> dict[str, Tokenizer]:
    """One of each kind, put together as the libraries do it for BERT, XLM-R, Gemma, Llama and GPT-2."""
    bpe = {"a": 0, "b": 1, "ab": 2, "\u2581": 3}
    made = {
        "bert": Tokenizer(models.WordPiece({**WORDS, "[CLS]": 3, "[SEP]": 4}, unk_token="[UNK]")),
        "xlm-r": Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0)], 0, False)),
        "gemma": Tokenizer(models.BPE(bpe, [("a", "b")], byte_fallback=True, fuse_unk=True)),
        "llama": Tokenizer(models.BPE(bpe, [("a", "b")], ignore_merges=True)),
        "gpt-2": Tokenizer(models.BPE(bpe, [("a", "b")])),
    }
    made["bert"].normalizer = normalizers.BertNormalizer()
    made["bert"].pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made["bert"].post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))
    made["bert"].decoder = decoders.WordPiece()
    made["xlm-r"].normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made["xlm-r"].pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    made["xlm-r"].decoder = decoders.Metaspace()
    made["gemma"].normalizer = normalizers.Replace(" ", "\u2581")
    made["gemma"].pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made["gemma"].decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made["llama"].pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(IN_USE[1]), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made["llama"].post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True)])
    made["gpt-2"].pre_tokenizer = pre_tokenizers.ByteLevel()
    made["gpt-2"].decoder = decoders.ByteLevel()
    return made


@pytest.mark.parametrize("name", ["bert", "xlm-r", "gemma", "llama", "gpt-2"])
def test_tokenizers_of_every_kind_in_use_pass(name: str) -> None:
    check_tokenizer(tokenizers_in_use()[name].to_str().encode())


def test_a_model_without_a_type_as_early_files_have_it_passes() -> None:
    content = content_of()
    del content["model"]["type"]

    check(content)


@pytest.mark.parametrize("folder", ["trainer", "starter", "tests/fixtures"])
def test_every_tokenizer_of_this_repository_passes(folder: str) -> None:
    found = list((REPOSITORY / folder).rglob("*tokenizer.json"))

    for path in found:
        check_tokenizer(path.read_bytes())

    assert found
