"""A static student's graph equals the same sums in numpy, and keeps its tables in int8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.token_table import Table, build_static_regressor
from distillery_exporter.variants.models import static_student
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.spec.model import StaticSettings, Window
from distillery_trainer.models import static
from distillery_trainer.models.heads import Head
from distillery_trainer.models.protocol import FitData, HeadPlan
from distillery_trainer.models.word_weights import WordWeights

RNG = np.random.default_rng(3)
SCALE = RNG.uniform(0.001, 0.02, 50).astype(np.float32)
SCALE[4] = 0  # a token that nobody knows
TABLE: Table = (RNG.integers(-127, 128, (50, 16)).astype(np.int8), SCALE)
WORDS = WordWeights(RNG.integers(-127, 128, (50, 3)).astype(np.int8), SCALE, np.array([3, 4, -1], np.float32))
HEAD = Head(
    RNG.normal(size=16).astype(np.float32),
    RNG.uniform(0.5, 2, 16).astype(np.float32),
    (
        (RNG.normal(size=(8, 16)).astype(np.float32), RNG.normal(size=8).astype(np.float32)),
        (RNG.normal(size=(3, 8)).astype(np.float32), RNG.normal(size=3).astype(np.float32)),
    ),
)
AS_IT_IS = ReadOut(identity("ab"), identity("ab"))
IDS = np.array([[4, 9, 9, 31, 2], [7, 49, 0, 0, 0], [0, 0, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
TOLERANCE = 1e-5  # sums of a few units in another order: a few float32 roundings


def texts() -> list[NDArray[np.int64]]:
    return [row[mask == 1] for row, mask in zip(IDS, MASK, strict=True)]


def directions() -> NDArray[np.float32]:
    """The mean of each text's rows at unit length."""
    means = [(TABLE[0][own].astype(np.float64) * SCALE[own, None]).mean(axis=0) for own in texts()]
    return np.stack([mean / max(np.linalg.norm(mean), 1e-12) for mean in means]).astype(np.float32)


def raw(path: Path, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    graph = Graph(path, ["input_ids", "attention_mask"], ["raw", "expected", "scores"], "cpu", 1)
    return graph.run({"input_ids": ids, "attention_mask": mask})["raw"]


def test_word_weights_are_summed_over_the_square_root_of_the_tokens(tmp_path: Path) -> None:
    build_static_regressor(tmp_path / "static.onnx", WORDS, AS_IT_IS)

    rows = WORDS.table.astype(np.float64) * SCALE[:, None]
    expected = [rows[own].sum(axis=0) / np.sqrt(len(own)) + WORDS.bias for own in texts()]
    np.testing.assert_allclose(raw(tmp_path / "static.onnx", IDS, MASK), expected, atol=TOLERANCE)
    np.testing.assert_allclose(WORDS.predict(texts()), expected, atol=TOLERANCE)


def test_a_tuned_student_adds_a_head_on_the_mean_direction(tmp_path: Path) -> None:
    build_static_regressor(tmp_path / "static.onnx", WORDS, AS_IT_IS, (TABLE, HEAD))

    found = raw(tmp_path / "static.onnx", IDS, MASK)

    np.testing.assert_allclose(found, WORDS.predict(texts()) + HEAD.predict(directions()), atol=TOLERANCE)


@pytest.mark.parametrize("tuned", [None, (TABLE, HEAD)])
def test_padding_changes_nothing(tmp_path: Path, tuned: tuple[Table, Head] | None) -> None:
    build_static_regressor(tmp_path / "static.onnx", WORDS, AS_IT_IS, tuned)

    together = raw(tmp_path / "static.onnx", IDS, MASK)
    alone = raw(tmp_path / "static.onnx", IDS[1:2, :3], MASK[1:2, :3])

    np.testing.assert_allclose(together[1:2], alone, atol=TOLERANCE)


def test_a_text_of_no_token_gives_what_all_texts_begin_with(tmp_path: Path) -> None:
    build_static_regressor(tmp_path / "static.onnx", WORDS, AS_IT_IS)

    found = raw(tmp_path / "static.onnx", np.array([[4, 4], [7, 7]]), np.array([[1, 1], [0, 0]]))

    np.testing.assert_array_equal(found, np.stack([WORDS.bias, WORDS.bias]))


def test_the_table_takes_one_byte_a_value(tmp_path: Path) -> None:
    table, zeros = np.tile(TABLE[0], (200, 4)), np.zeros(64, np.float32)
    head = Head(zeros, zeros + 1, ((np.zeros((3, 64), np.float32), np.zeros(3, np.float32)),))

    words = WordWeights(np.tile(WORDS.table, (200, 1)), np.tile(SCALE, 200), WORDS.bias)

    files = build_static_regressor(tmp_path / "static.onnx", words, AS_IT_IS, ((table, words.scale), head))

    assert files == (tmp_path / "static.onnx",)
    values = table.size + words.table.size
    assert values < files[0].stat().st_size < 1.2 * values


@pytest.mark.parametrize(
    "tuned",
    [
        ((TABLE[0], SCALE[:-1]), HEAD),
        ((TABLE[0][:-1], SCALE[:-1]), HEAD),  # of other tokens than the words
        ((TABLE[0][:, :8], SCALE), HEAD),
        (TABLE, replace(HEAD, layers=HEAD.layers[:1])),  # 8 outputs
        (TABLE, replace(HEAD, layers=((np.ones((1, 16), np.float32), np.ones(1, np.float32)),))),  # one for all
    ],
)
def test_a_table_and_a_head_that_do_not_fit_are_refused(tmp_path: Path, tuned: tuple[Table, Head]) -> None:
    with pytest.raises(InputError, match="static table"):
        build_static_regressor(tmp_path / "static.onnx", WORDS, AS_IT_IS, tuned)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["words", "tuned"])
def test_the_graph_of_a_fitted_student_says_what_the_student_says(tmp_path: Path, kind: str) -> None:
    texts = [" ".join(RNG.choice(["wind", "solar", "school", "street"], 9)) for _ in range(30)]
    labels = RNG.uniform(0, 10, (30, 2)).astype(np.float32)
    window, plan = Window(max_tokens=32), HeadPlan(kind, 1.0, 2)
    data = FitData(texts, labels, [], labels[:0], find_of=lambda given: given[:, 0] - np.float64(5), plan=plan)
    static.fit(StaticSettings(hidden=(8,)), window, data, tmp_path / "student", 0, None)

    static_student(tmp_path / "student", window).write(tmp_path / "static.onnx", "fp32", AS_IT_IS)

    own = static.load(tmp_path / "student", window)
    for text in [*texts, "", "\u2603"]:
        ids = own.window.encode([text])[0].ids[None]
        found = raw(tmp_path / "static.onnx", ids, np.ones_like(ids))
        np.testing.assert_allclose(found, own.predict([text]), atol=TOLERANCE)
