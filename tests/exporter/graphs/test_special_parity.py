"""Texts that spell special tokens: torch and the exported graph answer alike, by the same ids and positions."""

from pathlib import Path

import numpy as np
import pytest

from distillery_exporter.graphs.bert import build_bert_encoder
from distillery_exporter.graphs.traced import build_traced_encoder
from distillery_exporter.graphs.weights import Checkpoint
from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.model import TextPolicy, Window
from distillery_runtime.tokens.window import TokenIds, pad
from tests.runtime.tokens.test_tokenizing import SPECIAL, unigram

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from distillery_trainer.neural.embedder import TorchEmbedder  # noqa: E402 - needs torch
from distillery_trainer.neural.loading import load_encoder  # noqa: E402 - needs torch

PARITY = 5e-5  # fused operators add up in another order than torch
TEXTS = [
    "windmill in the wind",
    *(f"wind {name} mill &lt;pad&gt; wind" for name in SPECIAL),
    "&lt;pad&gt;&lt;pad&gt; wind",
    "wind&lt;/s&gt;mill \uff1cpad\uff1e mill",
]


@pytest.fixture(scope="module", params=["xlm-roberta", pytest.param("camembert", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random encoder that counts positions from ids, with a Unigram tokenizer that holds the specials."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 70}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 1, "type_vocab_size": 1}
    torch.manual_seed(3)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(request.param, **sizes, **layers))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.4)
    found = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(found)
    unigram().save(str(found / "tokenizer.json"))
    return found


@pytest.fixture(scope="module")
def graph(folder: Path) -> Graph:
    build = build_bert_encoder if "xlm" in folder.name else build_traced_encoder
    build(folder / "encoder.onnx", Checkpoint(folder), "mean", normalise=True)
    return Graph(folder / "encoder.onnx", ["input_ids", "attention_mask"], ["pooled"], "cpu", 1)


def test_a_text_that_spells_special_tokens_is_embedded_alike(folder: Path, graph: Graph) -> None:
    embedder = TorchEmbedder(str(folder), "main", Window(max_tokens=64))
    texts = [compose(Article("1", "", text), TextPolicy()).joined for text in TEXTS]

    ids, mask = pad(embedder.window.encode(texts))
    found = graph.run({"input_ids": ids, "attention_mask": mask})["pooled"]

    assert "<pad>" in texts[1]
    np.testing.assert_allclose(found, embedder.embed(texts), atol=PARITY)


def test_an_id_like_the_paddings_moves_no_position(folder: Path, graph: Graph) -> None:
    rows = [TokenIds(np.array([0, 9, 1, 12, 1, 1, 11, 2]), False), TokenIds(np.array([0, 9, 2]), False)]
    ids, mask = pad(rows)
    model = load_encoder(folder).eval()

    found = graph.run({"input_ids": ids, "attention_mask": mask})["pooled"]

    with torch.no_grad():
        states = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
    pooled = (states.numpy() * mask[..., None]).sum(1)
    np.testing.assert_allclose(found, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=PARITY)
