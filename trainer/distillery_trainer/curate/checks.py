"""Checks of labelled articles: leaks, conflicts, non-articles, cut and hidden text, spread, and suspicious labels."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.characters import INVISIBLE, character_class
from distillery_runtime.spec.model import FilterSpec, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.curate.findings import Finding, graded
from distillery_trainer.curate.guards import Guards
from distillery_trainer.curate.injections import Detector
from distillery_trainer.data.duplicates import linked
from distillery_trainer.evaluate.metrics import rounded
from distillery_trainer.models.static_embedder import TABLE_FOLDER, StaticEmbedder

CONFLICT = 2.0  # points of the overall between two tellings of the same news
MOST_CUT = 0.2
HIDDEN = {kind: re.compile(character_class(ranges)) for kind, ranges in INVISIBLE.items()}
# Spelling, not hiding: joiners and marks of direction in other scripts than Latin, selectors and joiners of emoji, a
# byte order mark at the start.
ORDINARY = re.compile(
    "(?<=[^\x00-\x7f\xad])[\u200c-\u200f\ufe0e\ufe0f]+|^\ufeff|\U0001f3f4[\U000e0020-\U000e007f]{1,8}"
)

Pairs = Sequence[tuple[int, int]]
MOST_ALIKE = 0.8  # share of articles with the same label
FEWEST_FINDS = 100
CORRELATED = 0.9
EXPLAINED = 0.95

Array = NDArray[np.floating]
FOLDS = 5
PENALTY = 1.0
SUSPICIOUS = 4.5  # robust standard deviations; of normal residuals seven in a million lie beyond
MIN_ARTICLES = 50
MIN_DEVIATION = 0.25  # points: where labels hardly vary, a half point more is no surprise
NORMAL = 1.4826  # from a median absolute deviation to a standard deviation


def check_leaks(ids: Sequence[str], pairs: Pairs, splits: Mapping[str, str] | None) -> Finding:
    """Near-duplicates that stand in different parts of the split."""
    if splits is None:
        return Finding("leaks", "note", 0, len(pairs), "not checked: no split was given (--splits)")
    leaks = [(ids[i], ids[j]) for i, j in pairs if splits[ids[i]] != splits[ids[j]]]
    between = Counter(" and ".join(sorted((splits[a], splits[b]))) for a, b in leaks)
    return Finding(
        "leaks", graded(len(leaks), "fault"), len(leaks), len(pairs),
        "near-duplicate pairs have one article on each side of the split", sorted({i for pair in leaks for i in pair}),
        {"pairs": [list(pair) for pair in leaks], "between": dict(between)},
    )  # fmt: skip


def check_conflicts(ids: Sequence[str], pairs: Pairs, marks: NDArray[np.float64]) -> Finding:
    """Near-duplicates whose labels lie far apart."""
    apart = [(ids[i], ids[j]) for i, j in pairs if abs(marks[i] - marks[j]) >= CONFLICT]
    return Finding(
        "conflicting_labels", graded(len(apart), "warning"), len(apart), len(pairs),
        f"near-duplicate pairs differ by {CONFLICT:g} points or more in their overall",
        sorted({i for pair in apart for i in pair}), {"pairs": [list(pair) for pair in apart]},
    )  # fmt: skip


def check_guards(ids: Sequence[str], cleaned: Sequence[ArticleText]) -> Finding:
    """Texts that `trainer guard` would have dropped."""
    guards = Guards()
    found = {i: why.reason for i, text in zip(ids, cleaned, strict=True) if (why := guards.check(text))}
    return Finding(
        "no_articles", graded(len(found), "warning"), len(found), len(ids),
        "texts are no articles (trainer guard drops them)", list(found), {"reasons": dict(Counter(found.values()))},
    )  # fmt: skip


def check_truncation(ids: Sequence[str], texts: Sequence[str], finds: NDArray[np.bool_], window: Window) -> Finding:
    """Articles to be found of which the student's window, measured in the static table's tokens, cuts a part."""
    rows = TokenWindow(TABLE_FOLDER / "tokenizer.json", window).encode(texts)
    cut = [i for i, row, is_find in zip(ids, rows, finds, strict=True) if row.truncated and is_find]
    total = int(finds.sum())
    heavy = total > 0 and len(cut) / total > MOST_CUT
    return Finding(
        "truncated_finds", "warning" if heavy else "note", len(cut), total,
        f"articles at or above the operating tier are longer than {window.max_tokens} tokens", cut,
    )  # fmt: skip


def check_hidden(ids: Sequence[str], received: Sequence[str]) -> Finding:
    """Texts with characters that no reader sees; cleaning removes them."""
    found = {i: kinds for i, text in zip(ids, received, strict=True) if (kinds := hidden_kinds(text))}
    total = Counter[str]()
    for kinds in found.values():
        total.update(kinds)
    return Finding(
        "hidden_characters", graded(len(found), "warning"), len(found), len(ids),
        "texts hold characters that no reader sees (cleaning removes them)", list(found),
        {"kinds": dict(total), "found": found},
    )  # fmt: skip


def hidden_kinds(text: str) -> dict[str, int]:
    """How many hidden characters of each kind a text holds as it was received."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return {}
    rest = ORDINARY.sub("", text)
    counts = {kind: len(pattern.findall(rest)) for kind, pattern in HIDDEN.items()}
    return {kind: count for kind, count in counts.items() if count}


