"""Token windows: exact for three kinds of tokenizer, and never over budget."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from distillery_runtime.errors import BundleError
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenIds, TokenWindow, pad, token_batches

LETTERS = "abcdefghijklmnopqrstuvwxyz."


def bert_style() -> Tokenizer:
    """WordPiece between [CLS] and [SEP]."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{c}" for c in LETTERS), "wind", "##mill"]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def xlmr_style() -> Tokenizer:
    """Unigram with a metaspace between <s> and </s>."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("\u2581wind", -3.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((c, -5.0) for c in LETTERS)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    return tokenizer


def gemma_style() -> Tokenizer:
    """Byte-fallback BPE after <bos>, nothing at the end."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = [*specials, *(f"<0x{i:02X}>" for i in range(256)), "\u2581", *LETTERS, "\u2581w", "in", "\u2581win"]
    merges = [("\u2581", "w"), ("i", "n"), ("\u2581w", "in")]
    ids = {t: i for i, t in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", None, [("<bos>", 2)])
    return tokenizer


STYLES = {"bert": bert_style, "xlmr": xlmr_style, "gemma": gemma_style}


@pytest.fixture(scope="module", params=STYLES)
def tokenizer_json(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    STYLES[request.param]().save(str(path))
    return path


def test_a_text_within_budget_gets_the_tokenizers_own_ids(tokenizer_json: Path) -> None:
    text = "windmill in the wind. \u00e9t\u00e9"

    row = TokenWindow(tokenizer_json, Window(max_tokens=64)).encode([text])[0]

    assert row.ids.tolist() == Tokenizer.from_file(str(tokenizer_json)).encode(text).ids
    assert not row.truncated


def test_a_long_text_keeps_specials_head_separator_and_tail(tokenizer_json: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    text = " ".join(["wind"] * 50 + ["mill"] * 50)
    body = tokenizer.encode(text, add_special_tokens=False).ids
    separator = tokenizer.encode(".", add_special_tokens=False).ids
    around = tokenizer.encode("", add_special_tokens=True).ids
    lead, trail = around[:1], around[1:]

    row = TokenWindow(tokenizer_json, Window(max_tokens=20, tail_share=0.25, separator=".")).encode([text])[0]

    room = 20 - len(around)
    tail = int((room - len(separator)) * 0.25)
    head = room - len(separator) - tail
    assert row.truncated
    assert row.ids.tolist() == [*lead, *body[:head], *separator, *body[-tail:], *trail]


def test_no_tail_share_keeps_the_head_alone(tokenizer_json: Path) -> None:
    body = Tokenizer.from_file(str(tokenizer_json)).encode("wind " * 50).ids

    row = TokenWindow(tokenizer_json, Window(max_tokens=8, tail_share=0.0)).encode(["wind " * 50])[0]

    assert len(row.ids) == 8
    assert row.ids[:4].tolist() == body[:4]


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=300),
    max_tokens=st.integers(8, 40),
    tail_share=st.floats(0, 0.9),
)
def test_no_window_ever_exceeds_its_budget(
    tmp_path_factory: pytest.TempPathFactory, text: str, max_tokens: int, tail_share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "budget.json"
    if not path.exists():
        xlmr_style().save(str(path))

    row = TokenWindow(path, Window(max_tokens=max_tokens, tail_share=tail_share, separator=".")).encode([text])[0]

    assert len(row.ids) <= max_tokens
    assert len(row.ids) == max_tokens or not row.truncated


def test_truncation_and_padding_saved_in_a_tokenizer_are_ignored(tmp_path: Path) -> None:
    tokenizer = bert_style()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=30)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    row = TokenWindow(tmp_path / "tokenizer.json", Window(max_tokens=64)).encode(["wind " * 10])[0]

    assert len(row.ids) == 12


def test_a_prefix_stands_before_every_text(tokenizer_json: Path) -> None:
    with_prefix = TokenWindow(tokenizer_json, Window(), prefix="wind ").encode(["mill"])[0]
    spelled_out = TokenWindow(tokenizer_json, Window()).encode(["wind mill"])[0]

    assert with_prefix.ids.tolist() == spelled_out.ids.tolist()


@pytest.mark.parametrize(("style", "token", "special_id"), [("bert", "[SEP]", 3), ("gemma", "<eos>", 1)])
def test_special_tokens_spelled_in_a_text_are_plain_characters(
    tmp_path: Path, style: str, token: str, special_id: int
) -> None:
    STYLES[style]().save(str(tmp_path / "tokenizer.json"))

    row = TokenWindow(tmp_path / "tokenizer.json", Window()).encode([f"wind {token} mill"])[0]

    assert special_id not in row.ids[1:-1]


def test_a_window_without_room_for_text_is_refused(tmp_path: Path) -> None:
    bert_style().save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(BundleError, match="no room for text"):
        TokenWindow(tmp_path / "tokenizer.json", Window(max_tokens=8, separator="a b c d e f g h"))


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")

    with pytest.raises(BundleError, match=r"not a tokenizer\.json"):
        TokenWindow(tmp_path / "tokenizer.json", Window())


def test_padding_is_on_the_right_and_masked() -> None:
    rows = [TokenIds(np.array([5, 6, 7]), False), TokenIds(np.array([8]), False)]

    ids, mask = pad(rows)

    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@given(st.lists(st.integers(1, 200), max_size=60), st.integers(1, 400))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget)

    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
