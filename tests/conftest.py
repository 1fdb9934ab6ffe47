"""Fixtures shared by all tests: the small bundle of the fixtures folder, copied where a test may damage it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from tokenizers import Tokenizer

import distillery_runtime
from distillery_runtime.bundles import child
from distillery_runtime.bundles.child import Say
from distillery_runtime.cli import verify
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.tokens import window

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny models are slower on several threads
# Without a deadline, so that a busy machine fails no test. `make test-all` takes `thorough`.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=300)
settings.load_profile("repeatable")

GREEN = ["river", "wind", "tree", "sun"]
TOWN = ["city", "school", "art", "old"]
WORDS = ["a", "the", *GREEN, *TOWN]
SIZES = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

REPOSITORY = Path(__file__).parent.parent
FIXTURE_BUNDLE = REPOSITORY / "tests" / "fixtures" / "bundle-v1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where CI demands torch, a test that would be skipped for want of it is an error."""
    if os.environ.get("DISTILLERY_REQUIRE_TORCH"):
        import torch  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def _tokenizers_are_parsed_once() -> Iterator[None]:
    """Parsing the static table's tokenizer takes 70 ms, and a fit opens it a dozen times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "Tokenizer", SimpleNamespace(from_str=lru_cache(maxsize=4)(Tokenizer.from_str)))
        yield


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles are tested in this process, and not in a child that takes a second to start (see `test_child`)."""

    def run_here(arguments: Sequence[str], _where: str, _timeout_s: float, out: Say, err: Say, _say: Say) -> int:
        with redirect_stdout(StringIO()) as results, redirect_stderr(StringIO()) as news:
            code = distillery(arguments)
        for stream, take in ((results, out), (news, err)):
            for line in stream.getvalue().splitlines():
                take(line)
        return code

    monkeypatch.setattr(child, "run_in_child", run_here)
    monkeypatch.setattr(verify, "limit_this_process", lambda timeout_s, size_bytes: None)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the fixture bundle."""
    return Path(shutil.copytree(FIXTURE_BUNDLE, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def scorer() -> distillery_runtime.HybridScorer:
    return distillery_runtime.load(FIXTURE_BUNDLE)


@pytest.fixture(scope="session")
def decoder_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma-3 text model with random weights and its tokenizer, `<bos>` before every text."""
    pytest.importorskip("torch")
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    folder = tmp_path_factory.mktemp("decoder") / "tiny-gemma"
    config = Gemma3TextConfig(
        **SIZES, num_key_value_heads=1, head_dim=16, sliding_window=16, max_position_embeddings=64,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return _save(Gemma3ForCausalLM, config, ["<pad>", "<eos>", "<bos>", "<unk>"], "<bos> $A", folder)


@pytest.fixture(scope="session")
def encoder_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and its tokenizer, `[CLS] text [SEP]`."""
    pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    config = BertConfig(**SIZES, max_position_embeddings=64, pad_token_id=0)
    return _save(BertModel, config, ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[CLS] $A [SEP]", folder)


@pytest.fixture(scope="session")
def offset_encoder_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-R with random weights: its positions begin at 2, so that 66 of them hold 64 tokens."""
    pytest.importorskip("torch")
    from transformers import XLMRobertaConfig, XLMRobertaModel

    folder = tmp_path_factory.mktemp("offset") / "tiny-xlm-r"
    config = XLMRobertaConfig(**SIZES, max_position_embeddings=66, pad_token_id=1)
    return _save(XLMRobertaModel, config, ["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", folder)


def _save(model_type: type, config: object, special: list[str], template: str, folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    model_type(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    used = [(token, vocabulary[token]) for token in special if token in template.split()]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    tokenizer.enable_truncation(5)  # as some are saved; a window must not inherit it
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
