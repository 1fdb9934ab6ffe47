"""Folders of sentence-transformers: trainer and exported graph give what `SentenceTransformer.encode` gives."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as models

from distillery_exporter.variants.models import Texts, frozen_encoder
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import identity
from distillery_runtime.spec.model import ProbeSettings, Window
from distillery_runtime.tokens.window import pad
from distillery_trainer.models.choose import open_embedder

PARITY = 1e-5
WINDOW = Window(max_tokens=64)
TEXTS = ["sun", "clean river wind", "the old city art school a tree", "river sun " * 12]
KINDS = ("mean", "cls", "max", "lasttoken", "dense and prompt")


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, encoder_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the library saves it: one of four poolings, or two Dense layers, Normalize and a default prompt."""
    folder = tmp_path_factory.mktemp("saved") / request.param.partition(" ")[0]
    transformer = models.Transformer(str(encoder_base))
    torch.manual_seed(3)
    if request.param != "dense and prompt":
        SentenceTransformer(modules=[transformer, models.Pooling(32, request.param)], device="cpu").save(str(folder))
        return folder
    dense = [models.Dense(32, 24), models.Dense(24, 8, bias=False, activation_function=torch.nn.Identity())]
    modules = [transformer, models.Pooling(32, "mean"), *dense, models.Normalize()]
    prompts = {"query": "the river ", "other": "a "}
    SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name="query", device="cpu").save(str(folder))
    return folder


def encoded(folder: Path) -> NDArray[np.float32]:
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found: NDArray[np.float32] = model.encode(TEXTS, show_progress_bar=False)
    return found


def test_the_trainer_gives_what_the_library_encodes(saved: Path) -> None:
    found = open_embedder(ProbeSettings(embedder=str(saved), window=WINDOW)).embed(TEXTS)

    np.testing.assert_allclose(found, encoded(saved), atol=PARITY)


def test_the_exported_graph_gives_what_the_library_encodes(saved: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(embedder=str(saved), window=WINDOW)
    embedder = open_embedder(settings)
    model = frozen_encoder(embedder, settings, Texts(list, tmp_path))
    model.write(tmp_path / "e.onnx", "cpu-fp32", identity("abc"))
    graph = Graph(tmp_path / "e.onnx", ["input_ids", "attention_mask"], ["pooled"], "cpu", 1)
    ids, mask = pad(embedder.window.encode(TEXTS))

    found = graph.run({"input_ids": ids, "attention_mask": mask})["pooled"]

    np.testing.assert_allclose(found, encoded(saved), atol=PARITY)


def test_a_window_beyond_what_the_model_reads_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="max"):
        open_embedder(ProbeSettings(embedder=str(saved), window=Window(max_tokens=65)))
