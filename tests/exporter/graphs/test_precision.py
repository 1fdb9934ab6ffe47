"""Rounding weights: to rows with a scale each, and to blocks of four bits as onnxruntime reads them."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.ports import IDS
from distillery_exporter.graphs.precision import Int4, RowInt8, quantise_blocks, quantise_rows, scaled
from distillery_runtime.models.cpu import sums_bytes_exactly
from distillery_runtime.models.session import Graph, session_options


def test_rows_are_rounded_by_at_most_half_a_step() -> None:
    array = np.random.default_rng(0).standard_normal((7, 50)).astype(np.float32)
    array[3] = 0

    values, scales = quantise_rows(array, 63)

    assert np.abs(values).max() == 63
    assert np.all(np.abs(values * scales - array) <= scales * 0.5001)


@pytest.mark.parametrize("width", [32, 48, 7])
def test_blocks_are_what_onnxruntime_reads(tmp_path: Path, width: int) -> None:
    weight = np.random.default_rng(1).standard_normal((5, width)).astype(np.float32)
    blocks, scales = quantise_blocks(weight)
    low_high = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(5, -1, 32).astype(np.float32)
    restored = ((low_high - 8) * scales.reshape(5, -1, 1)).reshape(5, -1)[:, :width]

    g = GraphBuilder(tmp_path / "g.onnx")
    states = g.op("Gather", [g.init(np.eye(width, dtype=np.float32)), IDS])
    product = Int4().products(g, "", Int4().rows(g, "", states, width), [weight])[0]
    port = Port(IDS, np.int64, ("batch", "tokens"))
    g.save([port], [(product, Port("y", np.float32, ("batch", "tokens", 5)))])
    found = Graph(tmp_path / "g.onnx", [IDS], ["y"], "cpu", 1).run({IDS: np.arange(width)[None]})["y"][0]

    np.testing.assert_allclose(found, restored.T, atol=1e-5)
    assert np.abs(restored - weight).max() <= np.abs(scales).max() * 1.001


ROUNDING_OF_64 = 0.5  # of sums of 64 products of normal numbers, all rounded to 8 bits; an overflow is 1 or more


def test_unsigned_weights_give_the_same_int8_answers(tmp_path: Path) -> None:
    """What `session_options` asks of onnxruntime where bytes' products overflow, which they do without it there."""
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal((size, 64)).astype(np.float32) for size in (5, 3)]
    g, int8 = GraphBuilder(tmp_path / "g.onnx"), RowInt8()
    table = rng.standard_normal((9, 64)).astype(np.float32)
    rows = int8.rows(g, "", g.op("Gather", [g.init(table), IDS]), 64)
    products = [scaled(g, product, rows) for product in int8.products(g, "", rows, weights)]
    ports = [Port(f"y{i}", np.float32, ("batch", "tokens", len(weight))) for i, weight in enumerate(weights)]
    g.save([Port(IDS, np.int64, ("batch", "tokens"))], list(zip(products, ports, strict=True)))

    def answer(guard: str) -> list[NDArray[np.float32]]:
        options = ort.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", guard)
        return ort.InferenceSession(str(tmp_path / "g.onnx"), options).run(None, {IDS: np.arange(9)[None]})

    for signed, unsigned, weight in zip(answer("0"), answer("1"), weights, strict=True):
        assert np.abs(unsigned[0] - table @ weight.T).max() < ROUNDING_OF_64
        if sums_bytes_exactly():
            np.testing.assert_allclose(unsigned, signed, rtol=1e-6)


def test_rows_after_a_gelu_are_rounded_half_as_much_with_its_zero_point(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inner = rng.normal(0, 2, (40, 64))
    table = (inner * ndtr(inner)).astype(np.float32)  # x Phi(x): Hendrycks & Gimpel 2016, arXiv 1606.08415

    def error(after_gelu: bool) -> float:
        path = tmp_path / f"{after_gelu}.onnx"
        g, int8 = GraphBuilder(path), RowInt8()
        rows = int8.rows(g, "", g.op("Gather", [g.init(table), IDS]), 64, after_gelu)
        product = scaled(g, int8.products(g, "", rows, [np.eye(64, dtype=np.float32)])[0], rows)
        g.save([Port(IDS, np.int64, ("batch", "tokens"))], [(product, Port("y", np.float32, ("batch", "tokens", 64)))])
        session = ort.InferenceSession(str(path), session_options(1))
        return float(np.abs(session.run(None, {IDS: np.arange(40)[None]})[0][0] - table).mean())

    assert error(after_gelu=True) < 0.6 * error(after_gelu=False)
