"""A head of bins as a graph gives the expected score, in every kind of graph and for fitted students."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.head import add_expectation
from distillery_exporter.graphs.traced import build_traced_decoder_regressor, build_traced_encoder_regressor
from distillery_exporter.graphs.weights import Checkpoint
from distillery_exporter.variants import models
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.spec.model import StudentSettings, Window
from distillery_runtime.tokens.window import TokenIds, pad
from distillery_trainer.models import hl_gauss
from distillery_trainer.models.choose import import_torch_side
from distillery_trainer.models.protocol import FitData

CLIPS = ReadOut(identity("abc"), identity("abc"))

# Fused operators add up in another order than PyTorch.
PARITY = 5e-5
WINDOW = Window(max_tokens=24)
CENTRES = hl_gauss.centres()
TOKENS = ["input_ids", "attention_mask"]
SIZES = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
         "num_attention_heads": 4, "max_position_embeddings": 64}  # fmt: skip
WORDS = ["river", "wind", "city", "school", "a"]


def expectation(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return hl_gauss.softmax(logits.reshape(len(logits), -1, len(CENTRES))) @ CENTRES


def batch() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    return pad([TokenIds(rng.integers(3, 99, length), False) for length in (20, 5, 13, 1)])


def run(path: Path, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    return Graph(path, TOKENS, ["raw", "expected", "scores"], "cpu", 1).run({"input_ids": ids, "attention_mask": mask})


def test_the_expectation_equals_numpy_and_large_logits_stay_finite(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3 * len(CENTRES)), scale=200).astype(np.float32)
    g = GraphBuilder(tmp_path / "e.onnx")
    scores = add_expectation(g, "logits", 3, CENTRES)
    g.save([Port("logits", np.float32, ("b", logits.shape[1]))], [(scores, Port("y", np.float32, ("b", 3)))])

    found = Graph(tmp_path / "e.onnx", ["logits"], ["y"], "cpu", 1).run({"logits": logits})["y"]

    np.testing.assert_allclose(found, expectation(logits), atol=1e-5)


@pytest.mark.parametrize("backend", ["encoder", "decoder"])
def test_a_fitted_student_of_bins_answers_alike_as_a_graph_in_fp32(
    backend: str, encoder_base: Path, decoder_base: Path, tmp_path: Path
) -> None:
    base = {"encoder": encoder_base, "decoder": decoder_base}[backend]
    settings, module = student_settings(backend, base), import_torch_side(f"distillery_trainer.neural.{backend}")
    data = some_articles()
    module.fit(getattr(settings, backend), WINDOW, data, tmp_path / "student", 1, None)
    student = module.load(tmp_path / "student", WINDOW)
    spec: Any = SimpleNamespace(student=settings, dimensions=(0, 1))  # Any: what the exporter reads of a spec

    model = models.student(spec, tmp_path / "student", models.Texts(list, tmp_path))
    model.write(tmp_path / "s.onnx", "cpu-fp32", ReadOut(identity("ab"), identity("ab")))

    rows = student.window.encode(data.train_texts)
    found = run(tmp_path / "s.onnx", *pad(rows))
    expected = student.predict(data.train_texts)
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(found["raw"], expected, atol=PARITY)
    np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=PARITY)


def student_settings(backend: str, base: Path) -> StudentSettings:
    training = {"epochs": 3, "patience": 3, "learning_rate": 0.01, "batch_tokens": 64}
    values = {"backend": backend, "window": WINDOW.model_dump()}
    return StudentSettings.model_validate(
        values | {backend: {"base_model": str(base), "loss": "hl_gauss", "training": training}}
    )


def some_articles() -> FitData:
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, size=int(rng.integers(2, 20)))) for _ in range(50)]
    labels = np.array(
        [[10 * text.count(w) / len(text.split()) for w in ("river", "city")] for text in texts], dtype=np.float32
    )
    return FitData(texts[:16], labels[:16], texts[16:], labels[16:])


@pytest.mark.slow
def test_a_traced_decoder_of_bins_gives_what_its_logits_expect(tmp_path: Path) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(7)
    config = transformers.LlamaConfig(**SIZES, num_labels=3 * len(CENTRES), pad_token_id=0)
    model = transformers.LlamaForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.score.weight, std=0.3)
    model.save_pretrained(tmp_path)
    ids, mask = batch()

    build_traced_decoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path), 3, CLIPS, 64, CENTRES)

    with torch.inference_mode():
        states = model.model(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state
        logits = model.score(states[torch.arange(len(ids)), torch.from_numpy(mask).sum(1) - 1])
    np.testing.assert_allclose(run(tmp_path / "t.onnx", ids, mask)["raw"], expectation(logits.numpy()), atol=PARITY)


@pytest.mark.slow
def test_a_traced_encoder_of_bins_gives_what_its_logits_expect(tmp_path: Path) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(7)
    model = transformers.BertModel(transformers.BertConfig(**SIZES, hidden_act="relu")).eval()
    model.save_pretrained(tmp_path)
    rng, count = np.random.default_rng(0), 3 * len(CENTRES)
    head = rng.normal(size=(count, 32)).astype(np.float32), rng.normal(size=count).astype(np.float32)
    ids, mask = batch()

    build_traced_encoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path), "cls", *head, CLIPS, CENTRES)

    with torch.inference_mode():
        states = model(torch.from_numpy(ids), torch.from_numpy(mask)).last_hidden_state[:, 0].numpy()
    expected = expectation(states @ head[0].T + head[1])
    np.testing.assert_allclose(run(tmp_path / "t.onnx", ids, mask)["raw"], expected, atol=PARITY)


def test_a_head_without_its_bins_is_refused(encoder_base: Path, tmp_path: Path) -> None:
    settings, module = (
        student_settings("encoder", encoder_base),
        import_torch_side("distillery_trainer.neural.encoder"),
    )
    module.fit(settings.encoder, WINDOW, some_articles(), tmp_path / "student", 1, None)
    (tmp_path / "student" / "bins.json").unlink()
    spec: Any = SimpleNamespace(student=settings, dimensions=(0, 1))  # Any: as above
    model = models.student(spec, tmp_path / "student", models.Texts(list, tmp_path))

    with pytest.raises(InputError, match=r"52 outputs, expected 2, one for each calibration map"):
        model.write(tmp_path / "s.onnx", "cpu-fp32", ReadOut(identity("ab"), identity("ab")))
