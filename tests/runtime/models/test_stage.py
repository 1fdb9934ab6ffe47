"""Stages: rows in any number and order, chains of two graphs, and the variant that fits."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime import BundleError, ModelError, ProviderError
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_runtime.format.manifest import StageEntry, VariantEntry
from distillery_runtime.models import stage as module
from distillery_runtime.models.shared import Shared
from distillery_runtime.models.stage import Stage, open_stage

TEXTS = ["wind " * (i % 7 + 1) + "heat pump " * (i % 5) for i in range(60)]


@pytest.fixture
def stages(bundle: Path) -> list[Stage]:
    return open_stages(open_bundle(bundle), "cpu", 1)


def entry_with(bundle: Path, *names: str) -> StageEntry:
    """The fixture's student, shipped as these variants, all by its one graph."""
    entry = open_bundle(bundle).manifest.stages[1]
    variants = tuple(VariantEntry(name=name, graphs=entry.variants[0].graphs) for name in names)
    return entry.model_copy(update={"variants": variants})


def test_an_answer_depends_on_no_other_row(stages: list[Stage]) -> None:
    for stage in stages:
        rows = stage.window.encode(TEXTS)
        together = stage.run(rows)

        alone = [stage.run([row]) for row in rows]

        np.testing.assert_allclose(together.raw, np.concatenate([output.raw for output in alone]), atol=1e-4)
        np.testing.assert_allclose(together.scores, np.concatenate([output.scores for output in alone]), atol=1e-4)


def test_a_batch_gives_what_batches_of_similar_length_give(stages: list[Stage]) -> None:
    for stage in stages:
        rows = stage.window.encode(TEXTS)

        np.testing.assert_allclose(stage.run_batch(rows).raw, stage.run(rows).raw, atol=1e-4)


def test_pooling_then_answering_is_running(stages: list[Stage]) -> None:
    probe = stages[0]
    rows = probe.window.encode(TEXTS)

    pooled = probe.pool(rows)
    output = probe.answer(pooled)

    assert (pooled.dtype, len(pooled), len(probe.graphs)) == (np.float32, len(rows), 2)
    np.testing.assert_array_equal(output.raw, probe.run(rows).raw)
    np.testing.assert_array_equal(output.scores, probe.run(rows).scores)


class Fixed:
    """A graph that gives what it is told."""

    provider = "cpu"

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def run(self, inputs: object) -> dict[str, Any]:
        return self.values


ONE = np.ones((1, 2), np.float32)


@pytest.mark.parametrize(
    "values",
    [
        {"raw": ONE * np.nan, "scores": ONE},
        {"raw": ONE, "scores": ONE * np.inf},
        {"raw": np.ones((2, 2), np.float32), "scores": np.ones((2, 2), np.float32)},
        {"raw": np.ones(2, np.float32), "scores": np.ones(2, np.float32)},
        {"raw": ONE, "scores": np.ones((1, 3), np.float32)},
    ],
)
def test_values_that_are_no_scores_are_an_error_of_the_stage(
    stages: list[Stage], monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    monkeypatch.setattr(stages[1], "graphs", (Fixed(values),))

    with pytest.raises(ModelError, match="stage student, variant cpu-fp32"):
        stages[1].run(stages[1].window.encode(["wind"]))


def test_a_pooled_state_that_is_not_finite_is_an_error_even_where_the_head_would_hide_it(
    stages: list[Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = Fixed({"pooled": np.full((1, 8), np.nan, np.float32)})
    monkeypatch.setattr(stages[0], "graphs", (hidden, Fixed({"raw": ONE, "scores": ONE})))
    rows = stages[0].window.encode(["wind"])

    for answer in (stages[0].run, stages[0].run_batch, stages[0].pool):
        with pytest.raises(ModelError, match="not finite"):
            answer(rows)


def test_the_best_variant_is_opened_and_the_reason_is_kept_and_logged(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = entry_with(bundle, "cpu-fp32", "future-fp4", "cpu-int8")

    with caplog.at_level(logging.INFO, logger=module.__name__):
        stage = open_stage(bundle, entry, "auto", 1, None, Shared())

    (record,) = [record.__dict__ for record in caplog.records if record.getMessage() == "stage opened"]
    assert (stage.variant, stage.provider) == ("cpu-int8", "cpu")
    assert stage.reason.startswith("cpu-int8: fastest on a CPU")
    assert {key: record[key] for key in ("stage", "variant", "provider", "reason")} == {
        "stage": "student", "variant": "cpu-int8", "provider": "cpu", "reason": stage.reason,
    }  # fmt: skip


def test_the_variant_asked_for_is_opened(bundle: Path) -> None:
    stage = open_stage(bundle, entry_with(bundle, "cpu-int8", "cpu-fp32"), "cpu", 1, "cpu-fp32", Shared())

    assert (stage.variant, stage.reason) == ("cpu-fp32", "cpu-fp32: asked for")


def test_only_the_chosen_variant_is_opened(bundle: Path) -> None:
    entry = entry_with(bundle, "cpu-fp32")
    broken = VariantEntry(name="cpu-int4", graphs=("filter.json",))

    stage = open_stage(
        bundle, entry.model_copy(update={"variants": (broken, *entry.variants)}), "cpu", 1, None, Shared()
    )

    assert stage.variant == "cpu-fp32"
    with pytest.raises(BundleError, match="cannot load"):
        Stage(bundle, entry, broken, "cpu", 1)


def test_auto_falls_back_to_the_cpu_variant_where_cuda_does_not_start(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An installed CUDA that cannot start, as on a machine without a driver."""
    if module.cuda_is_installed():
        pytest.skip("CUDA may work here")
    monkeypatch.setattr(module, "cuda_is_installed", lambda: True)

    stage = open_stage(bundle, entry_with(bundle, "cuda-fp16", "cpu-int8"), "auto", 1, None, Shared())

    assert (stage.variant, stage.provider) == ("cpu-int8", "cpu")
    assert stage.reason.endswith("CUDA is installed but could not be used")
    assert "not on CUDA" in caplog.messages


def test_a_variant_for_cuda_is_not_run_on_the_cpu(bundle: Path) -> None:
    entry = entry_with(bundle, "cuda-fp16", "cpu-fp32")

    for provider in ("auto", "cpu"):
        with pytest.raises(ProviderError, match="cuda-fp16 does not run on a CPU"):
            open_stage(bundle, entry, provider, 1, "cuda-fp16", Shared())


def test_bundles_opened_together_share_what_is_equal(bundle: Path) -> None:
    shared = Shared()

    first, second = (open_stages(open_bundle(bundle), "cpu", 1, shared=shared) for _ in range(2))

    for one, other in zip(first, second, strict=True):
        assert one.window is other.window
        assert one.graphs[0] is other.graphs[0]
    assert first[0].window is not first[1].window
