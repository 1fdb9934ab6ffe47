"""Shape buckets and kept buffers, on the CPU device with the code that runs on CUDA."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime import ModelError, ProviderError
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_runtime.models import cuda
from distillery_runtime.models.cuda import BoundSession, bucket_batches, bucket_rows, bucket_tokens, open_on_cuda
from distillery_runtime.models.cuda import pad_to_bucket as padded
from distillery_runtime.models.session import Graph, session_options
from distillery_runtime.tokens.window import TokenIds

FIXTURE = Path(__file__).parents[2] / "fixtures" / "bundle-v1"
STUDENT = FIXTURE / "student" / "cpu-fp32.onnx"
OUTPUTS = ("raw", "scores")


def rows_of(*lengths: int) -> list[TokenIds]:
    generator = np.random.default_rng(sum(lengths))
    return [TokenIds(generator.integers(1, 60, length), False) for length in lengths]


def arrays_of(*lengths: int) -> dict[str, Any]:
    return dict(zip(("input_ids", "attention_mask"), padded(rows_of(*lengths), 32), strict=True))


@pytest.fixture
def session() -> ort.InferenceSession:
    return ort.InferenceSession(str(STUDENT), session_options(1), providers=["CPUExecutionProvider"])


@given(st.integers(1, 4096), st.integers(0, 4096))
def test_a_bucket_holds_its_row_and_never_exceeds_the_window(length: int, more: int) -> None:
    window = length + more

    bucket = bucket_tokens(length, window)

    assert length <= bucket <= window
    assert bucket == bucket_tokens(bucket, window)


@given(st.integers(49, 2048))
def test_a_row_of_49_tokens_or_more_is_padded_by_a_third_at_most(length: int) -> None:
    assert bucket_tokens(length, 2048) - length <= bucket_tokens(length, 2048) / 3


@given(st.integers(1, 1000))
def test_a_batch_is_filled_up_to_the_next_power_of_two(count: int) -> None:
    assert count <= bucket_rows(count) < 2 * count or count == 1
    assert bucket_rows(count) & (bucket_rows(count) - 1) == 0


@given(st.lists(st.integers(1, 64), min_size=1, max_size=200), st.integers(1, 512))
def test_batches_hold_every_row_once_and_stay_within_the_budget_when_filled_up(lengths: list[int], budget: int) -> None:
    batches = bucket_batches(lengths, 64, budget)

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        (tokens,) = {bucket_tokens(lengths[index], 64) for index in batch}
        assert len(batch) == 1 or bucket_rows(len(batch)) * tokens <= budget


@given(st.lists(st.integers(1, 32), min_size=1, max_size=9))
def test_padding_keeps_every_row_and_leaves_no_mask_empty(lengths: list[int]) -> None:
    rows = rows_of(*lengths)

    input_ids, mask = padded(rows, 32)

    assert input_ids.shape == mask.shape == (bucket_rows(len(rows)), bucket_tokens(max(lengths), 32))
    assert mask.sum(axis=1).tolist() == [*lengths, *[1] * (len(mask) - len(rows))]
    for row, ids in zip(rows, input_ids, strict=False):
        np.testing.assert_array_equal(ids[: len(row.ids)], row.ids)


@pytest.mark.parametrize("record", [True, False])
def test_bound_buffers_give_what_a_plain_run_gives_in_any_order_of_shapes(
    session: ort.InferenceSession, record: bool
) -> None:
    bound = BoundSession(session, OUTPUTS, "cpu", record)

    for lengths in ([5], [32, 1], [7], [30, 20], [16], [3, 3, 3], [9]):
        inputs = arrays_of(*lengths)
        found = bound.run(inputs)

        for name, expected in zip(OUTPUTS, session.run(OUTPUTS, inputs), strict=True):
            np.testing.assert_array_equal(found[name], expected)


def test_outputs_are_not_overwritten_by_the_next_run(session: ort.InferenceSession) -> None:
    bound = BoundSession(session, OUTPUTS, "cpu", True)
    bound.run(arrays_of(5))
    first = bound.run(arrays_of(6))["raw"]
    kept = first.copy()

    bound.run(arrays_of(7))

    np.testing.assert_array_equal(first, kept)


def test_a_session_whose_replays_keep_old_values_goes_back_to_plain_runs_and_says_so(
    session: ort.InferenceSession, caplog: pytest.LogCaptureFixture
) -> None:
    """What a recording would do that holds values of the run it was recorded in."""
    recorded = 0

    def stale(binding: ort.IOBinding, options: ort.RunOptions, run: Callable[..., None]) -> None:
        nonlocal recorded
        if options.get_run_config_entry("gpu_graph_id") != "-1":
            recorded += 1
            if recorded > cuda.RUNS_TO_RECORD:
                return
        run(binding, options)

    check_fallback(session, stale, caplog, "other numbers")


def test_a_session_that_cannot_record_goes_back_to_plain_runs_and_says_so(
    session: ort.InferenceSession, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(binding: ort.IOBinding, options: ort.RunOptions, run: Callable[..., None]) -> None:
        if options.get_run_config_entry("gpu_graph_id") != "-1":
            raise RuntimeError("operation not permitted when stream is capturing")
        run(binding, options)

    check_fallback(session, refuses, caplog, "not permitted")


def check_fallback(
    session: ort.InferenceSession, behaviour: Callable[..., None], caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    run = session.run_with_iobinding
    session.run_with_iobinding = lambda binding, options=None: behaviour(binding, options, run)
    bound = BoundSession(session, OUTPUTS, "cpu", True)

    with caplog.at_level(logging.WARNING):
        found = [bound.run(arrays_of(length))["raw"] for length in (5, 9, 20)]

    expected = [session.run(["raw"], arrays_of(length))[0] for length in (5, 9, 20)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert len(caplog.records) == 1
    assert reason in caplog.records[0].__dict__["error"]


def test_shapes_beyond_the_limit_run_without_kept_buffers(
    session: ort.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "MAX_RECORDED", 2)
    bound = BoundSession(session, OUTPUTS, "cpu", True)

    found = [bound.run(arrays_of(*[4] * count))["raw"][0] for count in (1, 2, 4, 8, 1)]

    assert len(bound._recordings) == 2
    assert len({array.tobytes() for array in (found[0], found[4])}) == 1


def test_a_stage_on_buckets_answers_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of a CUDA stage, on the CPU device: buckets, dummy rows, kept buffers, the order of rows."""
    texts = [" ".join(["wind heat pump solar", "grid lake"][i % 2] for _ in range(i)) or "a" for i in range(40)]
    plain = open_stages(open_bundle(FIXTURE), "cpu", 1)
    expected = [stage.run(stage.window.encode(texts)) for stage in plain]

    for stage, answer in zip(open_stages(open_bundle(FIXTURE), "cpu", 1), expected, strict=True):
        bind(stage.graphs[0], monkeypatch)
        rows = stage.window.encode(texts)
        found = stage.run(rows)

        np.testing.assert_allclose(found.raw, answer.raw, atol=1e-5)
        np.testing.assert_allclose(stage.run_batch(rows[5:8]).scores, answer.scores[5:8], atol=1e-5)


