"""The router that is fitted: it knows which scores tell what the student keeps."""

import numpy as np
import pytest

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Router, Routing, chances
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.route import fit_router, read_routing, router_record


def test_it_separates_what_the_overall_cannot(spec: FilterSpec) -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(0, 3.5, (400, 2))
    kept = scores[:, 0] + generator.normal(0, 0.1, 400) > 2.5  # the second score, two fifths of the overall, is noise

    router = fit_router(scores, kept, spec)

    def answered_without_a_miss(values: np.ndarray) -> float:
        return float(np.mean(values < values[kept].min()))

    assert router.weights[0] > 5 * abs(router.weights[1])
    by_chance, by_overall = chances(scores, router, spec), overalls(scores, spec)
    assert answered_without_a_miss(by_chance) > 0.55 > 0.4 > answered_without_a_miss(by_overall)


def test_the_chance_is_calibrated_on_what_it_was_fitted_on(spec: FilterSpec) -> None:
    generator = np.random.default_rng(1)
    scores = generator.uniform(0, 3.5, (2000, 2))
    kept = generator.uniform(size=2000) < 1 / (1 + np.exp(3 - scores[:, 0]))

    told = chances(scores, fit_router(scores, kept, spec), spec)

    assert told.mean() == pytest.approx(kept.mean(), abs=0.01)


@pytest.mark.parametrize("finds", [0, 4, 36, 40])
def test_with_too_few_of_either_kind_it_rises_with_the_weighted_mean(spec: FilterSpec, finds: int) -> None:
    kept = np.arange(40) < finds

    router = fit_router(np.full((40, 2), 3.0), kept, spec)

    assert router == Router((0.6, 0.4), -4.0)
    assert router.chance([4.0, 4.0]) == 0.5


def test_its_json_form_names_the_dimensions_and_reads_back(spec: FilterSpec) -> None:
    record = {"threshold": 0.2, "router": router_record(Router((0.25, 1.5), -2.0), spec)}

    assert record["router"] == {"intercept": -2.0, "weights": {"relevance": 0.25, "evidence_quality": 1.5}}
    assert read_routing(record, spec) == Routing(0.2, Router((0.25, 1.5), -2.0))
