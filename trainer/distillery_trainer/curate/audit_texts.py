"""Checks of labelled articles' texts: leaks, conflicts, no articles, cut ones, hidden characters, injections."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.invisible import INVISIBLE, character_class
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.curate.findings import Finding, graded
from distillery_trainer.curate.guards import Guards
from distillery_trainer.curate.injections import Detector
from distillery_trainer.models.static_embedder import TABLE_FOLDER

CONFLICT = 2.0  # points of the overall between two tellings of the same news
MOST_CUT = 0.2
HIDDEN = {kind: re.compile(character_class(ranges)) for kind, ranges in INVISIBLE.items()}
# Spelling, not hiding: joiners and marks of direction in other scripts than Latin, selectors and joiners of emoji, a
# byte order mark at the start.
ORDINARY = re.compile(
    "(?<=[^\x00-\x7f\xad])[\u200c-\u200f\ufe0e\ufe0f]+|^\ufeff|\U0001f3f4[\U000e0020-\U000e007f]{1,8}"
)

Pairs = Sequence[tuple[int, int]]


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
