"""Prefilter rules: word boundaries in any script, overrides, shadow mode."""

import json
import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import compose
from distillery_runtime.spec.model import FilterSpec, PrefilterRule
from distillery_runtime.spec.patterns import AnyOf, compile_pattern, phrases_pattern
from distillery_runtime.spec.reading import find_problems


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


def whole_words(phrase: str, text: str) -> bool:
    """Each phrase by itself, as the standard library finds it: neighbours are no letter, figure, mark or underscore."""
    word = "".join(re.escape(chr(code)) for code in set(map(ord, text)) if unicodedata.category(chr(code))[0] in "LNM")
    ending = f"[{word}]*" if phrase.endswith("*") and word else ""
    pattern = f"(?<![{word}_]){re.escape(phrase.removesuffix('*'))}{ending}(?![{word}_])"
    return re.search(pattern, text, re.IGNORECASE) is not None


@given(
    st.lists(
        st.text("abK9é", min_size=1, max_size=3).map(lambda word: word + "*" * (len(word) % 2)), min_size=1, max_size=6
    ),
    st.lists(st.text("abAkÉ9_- ", max_size=8), max_size=4).map(" ".join),
)
def test_phrases_in_parts_match_as_each_would_alone(phrases: list[str], text: str) -> None:
    whole, parted = AnyOf(phrases), AnyOf([])
    parted._compiled = [compile_pattern(phrases_pattern([phrase])) for phrase in phrases]

    expected = any(whole_words(phrase, text) for phrase in phrases)

    assert whole.found_in(text) is parted.found_in(text) is expected


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([f"word{i}*" for i in range(400)], id="400 endings"),
        pytest.param([f"a rather long phrase of number {i}" for i in range(3000)], id="3000 phrases"),
        pytest.param([chr(0x430 + i % 32) * 900 + str(i) for i in range(60)], id="long phrases"),
        pytest.param([f"{'ſKß' * 20}{i}*" for i in range(500)], id="letters of many cases"),
    ],
)
def test_a_rule_of_any_size_compiles_and_finds_its_first_and_last_phrase(words: list[str], spec: FilterSpec) -> None:
    rule = {"mode": "block", "words": words}

    for phrase in (words[0], words[-1]):
        assert check(rule, "", f"so {phrase.removesuffix('*')} there", spec)[0] == "r"
    assert check(rule, "", "so no such thing there", spec)[0] is None


def test_patterns_too_large_together_are_searched_apart(spec: FilterSpec) -> None:
    patterns = [rf"{letter}\pL{{60}}\d" for letter in "abh"]

    assert check({"mode": "block", "patterns": patterns}, "", "h" + "x" * 60 + "7", spec)[0] == "r"


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"patterns": [r"(a{1000}){1000}"]}, "prefilter[0].patterns[0]"),
        ({"patterns": [r"\pL{900}"]}, "prefilter[0].patterns[0]"),
        ({"words": ["x" * 1001]}, "prefilter[0].words[0]"),
    ],
)
def test_a_rule_that_cannot_compile_is_a_problem(rule: dict[str, object], path: str, spec: FilterSpec) -> None:
    data = json.loads(spec.model_dump_json()) | {"prefilter": [{"name": "r", **rule}]}

    assert [problem.path for problem in find_problems(data)] == [path]
