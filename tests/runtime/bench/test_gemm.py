"""The hand-written graphs are valid ONNX, and multiply as numpy does."""

import numpy as np
import pytest

from distillery_runtime.bench import gemm
from distillery_runtime.bench.gemm import Gemm, Kind, gemm_model, operands

SHAPE = (3, 200, 70)  # widths that need a varint of more than one byte

# A sum of 200 float16 products, each rounded to 11 bits.
TOLERANCE = {"fp32": 1e-4, "int8": 0.0, "fp16": 0.1}


@pytest.mark.parametrize("kind", ["fp32", "int8", "fp16"])
def test_a_product_is_that_of_numpy(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    monkeypatch.setattr(gemm, "CPU_SHAPE", SHAPE)
    activations, weights = operands(kind, SHAPE)
    exact = np.int64 if kind == "int8" else np.float64

    product = Gemm(kind, "cpu", 1)
    product.run()

    expected = activations.astype(exact) @ weights.astype(exact)
    np.testing.assert_allclose(product.product().astype(exact), expected, rtol=0, atol=TOLERANCE[kind])
    assert product.operations == 2 * 3 * 200 * 70


@pytest.mark.parametrize("kind", ["fp32", "int8", "fp16"])
def test_the_graph_is_valid_onnx(kind: Kind) -> None:
    onnx = pytest.importorskip("onnx")
    _, weights = operands(kind, SHAPE)

    model = onnx.load_from_string(gemm_model(kind, weights))

    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), weights)
