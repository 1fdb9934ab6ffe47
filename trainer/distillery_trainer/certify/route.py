"""The router: from the probe's scores to the chance that the student would keep the article.

The probe's own overall is a poor guide to that: a gatekeeper caps it, so that many articles share one value, and each
dimension counts for what it means and not for what the probe knows of it.
"""

from collections.abc import Mapping
from typing import Any  # JSON of known shape

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Router, Routing

LEAST_OF_EACH = 5
STRENGTH = 1.0  # of the L2 penalty, as its inverse


def fit_router(scores: NDArray[np.floating], kept: NDArray[np.bool_], spec: FilterSpec) -> Router:
    """Fits the router by logistic regression (L2, C = 1).

    With fewer than 5 articles of either kind the chance simply rises with the weighted mean of the scores, and is one
    half at the operating tier.

    Args:
        scores: (N, D) the probe's calibrated scores in [0, 10], of articles that neither model was fitted on.
        kept: (N,) whether the student places each at the operating tier or above.
    """
    if min(int(kept.sum()), int((~kept).sum())) < LEAST_OF_EACH:
        return Router(tuple(dimension.weight for dimension in spec.dimensions), -spec.operating_overall)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(np.asarray(scores, np.float64).round(4), kept)
    return Router(tuple(round(float(w), 6) for w in model.coef_[0]), round(float(model.intercept_[0]), 6))


def router_record(router: Router, spec: FilterSpec) -> dict[str, object]:
    """The JSON form: the intercept, and the weights by dimension."""
    weights = dict(zip(spec.dimension_names, router.weights, strict=True))
    return {"intercept": router.intercept, "weights": weights}


def read_routing(certificate: Mapping[str, Any], spec: FilterSpec) -> Routing:
    """Which articles the probe answers, by the content of a `certificate.json`."""
    threshold, router = certificate["threshold"], certificate["router"]
    weights = tuple(float(router["weights"][name]) for name in spec.dimension_names)
    return Routing(None if threshold is None else float(threshold), Router(weights, float(router["intercept"])))