def bind(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a graph on the CPU run as one on CUDA does."""
    monkeypatch.setattr(graph, "provider", "cuda")
    monkeypatch.setattr(graph, "_bound", BoundSession(graph._session, graph._outputs, "cpu", True))


def test_inputs_that_the_graph_refuses_are_a_model_error_on_bound_buffers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(STUDENT, ("input_ids", "attention_mask"), OUTPUTS, "cpu", 1)
    bind(graph, monkeypatch)

    with pytest.raises(ModelError, match=r"cpu-fp32\.onnx"):
        graph.run({"input_ids": np.zeros((1, 2), np.float32), "attention_mask": np.ones((1, 2), np.int64)})


def test_cuda_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    if cuda.cuda_is_installed():
        pytest.skip("CUDA may work here")
    monkeypatch.setattr(cuda, "cuda_is_installed", lambda: True)

    with (
        pytest.warns(UserWarning, match="not in available provider"),
        pytest.raises(ProviderError, match="did not start"),
    ):
        open_on_cuda(STUDENT, session_options(1))


def test_a_session_that_cannot_be_made_is_an_error_that_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime's own fallback prints and goes on with the CPU."""
    monkeypatch.setattr(cuda, "cuda_is_installed", lambda: True)
    monkeypatch.setattr(cuda, "CUDA", 5)  # a provider that onnxruntime refuses before it starts anything

    with pytest.raises(ProviderError, match="cannot use CUDA here"):
        open_on_cuda(STUDENT, session_options(1))

    assert capsys.readouterr().out == ""
