"""The maximum of tokens holds for any text under any tokenizer, and a reply above it stops the command."""

import base64
import random
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_server import Answer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from distillery_trainer.labelling.estimate import max_frame_tokens, max_tokens, max_usage
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.labeller import LabellingResult
from distillery_trainer.models.static_embedder import TABLE_FOLDER
from distillery_trainer.oracle.protocol import Call, Settings

TABLE = TABLE_FOLDER / "tokenizer.json"
BYTES = [f"<0x{value:02X}>" for value in range(256)]
# U+FDFA has 18 characters in NFKD; U+0390 three; U+1D160 is 4 bytes and 12 in NFC; U+0958 is excluded from composition.
BOMBS = (
    "\ufdfa\ufdfb\u0390\u1d160\U0001d160\u0958\u0130\u1e9e\u0149\u3300\u33ff\ud55c\uf900\u2126"
    "\ufb2c\U0001f469\u200d\U0001f4bb"
)
Serve = Callable[..., Any]  # Any: OracleServer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]


def byte_level() -> Tokenizer:
    """A byte-level BPE without merges, as GPT and Llama 3 have at their worst: a token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: place for place, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def byte_fallback(normalizer: Any) -> Tokenizer:  # Any: one of tokenizers' normalizers
    """A BPE that knows the word boundary and bytes only, as Gemma, Llama 2 and Mistral fall back to."""
    vocabulary = {piece: place for place, piece in enumerate(["<unk>", "\u2581", *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizer, normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return tokenizer


def unigram(normalizer: Any) -> Tokenizer:  # Any: as above
    """A Unigram of bytes, as XLM-R, T5 and ALBERT are made."""
    pieces = [("<unk>", 0.0), ("\u2581", -1.0), *((piece, -2.0) for piece in BYTES)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@cache
def tokenizers() -> dict[str, Tokenizer]:
    folding = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    return {
        "static table": Tokenizer.from_file(str(TABLE)),
        "byte-level": byte_level(),
        "byte fallback": byte_fallback(normalizers.NFC()),
        "byte fallback, NFKC": byte_fallback(normalizers.NFKC()),
        "byte fallback, NFKD": byte_fallback(normalizers.NFKD()),
        "unigram, NFKC": unigram(normalizers.NFKC()),
        "unigram, NFKD, lower case": unigram(folding),
        "unigram, NFD": unigram(normalizers.NFD()),
    }


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text(st.sampled_from(BOMBS), max_size=60),
    st.text("0123456789abcdef .,", max_size=200),
    st.binary(max_size=90).map(lambda content: base64.b64encode(content).decode()),
    st.text(st.characters(categories=["Mn", "Me", "Cf", "Cc", "Zs", "Co", "Cn"]), max_size=60),
)


@given(TEXTS)
def test_no_tokenizer_makes_more_tokens_of_a_text_than_the_maximum(text: str) -> None:
    most_tokens = max_usage(Call("key", "a", "", text), Settings())

    for name, tokenizer in tokenizers().items():
        tokens = len(tokenizer.encode(text, add_special_tokens=True))
        assert tokens <= most_tokens.input_tokens, name
        assert len(tokenizer.encode(text, add_special_tokens=False)) <= max_tokens(text) + 3, (
            name
        )  # a prefix of 3 bytes


@pytest.mark.slow
def test_no_normal_form_of_a_character_is_longer_than_its_maximum() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) == "Cs":
            continue
        forms = {form: unicodedata.normalize(form, character) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        longest = max(len(f.encode()) for form in forms.values() for f in (form, form.casefold(), form.lower()))
        assert longest <= max_tokens(character), hex(code)


def test_characters_that_influence_each_other_are_bounded_too() -> None:
    chance = random.Random(0)
    marks = [chr(code) for code in range(0x300, 0x370)]
    for _ in range(500):
        text = "".join(
            chance.choice("e\u00e9\u1e9e\uac00\u1100\u1161\u0958o\u01a1") + "".join(chance.choices(marks, k=3))
            for _ in range(8)
        )
        forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
        assert max(len(form.encode()) for form in forms) <= max_tokens(text)


def test_what_is_sent_beside_the_messages_counts() -> None:
    schema = {"type": "object", "properties": {f"dimension_{i}": {"type": "number"} for i in range(8)}}
    tools = Settings(extra={"tools": ["x" * 5000]})

    assert max_frame_tokens(schema, Settings()) - max_frame_tokens({}, Settings()) > len(str(schema))
    assert max_frame_tokens(schema, tools) - max_frame_tokens(schema, Settings()) >= 5000


def test_prose_is_not_counted_above_its_bytes() -> None:
    text = "The ferry crosses the harbour in nine minutes. " * 100

    assert max_tokens(text) == len(text)


def test_a_reply_that_cost_more_than_its_maximum_stops_the_command_and_the_next_one_reserves_more(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    """A server that ignores the limit of output, as none should."""
    server = serve(lambda ask: Answer(reply(ask.message), 1000, 4000))
    call_usd = (1000 * 1 + 4000 * 10) / 1e6
    wanted = job(server, articles(60), max_usd=1.0)

    first = run(wanted)
    charged = len(server.asks) * call_usd
    run(wanted)

    assert first.stop is not None
    assert first.stop.reason == "above the maximum"
    assert len(server.asks) * call_usd <= 1.0  # the second command, by itself
    assert first.summary["cost_usd"]["paid"] == pytest.approx(charged)  # type: ignore[index] # nested JSON


def test_a_batch_whose_replies_cost_more_than_their_maximum_is_the_last_one(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), 1000, 4000))

    done = run(job(server, articles(60), service="gemini", is_batch=True, max_usd=0.3))

    assert done.stop is not None
    assert done.stop.reason == "above the maximum"
    assert len(server.jobs) == 1


@pytest.mark.parametrize("price", ["input=1,output=10,cached=5", "input=1,output=10,batch=3"])
def test_cached_input_and_batches_may_be_the_more_expensive_ones(price: str) -> None:
    from distillery_trainer.oracle.prices import find_price
    from distillery_trainer.oracle.protocol import Usage

    found = find_price("mine", price)
    for is_batch in (False, True):
        for cached in (0, 500, 1000):
            assert found.cost(Usage(1000, 10, cached), is_batch) <= found.max_cost(Usage(1000, 10), is_batch)
