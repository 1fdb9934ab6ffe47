"""A calibration in a graph equals the runtime's, which is numpy.interp."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.ports import save_scorer
from distillery_exporter.graphs.tables import replace_calibration
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, ReadOut, identity

# The graph's float32 output is within half a unit in the last place of a float64 score of at most 10.
TOLERANCE = 1e-6
OUTPUTS = ("raw", "expected", "scores")
KINDS = ("plain", "duplicates", "steps", "single", "float32")


def answers(path: Path, calibration: Calibration, raw: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    g = GraphBuilder(path)
    names = [one.dimension for one in calibration.maps]
    save_scorer(g, [Port("x", np.float32, ("batch", len(names)))], "x", ReadOut(calibration, identity(names)))
    return Graph(path, ["x"], OUTPUTS, "cpu", 1).run({"x": raw})


def means(path: Path, calibration: Calibration, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    return answers(path, calibration, raw)["expected"]


def random_map(rng: np.random.Generator, kind: str) -> CalibrationMap:
    count = 1 if kind == "single" else int(rng.integers(1, 120))
    x, y = np.sort(rng.uniform(-3, 12, count)), np.sort(rng.uniform(0, 10, count))
    if kind in ("duplicates", "float32"):  # so that a float32 value can hit a knot exactly
        x = x.astype(np.float32).astype(np.float64)
    if kind == "duplicates" and count > 4:
        x[count // 2], x[1], x[-1] = x[count // 2 - 1], x[0], x[-2]
    if kind == "steps" and count > 4:
        x = np.sort(np.concatenate([x[: count // 2], np.nextafter(np.float32(x), np.float32(99))[count // 2 :]]))
        x[count // 2] = np.nextafter(x[count // 2 - 1], 99)
        x[-1] = np.nextafter(np.float32(x[-2]), np.float32(99))
    return CalibrationMap(dimension="d", method="isotonic", x=tuple(np.sort(x).tolist()), y=tuple(y.tolist()))


def telling_values(rng: np.random.Generator, calibration: Calibration) -> NDArray[np.float32]:
    """Random values, every knot, the float32 values beside it, and values far beyond the ends."""
    columns = []
    for m in calibration.maps:
        knots = np.float32(m.x)
        beside = [np.nextafter(knots, np.float32(side)) for side in (-99, 99)]
        column = np.concatenate(
            [knots, *beside, np.float32([1e30, -1e30]), rng.uniform(-5, 15, 362).astype(np.float32)]
        )
        columns.append(column[:362])
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_follows_interp_for_random_calibrators(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    worst = 0.0
    for _ in range(12):
        calibration = Calibration(tuple(random_map(rng, kind) for _ in range(int(rng.integers(1, 10)))))
        raw = telling_values(rng, calibration)
        found = means(tmp_path / "scores.onnx", calibration, raw)
        exact = np.stack([np.interp(raw[:, i].astype(np.float64), m.x, m.y) for i, m in enumerate(calibration.maps)], 1)
        worst = max(worst, float(np.abs(found - exact).max()))
        assert found.min() >= 0
        assert found.max() <= 10

    assert worst <= TOLERANCE


def test_identity_clips_to_the_range_of_scores(tmp_path: Path) -> None:
    raw = np.array([[-3.0], [0.0], [4.25], [10.0], [11.0]], dtype=np.float32)

    found = means(tmp_path / "scores.onnx", identity(["d"]), raw)

    np.testing.assert_allclose(found[:, 0], [0, 0, 4.25, 10, 10], atol=TOLERANCE)


def test_a_step_is_exact_on_both_sides(tmp_path: Path) -> None:
    step = CalibrationMap(dimension="d", method="isotonic", x=(0.0, 5.0, 5.0, 9.0), y=(1.0, 2.0, 8.0, 9.0))
    below = np.nextafter(np.float32(5), np.float32(0))

    found = means(tmp_path / "scores.onnx", Calibration((step,)), np.array([[below], [5.0]], dtype=np.float32))

    np.testing.assert_allclose(found[:, 0], [2, 8], atol=TOLERANCE)


def test_knots_too_close_for_a_slope_give_no_nan(tmp_path: Path) -> None:
    close = CalibrationMap(dimension="d", method="isotonic", x=(0.0, 5e-324), y=(1.0, 9.0))

    found = means(tmp_path / "scores.onnx", Calibration((close,)), np.array([[-1.0], [0.0], [1.0]], dtype=np.float32))

    np.testing.assert_allclose(found[:, 0], [1, 1, 9], atol=TOLERANCE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_raw_output_that_is_not_finite_never_becomes_a_score(tmp_path: Path, value: float) -> None:
    found = answers(tmp_path / "scores.onnx", identity(["d"]), np.array([[value]], dtype=np.float32))

    assert np.isnan(found["expected"]).all()
    assert np.isnan(found["scores"]).all()


def test_a_written_graph_takes_another_calibration_of_as_many_knots(tmp_path: Path) -> None:
    old = CalibrationMap(dimension="d", method="isotonic", x=(0.0, 5.0, 9.0), y=(1.0, 2.0, 9.0))
    new = Calibration((CalibrationMap(dimension="d", method="isotonic", x=(1.0, 4.0, 8.0), y=(0.0, 3.0, 7.0)),))
    raw = np.linspace(-1, 10, 23, dtype=np.float32)[:, None]
    before = means(tmp_path / "scores.onnx", Calibration((old,)), raw)

    replace_calibration(tmp_path / "scores.onnx", new)

    after = Graph(tmp_path / "scores.onnx", ["x"], OUTPUTS, "cpu", 1).run({"x": raw})["expected"]
    np.testing.assert_allclose(after, new.apply(raw), atol=TOLERANCE)
    assert not np.allclose(after, before)


def test_a_calibration_of_other_knots_is_not_put_into_a_written_graph(tmp_path: Path) -> None:
    means(tmp_path / "scores.onnx", identity(["d"]), np.zeros((1, 1), dtype=np.float32))
    other = CalibrationMap(dimension="d", method="isotonic", x=(0.0, 5.0, 9.0), y=(1.0, 2.0, 9.0))
    written = (tmp_path / "scores.onnx").read_bytes()

    with pytest.raises(ValueError, match="calibration_edges"):
        replace_calibration(tmp_path / "scores.onnx", Calibration((other,)))

    assert (tmp_path / "scores.onnx").read_bytes() == written
