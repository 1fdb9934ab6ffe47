"""The head's graph equals the same sums in numpy."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from distillery_exporter.graphs.head import Layer, build_head
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import identity

RNG = np.random.default_rng(7)
MEAN, SCALE = RNG.standard_normal(12), RNG.uniform(0.5, 2, 12)
POOLED = RNG.standard_normal((5, 12)).astype(np.float32)


def layers(*widths: int) -> list[Layer]:
    return [
        (RNG.standard_normal((after, before)) / 3, RNG.standard_normal(after)) for before, after in pairwise(widths)
    ]


@pytest.mark.parametrize("widths", [(12, 3), (12, 8, 3), (12, 9, 7, 3)])
def test_a_head_equals_numpy(tmp_path: Path, widths: tuple[int, ...]) -> None:
    stack = layers(*widths)
    files = build_head(tmp_path / "head.onnx", MEAN, SCALE, stack, identity("abc"))

    found = Graph(tmp_path / "head.onnx", ["pooled"], ["raw", "scores"], "cpu", 1).run({"pooled": POOLED})

    expected = (POOLED - MEAN) / SCALE
    for index, (weights, bias) in enumerate(stack):
        expected = (np.maximum(expected, 0) if index else expected) @ weights.T + bias
    assert files == (tmp_path / "head.onnx",)
    np.testing.assert_allclose(found["raw"], expected, atol=1e-5)
    np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=1e-5)


def test_a_layer_of_the_wrong_width_and_a_zero_scale_are_listed_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        build_head(tmp_path / "head.onnx", MEAN, SCALE * 0, [*layers(12, 8), *layers(9, 3)], identity("abc"))

    assert [problem.path for problem in error.value.problems] == ["scale", "layers[1]"]


def test_a_calibration_for_another_number_of_dimensions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"layers\[-1\]: 3 outputs, expected 2"):
        build_head(tmp_path / "head.onnx", MEAN, SCALE, layers(12, 3), identity("ab"))
