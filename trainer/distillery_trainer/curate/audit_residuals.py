"""Labels that articles alike do not bear out: the residuals of a model that never saw the article it is asked about."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from distillery_runtime.spec.model import Window
from distillery_trainer.curate.findings import Finding, graded
from distillery_trainer.data.duplicates import linked
from distillery_trainer.models.static_embedder import StaticEmbedder

FOLDS = 5
PENALTY = 1.0
SUSPICIOUS = 4.5  # robust standard deviations; of normal residuals seven in a million lie beyond
MIN_ARTICLES = 50
MIN_DEVIATION = 0.25  # points: where labels hardly vary, a half point more is no surprise
NORMAL = 1.4826  # from a median absolute deviation to a standard deviation

Array = NDArray[np.float64]


def check_residuals(
    ids: Sequence[str], texts: Sequence[str], labels: NDArray[np.floating], pairs: Sequence[tuple[int, int]],
    names: Sequence[str],
) -> Finding:  # fmt: skip
    """Articles with a label far from what a ridge regression on the others' embeddings expects.

    Args:
        labels: (N, D) in [0, 10], columns in the order of `names`.
        pairs: places of near-duplicates, which stand in one fold.
    """
    if len(ids) < MIN_ARTICLES:
        says = f"not checked: fewer than {MIN_ARTICLES} articles"
        return Finding("suspicious_labels", "note", 0, len(ids), says)
    rows = StaticEmbedder(Window()).embed(texts).astype(np.float64)
    residuals = np.asarray(labels, np.float64) - out_of_fold(rows, np.asarray(labels, np.float64), pairs)
    far = robust_z(residuals)
    worst = np.abs(far).max(axis=1)
    places = [int(i) for i in np.argsort(-worst, kind="stable") if worst[i] >= SUSPICIOUS]
    said = {ids[i]: dict(_far_labels(labels[i], residuals[i], far[i], names)) for i in places}
    return Finding(
        "suspicious_labels", graded(len(places), "warning"), len(places), len(ids),
        f"articles have a label {SUSPICIOUS:g} deviations or more from what articles alike have; read these again",
        list(said), {"labels": said},
    )  # fmt: skip


def out_of_fold(rows: Array, labels: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """What models fitted on the other folds expect of each article: (N, D)."""
    firsts, group = np.unique(linked(len(rows), pairs), return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(firsts)) % FOLDS)[group]
    expected = np.tile(labels.mean(axis=0), (len(rows), 1))  # of all, where near-duplicates leave one fold alone
    for number in range(FOLDS if len(firsts) > 1 else 0):
        held = fold == number
        if held.any():
            model = Ridge(PENALTY).fit(rows[~held], labels[~held])
            expected[held] = model.predict(rows[held]).reshape(-1, labels.shape[1])
    clipped: Array = np.clip(expected, 0, 10)
    return clipped


def robust_z(residuals: Array) -> Array:
    """Residuals in robust standard deviations of their column: (N, D)."""
    middle = np.median(residuals, axis=0)
    deviation = NORMAL * np.median(np.abs(residuals - middle), axis=0)
    scaled: Array = (residuals - middle) / np.maximum(deviation, MIN_DEVIATION)
    return scaled


def _far_labels(labels: Array, residuals: Array, far: Array, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    for place, name in enumerate(names):
        if abs(far[place]) >= SUSPICIOUS:
            yield name, {"label": float(labels[place]), "expected": round(float(labels[place] - residuals[place]), 2)}
