"""Prefilter rules: word boundaries in any script, overrides, shadow mode."""

import time

import pytest

from distillery_runtime.article import Article
from distillery_runtime.prefilter import Prefilter
from distillery_runtime.spec import FilterSpec, PrefilterRule
from distillery_runtime.text import compose


def check(rule: dict[str, object], title: str, content: str, spec: FilterSpec) -> tuple[str | None, tuple[str, ...]]:
    with_rule = spec.model_copy(
        update={"prefilter": (PrefilterRule.model_validate({"name": "r", **rule}, strict=False),)}
    )
    result = Prefilter(with_rule).check(compose(Article("1", title, content), with_rule.text))
    return result.blocked_by, result.shadows


@pytest.fixture(scope="module")
def spec(scorer: object) -> FilterSpec:
    return scorer.spec  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("deal", "a big deal today", True),
        ("deal", "an ideal dealer", False),
        ("Deal", "DEAL!", True),
        ("\u00e9t\u00e9", "un \u00e9t\u00e9 chaud", True),
        ("\u00e9t\u00e9", "la soci\u00e9t\u00e9", False),
        ("warmtepomp*", "de warmtepompen draaien", True),
        ("a.b", "axb", False),
        ("\u0442\u0430\u043d\u043a", "\u0442\u0430\u043d\u043a\u0438\u0441\u0442", False),
        ("two words", "just two words here", True),
        ("\u0915", "\u0915\u093f\u0924\u093e\u092c", False),
    ],
)
def test_words_match_whole_words_without_case(word: str, text: str, found: bool, spec: FilterSpec) -> None:
    blocked, _ = check({"mode": "block", "words": (word,)}, "", text, spec)

    assert (blocked == "r") is found


def test_an_unless_phrase_anywhere_saves_the_article(spec: FilterSpec) -> None:
    rule = {"mode": "block", "where": "title", "words": ("sale",), "unless": ("solar",)}

    assert check(rule, "Summer sale", "of shoes", spec)[0] == "r"
    assert check(rule, "Summer sale", "of solar panels", spec)[0] is None


def test_where_limits_the_search(spec: FilterSpec) -> None:
    rule = {"mode": "block", "where": "title", "words": ("sale",)}

    assert check(rule, "News", "a sale", spec)[0] is None


def test_a_shadow_rule_only_tells(spec: FilterSpec) -> None:
    assert check({"words": ("sale",)}, "", "a sale", spec) == (None, ("r",))


def test_patterns_are_re2_and_need_no_time(spec: FilterSpec) -> None:
    start = time.perf_counter()

    check({"mode": "block", "patterns": ("(a+)+$",)}, "", "a" * 100_000 + "!", spec)

    assert time.perf_counter() - start < 5  # a backtracking engine would need years


def test_a_blocked_article_is_reported_with_its_rule(scorer: object) -> None:
    result = scorer.score({"id": "1", "title": "Casino night", "text": "big jackpots"})  # type: ignore[attr-defined]

    assert (result.status, result.reason, result.scores) == ("blocked", "prefilter rule gambling", None)


def test_a_shadow_rule_is_named_in_the_result(scorer: object) -> None:
    result = scorer.score({"id": "1", "title": "The quiz", "text": "wind and solar"})  # type: ignore[attr-defined]

    assert (result.status, result.reason) == ("scored", "shadow rule quiz would block")