def check_injections(ids: Sequence[str], received: Sequence[str]) -> Finding:
    """Texts that speak to the model that scores them."""
    detector = Detector()
    found = {i: said for i, text in zip(ids, received, strict=True) if (said := detector.check(text))}
    kinds = Counter(one.kind for said in found.values() for one in said)
    return Finding(
        "injections", graded(len(found), "warning"), len(found), len(ids),
        "texts hold words or characters meant for a model", list(found),
        {"kinds": dict(kinds), "found": {i: {one.kind: one.found for one in said} for i, said in found.items()}},
    )  # fmt: skip


def check_spread(labels: Array, names: Sequence[str]) -> Finding:
    """Dimensions that hardly vary.

    Args:
        labels: (N, D) in [0, 10], columns in the order of `names`.
    """
    spread = {name: _spread(labels[:, i]) for i, name in enumerate(names)}
    flat = [name for name, own in spread.items() if own["commonest_share"] >= MOST_ALIKE]
    named = f": {', '.join(flat)}" if flat else ""
    return Finding(
        "flat_dimensions", graded(len(flat), "warning"), len(flat), len(spread),
        f"dimensions have one label for {MOST_ALIKE:.0%} of the articles or more{named}", (), {"dimensions": spread},
    )  # fmt: skip


def check_finds(marks: Array, spec: FilterSpec) -> Finding:
    """Whether there are enough articles to be found: (N,) overalls."""
    tiers = {tier.name: int(np.sum(marks >= tier.min_overall)) for tier in spec.tiers}
    finds = int(np.sum(marks >= spec.operating_overall))
    return Finding(
        "few_finds", "warning" if finds < FEWEST_FINDS else "note", finds, len(marks),
        f"articles are at or above {spec.operating_tier}; a test of them wants {FEWEST_FINDS} (trainer screen)", (),
        {"at_or_above": tiers},
    )  # fmt: skip


def check_redundancy(labels: Array, names: Sequence[str]) -> Finding:
    """Pairs of dimensions that follow one another, and how many independent ones there are.

    Args:
        labels: (N, D) in [0, 10], D at least 1, columns in the order of `names`.
    """
    moving = [i for i in range(len(names)) if np.ptp(labels[:, i]) > 0]
    correlations = np.corrcoef(labels[:, moving].astype(np.float64), rowvar=False).reshape(len(moving), len(moving))
    pairs = [
        {"dimensions": [names[moving[a]], names[moving[b]]], "correlation": rounded(correlations[a, b])}
        for a in range(len(moving))
        for b in range(a + 1, len(moving))
        if abs(correlations[a, b]) >= CORRELATED
    ]
    values = np.sort(np.linalg.eigvalsh(correlations))[::-1] if len(moving) else np.zeros(0)
    shares = values / max(float(values.sum()), 1e-12)
    needed = int(np.searchsorted(np.cumsum(shares), EXPLAINED) + 1) if len(moving) else 0
    return Finding(
        "redundant_dimensions", graded(len(pairs), "warning"), len(pairs), len(names) * (len(names) - 1) // 2,
        f"pairs of dimensions correlate by {CORRELATED:g} or more; {needed} components hold {EXPLAINED:.0%}",
        (), {"pairs": pairs, "component_shares": [rounded(share) for share in shares], "components": needed},
    )  # fmt: skip


def _spread(column: Array) -> dict[str, float]:
    values, counts = np.unique(column, return_counts=True)
    return {
        "mean": round(float(column.mean()), 4),
        "deviation": round(float(column.std()), 4),
        "commonest": float(values[counts.argmax()]),
        "commonest_share": round(float(counts.max() / len(column)), 4),
        "at_least_7": round(float(np.mean(column >= 7)), 4),
    }


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
