"""The frozen student: a head on an encoder's embeddings, each of which a run makes once."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec, FrozenSettings, Window
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.models import frozen
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural.embedder import TorchEmbedder
from distillery_trainer.runs.run import Run

WINDOW = Window(max_tokens=24)


@pytest.fixture
def data(articles: SimpleNamespace) -> FitData:
    return FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)


@pytest.fixture
def settings(encoder_base: Path) -> FrozenSettings:
    return FrozenSettings(embedder=str(encoder_base), layers=(1, 2), prefix="a ", pooling="cls", hidden=(8,))


def test_a_frozen_student_learns_and_is_read_as_it_was_fitted(
    tmp_path: Path, data: FitData, settings: FrozenSettings, articles: SimpleNamespace
) -> None:
    frozen.fit(settings, WINDOW, data, tmp_path, 0, None)

    student = frozen.load(tmp_path, WINDOW)

    expected = TorchEmbedder(settings.embedder, "main", WINDOW, "a ", "cls", (1, 2)).embed(data.val_texts)
    found = student.predict(data.val_texts)
    assert np.array_equal(student.embed(data.val_texts), expected)
    assert np.array_equal(found, student.head.predict(expected))
    assert np.abs(found - data.val_labels).mean() < articles.constant_mae


def test_another_encoder_in_its_place_is_refused(
    tmp_path: Path, data: FitData, settings: FrozenSettings, offset_encoder_base: Path
) -> None:
    frozen.fit(settings, WINDOW, data, tmp_path, 0, None)
    record = (tmp_path / "base.json").read_text(encoding="utf-8")
    (tmp_path / "base.json").write_text(record.replace(settings.embedder, str(offset_encoder_base)), encoding="utf-8")

    with pytest.raises(InputError, match="other files"):
        frozen.load(tmp_path, WINDOW)


def test_folds_and_refits_of_a_run_embed_no_text_twice(
    tmp_path: Path, data: FitData, settings: FrozenSettings, spec: FilterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"student.backend": "frozen", "student.frozen": settings.model_dump(mode="json")}
    changes |= {"student.window": WINDOW.model_dump(mode="json")}
    run, seen = Run(tmp_path / "run", apply_overrides(spec, changes), 0, lambda: None), []
    embed = TorchEmbedder.embed
    monkeypatch.setattr(TorchEmbedder, "embed", lambda self, texts: seen.extend(texts) or embed(self, texts))
    fold = dataclasses.replace(
        data, train_texts=data.train_texts[::-2], train_labels=data.train_labels[::-2], val_texts=data.train_texts[:12],
        val_labels=data.train_labels[:12],
    )  # fmt: skip

    for number, part in enumerate((data, fold)):
        folder = tmp_path / "run" / ("student" if number == 0 else "fold")
        frozen.fit(settings, WINDOW, part, folder, 0, None, run.student_embeddings)
    raw = run.raw("student", data.val_texts)

    assert sorted(seen) == sorted({*data.train_texts, *data.val_texts})
    np.testing.assert_allclose(raw, run.student.predict(data.val_texts), atol=1e-5)
