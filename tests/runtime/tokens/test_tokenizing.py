"""What a vocabulary cannot read is counted, no text gives a special id, and a tokenizer's failure is one article's."""

import json
import math
import time
import timeit
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from distillery_runtime import HybridScorer, load
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens import window as window_module
from distillery_runtime.tokens.window import TokenWindow
from tests.runtime.tokens.test_ends import precompiled

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[PAD]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz<>/[].,"
UNREAD = {
    "hebrew": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd ",
    "thai": "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "amharic": "\u1230\u120b\u121d \u12d3\u1208\u121d ",
    "arabic": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645 ",
    "hindi": "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e ",
    "georgian": "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0 ",
    "emoji": "\U0001f600\U0001f680 ",
    "private use": "\ue123\ue124 ",
    "replacement": "\ufffd\ufffd\ufffd ",
}


def unigram(normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    """As XLM-R: its vocabulary holds the special tokens' spellings as pieces."""
    pieces = [*((name, 0.0) for name in SPECIAL), ("\u2581", -2.0), ("\u2581wind", -3.0), ("mill", -4.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((letter, -5.0) for letter in LETTERS)], unk_id=3))
    tokenizer.normalizer = normalizer or normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return around(tokenizer)


def around(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(SPECIAL[:5])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    return tokenizer


def dropping_unigram() -> Tokenizer:
    """Its table of characters makes nothing of all letters that the vocabulary lacks."""
    lost = {character: "" for text in UNREAD.values() for character in text if character != " "}
    return unigram(normalizers.Precompiled(precompiled(lost)))


def replacing_unigram() -> Tokenizer:
    return unigram(normalizers.Replace(Regex(r"[^\x{20}-\x{7F}]"), ""))


def word_piece() -> Tokenizer:
    vocabulary = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(vocabulary)}, unk_token="<unk>", max_input_chars_per_word=20
        )
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.WhitespaceSplit()
    return around(tokenizer)


def bpe_without_unknown() -> Tokenizer:
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *LETTERS, "wi", "nd"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("w", "i"), ("n", "d")]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return around(tokenizer)


def word_level() -> Tokenizer:
    words = [*SPECIAL, "wind", "mill", "turns", "plain"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return around(tokenizer)


def bytes_of(byte_fallback: bool) -> Tokenizer:
    if byte_fallback:
        vocabulary = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS, "\u2581"]
        tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(vocabulary)}, [], byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    else:
        vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(vocabulary)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return around(tokenizer)


LOSING: dict[str, Callable[[], Tokenizer]] = {
    style.__name__: style
    for style in (unigram, dropping_unigram, replacing_unigram, word_piece, bpe_without_unknown, word_level)
}
KEEPING = {"byte fallback": lambda: bytes_of(True), "byte level": lambda: bytes_of(False)}
STYLES = LOSING | KEEPING


def characters(text: str) -> int:
    return len("".join(text.split()))


def window_of(tokenizer: Tokenizer, folder: Path, window: Window | None = None, prefix: str = "") -> TokenWindow:
    tokenizer.save(str(folder / "tokenizer.json"))
    return TokenWindow(folder / "tokenizer.json", window or Window(max_tokens=4096), prefix)


def unread(window: TokenWindow, text: str) -> float:
    return window.encode([text])[0].unread


