"""Before any model: rules of the prefilter, and token ids, each held against a plain implementation."""

import pytest

from benchmarks.suite.lab import Lab
from benchmarks.suite.reference import WholeTexts, matches
from benchmarks.suite.turns import Turns
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.format.variants import REFERENCE


def test_prefilter(lab: Lab, turns: Turns) -> None:
    """All rules on the sample's texts."""
    rules = lab.bundle.spec.prefilter
    if not rules:
        pytest.skip("the filter has no prefilter rules")
    prefilter, texts = Prefilter(lab.bundle.spec), lab.texts
    found = [prefilter.check(text) for text in texts]
    expected = [[rule for rule in rules if matches(rule, text)] for text in texts]
    blocked = [next((rule.name for rule in matched if rule.mode == "block"), None) for matched in expected]
    same = sum(result.blocked_by == name for result, name in zip(found, blocked, strict=True))

    facts = {
        "articles": len(texts),
        "rules": len(rules),
        "blocked": sum(result.blocked_by is not None for result in found),
        "against": "the same rules by Python's re",
        "same_share": same / len(texts),
    }
    turns.measure("prefilter", lambda: [prefilter.check(text) for text in texts], facts)


@pytest.mark.parametrize("stage_place", [0, -1], ids=["first", "last"])
def test_tokenise(lab: Lab, turns: Turns, stage_place: int) -> None:
    """The sample's texts as token ids, which must be those of tokenising all of each text."""
    entry = lab.bundle.manifest.stages[stage_place]
    window = lab.stage(entry.name, REFERENCE.name).window
    whole = WholeTexts(lab.bundle.files.places[entry.tokenizer], entry.window, entry.prefix)
    texts = [text.joined for text in lab.texts]
    rows = window.encode(texts)
    same = [row.ids.tolist() == ids for row, ids in zip(rows, whole.encode(texts), strict=True)]

    facts = {
        "stage": entry.name,
        "articles": len(texts),
        "window_tokens": entry.window.max_tokens,
        "truncated": sum(row.truncated for row in rows),
        "tokens_median": int(sorted(len(row.ids) for row in rows)[len(rows) // 2]),
        "against": "all tokens of the whole text",
        "same_share": sum(same) / len(same),
    }
    turns.measure("tokenise", lambda: window.encode(texts), facts, lambda: whole.encode(texts), "whole_texts")
    assert all(same), f"{len(same) - sum(same)} of {len(same)} texts give other ids than their whole text"
