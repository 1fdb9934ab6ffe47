"""The head's graph equals the same sums in numpy."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from distillery_exporter.graphs.head import Layer, build_head
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, ReadOut, identity
from distillery_trainer.models.heads import Head

RNG = np.random.default_rng(7)
MEAN, SCALE = RNG.standard_normal(12), RNG.uniform(0.5, 2, 12)
CLIPS = ReadOut(identity("abc"), identity("abc"))
POOLED = RNG.standard_normal((5, 12)).astype(np.float32)


def layers(*widths: int) -> list[Layer]:
    return [
        (RNG.standard_normal((after, before)) / 3, RNG.standard_normal(after)) for before, after in pairwise(widths)
    ]


@pytest.mark.parametrize("widths", [(12, 3), (12, 8, 3), (12, 9, 7, 3)])
def test_a_head_equals_numpy(tmp_path: Path, widths: tuple[int, ...]) -> None:
    stack = layers(*widths)
    files = build_head(tmp_path / "head.onnx", MEAN, SCALE, stack, CLIPS)

    found = Graph(tmp_path / "head.onnx", ["pooled"], ["raw", "expected", "scores"], "cpu", 1).run({"pooled": POOLED})

    expected = (POOLED - MEAN) / SCALE
    for index, (weights, bias) in enumerate(stack):
        expected = (np.maximum(expected, 0) if index else expected) @ weights.T + bias
    assert files == (tmp_path / "head.onnx",)
    np.testing.assert_allclose(found["raw"], expected, atol=1e-5)
    np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=1e-5)


def test_a_find_heads_logit_is_the_last_raw_output_and_changes_no_score(tmp_path: Path) -> None:
    stack, find = layers(12, 8, 3), layers(12, 1)[0]
    for name, own in (("with", find), ("without", None)):
        build_head(tmp_path / f"{name}.onnx", MEAN, SCALE, stack, CLIPS, find=own)

    found, bare = (
        Graph(tmp_path / f"{name}.onnx", ["pooled"], ["raw", "expected", "scores"], "cpu", 1).run({"pooled": POOLED})
        for name in ("with", "without")
    )

    logit = (POOLED - MEAN) / SCALE @ find[0].T + find[1]
    np.testing.assert_allclose(found["raw"], np.concatenate([bare["raw"], logit], axis=1), atol=1e-5)
    for output in ("expected", "scores"):
        np.testing.assert_array_equal(found[output], bare[output])


def test_one_output_more_than_maps_is_a_find_logit(tmp_path: Path) -> None:
    stack = layers(12, 8, 4)
    head = Head(MEAN, SCALE, tuple(stack))
    build_head(tmp_path / "head.onnx", MEAN, SCALE, stack, CLIPS)

    found = Graph(tmp_path / "head.onnx", ["pooled"], ["raw", "expected", "scores"], "cpu", 1).run({"pooled": POOLED})

    np.testing.assert_allclose(found["raw"], head.predict(POOLED), atol=1e-5)
    np.testing.assert_allclose(found["scores"], np.clip(found["raw"][:, :3], 0, 10), atol=1e-5)


def test_scores_are_the_steps_of_the_graphs_own_means(tmp_path: Path) -> None:
    x, y = (0.0, 1.0, 2.0, 10.0), (0.0, 0.0, 3.0, 3.0)
    steps = Calibration(tuple(CalibrationMap(dimension=n, method="step_median", x=x, y=y) for n in "abc"))
    read_out = ReadOut(identity("abc"), steps)
    build_head(tmp_path / "head.onnx", MEAN, SCALE, layers(12, 3), read_out)

    found = Graph(tmp_path / "head.onnx", ["pooled"], ["raw", "expected", "scores"], "cpu", 1).run({"pooled": POOLED})

    np.testing.assert_allclose(found["expected"], np.clip(found["raw"], 0, 10), atol=1e-6)
    np.testing.assert_allclose(found["scores"], np.interp(found["expected"], x, y), atol=1e-6)
    assert read_out.differences(found["raw"], found["expected"], found["scores"]).max() < 1e-6


def test_a_layer_of_the_wrong_width_and_a_zero_scale_are_listed_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        build_head(tmp_path / "head.onnx", MEAN, SCALE * 0, [*layers(12, 8), *layers(9, 3)], CLIPS)

    assert [problem.path for problem in error.value.problems] == ["scale", "layers[1]"]


def test_a_calibration_for_another_number_of_dimensions_is_refused(tmp_path: Path) -> None:
    for outputs in (1, 4):
        with pytest.raises(InputError, match=rf"layers\[-1\]: {outputs} outputs, expected 2"):
            build_head(
                tmp_path / "head.onnx", MEAN, SCALE, layers(12, outputs), ReadOut(identity("ab"), identity("ab"))
            )