@pytest.fixture(scope="module", params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def window(style: str, tmp_path_factory: pytest.TempPathFactory) -> TokenWindow:
    return window_of(STYLES[style](), tmp_path_factory.mktemp("style"))


@pytest.mark.parametrize(("readable", "repeats"), [("", 1), ("wind mill turns ", 40), ("wind mill " * 8, 1)])
def test_the_unread_share_is_that_of_the_characters(
    window: TokenWindow, style: str, readable: str, repeats: int
) -> None:
    texts = {script: readable + unread * repeats for script, unread in UNREAD.items()}

    rows = dict(zip(texts, window.encode(list(texts.values())), strict=True))

    for script, text in texts.items():
        lost = characters(UNREAD[script]) * repeats / characters(text) if style in LOSING else 0.0
        marks = sum(unicodedata.category(c).startswith("M") for c in text) / characters(text)
        assert lost - marks - 0.02 <= rows[script].unread <= lost + 0.02, script


def test_text_that_the_vocabulary_knows_is_read(window: TokenWindow) -> None:
    assert [unread(window, text) for text in ("wind mill turns plain", "wind", "", " ")] == [0, 0, 0, 0]


def test_a_word_too_long_for_word_piece_is_unread(tmp_path: Path) -> None:
    window = window_of(word_piece(), tmp_path)

    assert unread(window, "wind" * 20 + " mill") == pytest.approx(80 / 84)


@pytest.mark.parametrize("tail_share", [0.0, 0.5])
def test_the_share_is_of_what_the_window_holds(tmp_path: Path, tail_share: float) -> None:
    window = window_of(unigram(), tmp_path, Window(max_tokens=40, tail_share=tail_share, separator="."))
    plain, foreign = "wind mill " * 200, UNREAD["hebrew"] * 200

    middle, ends = plain + foreign + plain, foreign + plain + foreign

    assert (unread(window, middle), unread(window, ends)) == (0, 1)


@pytest.mark.parametrize(
    "unit", ["\u0e44\u0e17\u0e22 ", "\u0e44\u0e17\u0e22", "<pad>", "a\u0e01", "\u05d0\u05d1 wind "]
)
def test_a_long_text_is_weighed_as_its_ends_are(tmp_path: Path, unit: str) -> None:
    window = window_of(unigram(), tmp_path, Window(max_tokens=40, tail_share=0.5, separator="."))

    short, long = window.encode([unit * 400, unit * 4_000])

    assert long.unread == pytest.approx(short.unread)
    assert len(long.ids) == len(short.ids)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["\u0e44\u0e17\u0e22 ", "<pad>", "\U0001f600a", "\ufffd", "\u05d0\u05d1 wind "])
