"""The static backend and embedder, and choosing backends by name without torch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, ProviderError
from distillery_runtime.spec.model import FilterSpec, HeadTraining, ProbeSettings, StaticSettings, Window
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.models import static
from distillery_trainer.models.choose import fit_student, import_torch_side, load_student, open_embedder
from distillery_trainer.models.protocol import FitData, HeadPlan
from distillery_trainer.models.static_embedder import StaticEmbedder

FLOAT32 = 1e-5  # unit vectors and scores of a few units in float32
SETTINGS = StaticSettings(hidden=(8,), training=HeadTraining(epochs=3))
WINDOW = Window(max_tokens=32)


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder(WINDOW)


@pytest.fixture(scope="module")
def data() -> FitData:
    """Texts about wind or about schools, labelled by that and by nothing else."""
    rng = np.random.default_rng(0)
    green, town = ["wind", "solar", "river", "forest"], ["school", "museum", "street", "market"]
    topics = [i % 2 for i in range(60)]
    texts = [" ".join(rng.choice((green, town)[topic], size=12)) for topic in topics]
    labels = np.array([[8, 2] if topic == 0 else [1, 7] for topic in topics], dtype=np.float32)
    return FitData(texts[:40], labels[:40], texts[40:], labels[40:])


@settings(max_examples=25)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=4))
def test_a_direction_has_unit_length_or_is_zero(embedder: StaticEmbedder, texts: list[str]) -> None:
    lengths = np.linalg.norm(embedder.embed(texts), axis=1)

    assert np.all((np.abs(lengths - 1) < FLOAT32) | (lengths == 0))


def test_an_empty_text_gives_a_zero_row(embedder: StaticEmbedder) -> None:
    assert not embedder.embed([""]).any()


def test_the_embedding_of_a_text_does_not_depend_on_those_beside_it(embedder: StaticEmbedder, data: FitData) -> None:
    together = embedder.embed(data.val_texts)

    assert np.array_equal(together, np.concatenate([embedder.embed([text]) for text in data.val_texts]))


def test_the_order_of_words_does_not_matter_to_a_mean(embedder: StaticEmbedder) -> None:
    a, b = embedder.embed(["wind turns the mill", "mill the turns wind"])

    assert a @ b > 0.9  # not equal: a word at the beginning may be another token


def test_words_of_one_topic_lie_closer_than_words_of_another(embedder: StaticEmbedder) -> None:
    solar, panel, football = embedder.embed(["solar power plant", "photovoltaic panels", "football match result"])

    assert solar @ panel > solar @ football


def test_texts_beyond_the_window_do_not_count(embedder: StaticEmbedder) -> None:
    head_only = StaticEmbedder(Window(max_tokens=16, tail_share=0))
    words = "wind " * 16

    assert np.array_equal(head_only.embed([words]), head_only.embed([words + "school " * 50]))


def test_a_fitted_student_scores_better_than_the_mean(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path, 0, None)

    student = static.load(tmp_path, WINDOW)
    constant = np.abs(data.val_labels - data.train_labels.mean(axis=0)).mean()
    assert np.abs(student.predict(data.val_texts) - data.val_labels).mean() < 0.3 * constant


def test_the_recorded_error_is_that_on_the_validation_articles(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path, 0, None)

    record = json.loads((tmp_path / "head.json").read_text())
    error = np.abs(static.load(tmp_path, WINDOW).predict(data.val_texts) - data.val_labels).mean()
    assert record["val_mae"][record["kind"]] == pytest.approx(float(error), abs=FLOAT32)


def test_a_student_loaded_twice_gives_the_same_bits(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path, 0, None)

    first, second = (static.load(tmp_path, WINDOW).predict(data.val_texts) for _ in range(2))

    assert first.tobytes() == second.tobytes()


def test_the_same_seed_gives_the_same_files(data: FitData, tmp_path: Path) -> None:
    for name in ("a", "b"):
        static.fit(SETTINGS, WINDOW, data, tmp_path / name, 3, None)

    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second


def test_a_student_is_whole_in_its_folder(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path, 0, None)

    tuned = {"head.safetensors", "table.safetensors"}
    names = {path.name for path in tmp_path.iterdir()} - {"head.json", "words.safetensors", "tokenizer.json"}
    assert {"words": set(), "tuned": tuned}[json.loads((tmp_path / "head.json").read_text())["kind"]] == names


@pytest.mark.parametrize("kind", ["words", "tuned"])
def test_a_planned_student_has_the_kind_of_its_plan_and_a_find_head(data: FitData, tmp_path: Path, kind: str) -> None:
    whole = replace(data, val_texts=[], val_labels=data.val_labels[:0], plan=HeadPlan(kind, 10.0, 2), find_of=is_green)

    static.fit(SETTINGS, WINDOW, whole, tmp_path, 0, None)

    record = json.loads((tmp_path / "head.json").read_text())
    raw = static.load(tmp_path, WINDOW).predict(data.val_texts)
    assert (record["kind"], record["alpha"], record["epochs"], record["val_mae"]) == (kind, 10.0, 2, {})
    assert raw.shape == (20, 3)
    green = is_green(data.val_labels) >= 0
    assert raw[green, 2].min() > raw[~green, 2].max()


def test_a_tuned_student_has_three_parts_of_its_head_and_one_of_the_words_and_finds_as_the_words(
    data: FitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(name: str, kind: str) -> static.StaticStudent:
        whole = replace(data, val_texts=[], val_labels=data.val_labels[:0], plan=HeadPlan(kind, 1.0, 2))
        static.fit(SETTINGS, WINDOW, replace(whole, find_of=is_green), tmp_path / name, 0, None)
        return static.load(tmp_path / name, WINDOW)

    both, words = (planned(kind, kind).predict(data.val_texts) for kind in ("tuned", "words"))
    monkeypatch.setattr(static, "WORDS_SHARE", 0.0)
    head = planned("head", "tuned").predict(data.val_texts)

    rounding = 0.02  # of weights in int8, over a text of a dozen tokens
    np.testing.assert_allclose(both[:, :2], 0.25 * words[:, :2] + 0.75 * head[:, :2], atol=rounding)
    np.testing.assert_allclose(both[:, 2], words[:, 2], atol=rounding)


def test_a_model_of_an_earlier_version_is_refused(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path, 0, None)
    (tmp_path / "words.safetensors").unlink()

    with pytest.raises(InputError, match=r"words\.safetensors: missing, expected as this version makes it"):
        static.load(tmp_path, WINDOW)


def is_green(labels: np.ndarray) -> np.ndarray:
    """Finds: a first label of 5 and above."""
    margins: np.ndarray = labels[:, 0].astype(np.float64) - 5
    return margins


def test_the_plan_of_a_fit_makes_its_student_again_without_validation_articles(data: FitData, tmp_path: Path) -> None:
    static.fit(SETTINGS, WINDOW, data, tmp_path / "chosen", 0, None)
    record = json.loads((tmp_path / "chosen" / "head.json").read_text())
    plan = HeadPlan(record["kind"], record["alpha"], record["epochs"])

    whole = replace(data, val_texts=[], val_labels=data.val_labels[:0], plan=plan)
    static.fit(SETTINGS, WINDOW, whole, tmp_path / "planned", 0, None)

    planned, chosen = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("planned", "chosen"))
    assert {**planned, "head.json": b""} == {**chosen, "head.json": b""}


def test_the_spec_chooses_the_static_backend(spec: FilterSpec, data: FitData, tmp_path: Path) -> None:
    chosen = apply_overrides(spec, {"student.backend": "static", "student.window.max_tokens": 32})

    fit_student(chosen, data, tmp_path, 0, None)

    assert load_student(chosen, tmp_path).predict(data.val_texts).shape == (20, 2)


def test_the_spec_chooses_the_static_embedder() -> None:
    found = open_embedder(ProbeSettings(embedder="static", window=WINDOW))

    assert isinstance(found, StaticEmbedder)
    assert found.window.window == WINDOW


def test_a_missing_torch_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "distillery_trainer.neural.embedder", raising=False)

    with pytest.raises(ProviderError, match=r"torch is not installed.*distillery-trainer\[torch\].*--backend static"):
        import_torch_side("distillery_trainer.neural.embedder")
