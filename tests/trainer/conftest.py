"""Tiny transformers for the torch side of the trainer, made here: two layers, 32 wide, a vocabulary of 24 tokens."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny models are slower on several threads

GREEN = ["river", "wind", "tree", "sun"]
TOWN = ["city", "school", "art", "old"]
WORDS = ["a", "the", *GREEN, *TOWN]
SIZES = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


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


@pytest.fixture(scope="session")
def articles() -> SimpleNamespace:
    """Texts of 2 to 30 words, labelled by how green and how urban their words are; the error of a constant answer."""
    rng = np.random.default_rng(7)
    texts = [_text(rng) for _ in range(48)]
    labels = np.array([_labels(text) for text in texts], dtype=np.float32)
    constant_mae = float(np.abs(labels[36:] - labels[:36].mean(axis=0)).mean())
    return SimpleNamespace(
        train_texts=texts[:36],
        train_labels=labels[:36],
        val_texts=texts[36:],
        val_labels=labels[36:],
        constant_mae=constant_mae,
    )


def _labels(text: str) -> list[float]:
    words = text.split()
    return [10 * sum(word in group for word in words) / len(words) for group in (GREEN, TOWN)]


def _text(rng: np.random.Generator) -> str:
    group = GREEN if rng.random() < 0.5 else TOWN
    return " ".join(rng.choice([*group, "a"], size=int(rng.integers(2, 30))))


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