def test_reading_takes_time_in_proportion_to_the_length(tmp_path: Path, unit: str) -> None:
    window = window_of(unigram(), tmp_path, Window(max_tokens=512))

    def seconds(characters: int) -> float:
        text = unit * (characters // len(unit))
        return min(timeit.repeat(lambda: window.encode([text]), number=1, repeat=3, timer=time.process_time))

    assert seconds(200_000) <= 3 * seconds(100_000) + 0.01  # where only the ends are read, both are next to nothing


def test_the_prefix_is_not_counted(tmp_path: Path) -> None:
    window = window_of(unigram(), tmp_path, prefix="windmill: ")

    assert unread(window, UNREAD["thai"]) == 1


def test_no_text_gives_a_special_id(window: TokenWindow, style: str) -> None:
    spellings = [*SPECIAL, "<pad><pad>", "wind</s>mill", "\uff1cpad\uff1e", "\uff3bPAD\uff3d"]
    texts = [text for s in spellings for text in (s, f"wind {s} mill", f"{s} {UNREAD['hebrew']}")]

    rows = window.encode(texts)

    for text, row in zip(texts, rows, strict=True):
        inside = set(row.ids[1:-1].tolist())
        assert inside & set(range(len(SPECIAL))) <= ({3} if row.unread else set()), text
        assert inside or style == "bpe_without_unknown", text


@given(text=st.text(st.sampled_from("windmll .<>/ pads\u00e9\u05d0\u0e01"), max_size=60))
def test_texts_without_a_special_token_keep_the_tokenizers_ids(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.json"
    if not path.exists():
        unigram().save(str(path))
    raw = Tokenizer.from_file(str(path))
    raw.encode_special_tokens = True
    whole = raw.encode(text).ids

    row = TokenWindow(path, Window(max_tokens=512)).encode([text])[0]

    if not any(name in text for name in SPECIAL):
        assert row.ids.tolist() == whole
    assert 0 <= row.unread <= 1


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a tokenizer through that is refused when it is opened: there may be others that panic, and are not."""
    monkeypatch.setattr(window_module, "check_tokenizer", lambda _content: None)


def panicking() -> Tokenizer:
    """The table of characters ends before the replacement of one letter."""
    table = precompiled({"\u00e9": "e", "\u00fc": "u"})
    return unigram(normalizers.Precompiled(table[:-3]))


def without_unknown() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"wind": 0, "mill": 1, "a": 2}, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("tokenizer", [panicking, without_unknown])
@pytest.mark.parametrize("batch", [1, 8])
def test_a_text_that_breaks_the_tokenizer_spoils_no_other(
    tokenizer: Callable[[], Tokenizer], batch: int, tmp_path: Path
) -> None:
    window = window_of(tokenizer(), tmp_path, Window(tail_share=0.0))
    texts = ["wind mill"] * batch + ["wind \u00fc mill"] + ["mill"] * batch

    rows = window.encode(texts)

    assert [math.isinf(row.unread) for row in rows] == ["\u00fc" in text for text in texts]
    assert rows[0].ids.tolist() == window.encode(["wind mill"])[0].ids.tolist()


@pytest.fixture
def cascade(bundle: Path, tmp_path: Path) -> HybridScorer:
    """The fixture bundle, whose student reads Hebrew in place of some words of English."""
    scorer, source = load(bundle), json.loads((bundle / "student" / "tokenizer.json").read_text(encoding="utf-8"))
    renamed = {"lake": "\u05d0\u05d2\u05dd", "celebrity": "\u05e8\u05d5\u05d7"}
    source["model"]["vocab"] = {renamed.get(word, word): i for word, i in source["model"]["vocab"].items()}
    (tmp_path / "other.json").write_text(json.dumps(source), encoding="utf-8")
    student = scorer.stages[1]
    student.window = TokenWindow(tmp_path / "other.json", student.window.window)
    return scorer


def test_a_stage_answers_no_text_that_it_cannot_read(cascade: HybridScorer) -> None:
    hebrew, thai = "\u05d0\u05d2\u05dd \u05e8\u05d5\u05d7 " * 5, UNREAD["thai"] * 5
    texts = {"english": "football cards sunday", "hebrew": hebrew, "thai": thai, "mixed": f"football sunday {thai}"}

    scores = cascade.score_batch({"id": name, "text": text} for name, text in texts.items())

    found = {score.id: (score.status, score.stage) for score in scores}
    refused = ("invalid", None)
    assert found == {"english": ("scored", "probe"), "hebrew": ("scored", "student"), "thai": refused, "mixed": refused}
    assert scores[2].reason == (
        "text: the student cannot read it (100% of the characters are not in its vocabulary, at most 30% may be)"
    )


@pytest.mark.parametrize(("limit", "status"), [(0.5, "invalid"), (0.7, "scored"), (1.0, "scored")])
def test_the_limit_is_the_filters(bundle: Path, limit: float, status: str) -> None:
    scorer = with_limit(load(bundle), limit)

    score = scorer.score({"id": "1", "text": "wind " + "\u05d0" * 6})

    assert score.status == status


def with_limit(scorer: HybridScorer, limit: float) -> HybridScorer:
    text = scorer.spec.text.model_copy(update={"max_unknown_share": limit})
    return HybridScorer(scorer.spec.model_copy(update={"text": text}), scorer.stages, scorer.bundle)


def test_whatever_the_limit_a_text_of_which_nothing_is_read_is_invalid(bundle: Path) -> None:
    scorer = with_limit(load(bundle), 1.0)

    score = scorer.score({"id": "1", "text": UNREAD["thai"]})

    assert (score.status, score.scores) == ("invalid", None)


@pytest.mark.usefixtures("unchecked")
def test_a_broken_tokenizer_makes_its_article_invalid_and_scores_the_others(bundle: Path, tmp_path: Path) -> None:
    scorer, tokenizer = load(bundle), Tokenizer.from_file(str(bundle / "student" / "tokenizer.json"))
    table = precompiled({"\u00e9": "e", "\u00fc": "u"})[:-3]
    tokenizer.normalizer = normalizers.Sequence([tokenizer.normalizer, normalizers.Precompiled(table)])
    for stage in scorer.stages:
        folder = tmp_path / stage.name
        folder.mkdir()
        stage.window = window_of(tokenizer, folder, stage.window.window)
    records = [{"id": str(i), "text": "solar \u00fc wind" if i == 3 else "solar wind"} for i in range(6)]

    together, streamed = scorer.score_batch(records), list(scorer.score_stream(records))

    assert [score.status for score in together] == ["invalid" if i == 3 else "scored" for i in range(6)]
    assert "tokenizer fails" in str(together[3].reason)
    assert together == streamed


def test_the_starter_refuses_what_it_cannot_read(repository: Path) -> None:
    scorer = load(repository / "starter" / "distillery_starter" / "sustainability_technology-4")
    title = "Solar panels on the roof of a school"

    unread = [text for script, text in UNREAD.items() if script != "georgian"]

    scores = scorer.score_batch({"id": text, "title": title, "text": text * 60} for text in unread)

    assert [score.id for score in scores if score.status != "invalid"] == []
    assert scorer.score({"id": "1", "title": title, "text": "It works. \U0001f600"}).status == "scored"
