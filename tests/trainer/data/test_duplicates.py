"""Near-duplicates: all pairs that a comparison of all with all finds, in every script, at a cost that stays small."""

import random
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_trainer.data import duplicates
from distillery_trainer.data.duplicates import linked, near_duplicate_groups, near_duplicate_pairs, new_texts, tokens

VOCABULARY = [f"word{i}" for i in range(2000)]
FEW = settings(derandomize=True, max_examples=20, deadline=None)
MANY = settings(derandomize=True, max_examples=70, deadline=None)
SMALL_TEXTS = st.lists(
    st.lists(st.sampled_from(["one", "two", "three,", "four.", "Five", "-"]), max_size=14).map(" ".join), max_size=14
)


def news(seed: int, words: int = 120) -> list[str]:
    return np.random.default_rng(seed).choice(VOCABULARY, size=words).tolist()


def changed(words: list[str], count: int, seed: int) -> list[str]:
    """The words with `count` of them replaced."""
    rng = np.random.default_rng(seed)
    result = list(words)
    for place in rng.choice(len(words), size=count, replace=False):
        result[place] = f"other{place}"
    return result


@FEW
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_text_with_a_few_of_its_words_changed_shares_its_group(seed: int, count: int) -> None:
    words = news(seed)
    texts = [" ".join(words), " ".join(changed(words, count, seed))]

    assert near_duplicate_groups(["a", "b"], texts) == ["a", "a"]


@FEW
@given(st.integers(0, 10_000))
def test_unrelated_texts_stand_in_groups_of_their_own(seed: int) -> None:
    texts = [" ".join(news(seed + offset)) for offset in range(4)]

    assert near_duplicate_groups(["a", "b", "c", "d"], texts) == ["a", "b", "c", "d"]


def test_case_spaces_and_punctuation_do_not_keep_duplicates_apart() -> None:
    words = news(1)
    other = "; ".join(f"\u201c{word.upper()}\u201d" for word in words)

    assert near_duplicate_groups(["a", "b"], [" ".join(words), other]) == ["a", "a"]


def test_a_chain_of_near_duplicates_is_one_group_named_by_its_lowest_id() -> None:
    chain = [news(3)]
    for step in range(8):  # each differs from the next by 8 words of 120, the ends by about half of them
        chain.append(changed(chain[-1], 8, step))
    texts = [" ".join(words) for words in chain]

    assert set(near_duplicate_groups([str(i) for i in range(9)], texts)) == {"0"}


def test_a_text_that_joins_two_groups_makes_them_one() -> None:
    left, middle, right = news(0, 50), news(1, 40), news(2, 50)  # Jaccard 0.3 to each other, 0.6 to the whole
    texts = [" ".join(words) for words in ([*left, *middle], [*middle, *right], [*left, *middle, *right])]
    alone = near_duplicate_groups(["a", "b"], texts[:2])

    joined = near_duplicate_groups(["a", "b", "c"], texts)

    assert alone == ["a", "b"]
    assert joined == ["a", "a", "a"]


def test_very_short_texts_are_grouped_only_when_they_are_equal() -> None:
    assert near_duplicate_groups(["a", "b", "c", "d"], ["Sun", "Wind", "sun", ""]) == ["a", "b", "a", "d"]


def three_words(text: str) -> set[str]:
    """The runs of three words of a text in Latin letters, written down without the code under test."""
    words = re.findall("[a-z0-9]+", text.lower())
    if not words:
        return {text.strip()}
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def compared_all_with_all(texts: list[str], jaccard: float) -> list[tuple[int, int]]:
    sets = [three_words(text) for text in texts]
    return [
        (i, j)
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= jaccard
    ]


@MANY
@given(SMALL_TEXTS, st.sampled_from([0.3, 0.5, 0.5, 0.8, 1.0]))
def test_the_pairs_are_those_of_a_comparison_of_all_with_all(texts: list[str], jaccard: float) -> None:
    assert near_duplicate_pairs(texts, jaccard) == compared_all_with_all(texts, jaccard)


@MANY
@given(SMALL_TEXTS, st.integers(0, 99))
def test_groups_hold_every_pair_and_no_more_and_are_the_same_in_any_order(texts: list[str], seed: int) -> None:
    ids = [f"a{place:02}" for place in range(len(texts))]
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    expected = [ids[first] for first in linked(len(texts), compared_all_with_all(texts, 0.5))]

    shuffled = near_duplicate_groups([ids[i] for i in order], [texts[i] for i in order])

    assert near_duplicate_groups(ids, texts) == expected
    assert dict(zip([ids[i] for i in order], shuffled, strict=True)) == dict(zip(ids, expected, strict=True))


WITHOUT_SPACES = {
    "Chinese": (range(0x4E00, 0x5600), 2),
    "Japanese": (range(0x3042, 0x3094), 3),
    "Thai": (range(0x0E01, 0x0E2F), 4),
    "Khmer": (range(0x1780, 0x17A3), 4),
    "Burmese": (range(0x1000, 0x1021), 4),
}


def unspaced(script: str, words: int, seed: int) -> str:
    """A text of words of the script's own, the common ones often, without a space."""
    letters, length = WITHOUT_SPACES[script]
    drawn = random.Random(0)
    lexicon = ["".join(map(chr, drawn.choices(letters, k=length))) for _ in range(3000)]
    rng = np.random.default_rng(seed)
    return "".join(lexicon[int(place)] for place in np.minimum(rng.pareto(1.0, words) * 20, 2999))


@pytest.mark.parametrize("script", WITHOUT_SPACES)
def test_scripts_without_spaces_are_compared_by_runs_of_characters(script: str) -> None:
    text, other = unspaced(script, 400, 1), unspaced(script, 400, 2)
    edited = text[:100] + other[100:110] + text[110:]

    assert near_duplicate_groups(["a", "b", "c"], [text, other, edited]) == ["a", "b", "a"]


@pytest.mark.parametrize("script", WITHOUT_SPACES)
def test_long_texts_are_not_alike_for_their_language(script: str) -> None:
    texts = [unspaced(script, 5000, seed) for seed in range(3)]

    assert near_duplicate_groups(["a", "b", "c"], texts) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L\u2019\u00e9nergie: 3,5 % (net_zero)", ["l", "\u00e9nergie", "3", "5", "net", "zero"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u0938\u092e\u093e\u091a\u093e\u0930",
         ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u0938\u092e\u093e\u091a\u093e\u0930"]),
        ("STRASSE stra\u00dfe", ["strasse", "strasse"]),
        ("AI\u306f\u5b89\u3044", ["ai", "\u306f", "\u5b89", "\u3044"]),
    ],
)  # fmt: skip
def test_a_word_is_made_of_letters_digits_and_marks(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_texts_without_words_are_alike_only_when_they_are_equal() -> None:
    texts = ["!!!", "???", "\U0001f600", "", "!!!", " "]

    assert near_duplicate_groups(list("abcdef"), texts) == ["a", "b", "c", "d", "a", "d"]


def test_more_pairs_than_memory_should_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 1000)
    with pytest.raises(InputError, match="trainer guard"):
        near_duplicate_pairs(["the same news once more"] * 50)


def mutants(count: int, seed: int = 0) -> list[str]:
    """One text with a tenth of its words changed, again and again: one group, all pairs of which are true."""
    return [" ".join(changed(news(seed, 60), 3, place)) for place in range(count)]


def templates(count: int, share: float = 0.6) -> list[str]:
    """Texts of one frame, alike by just less than half."""
    frame = news(0, int(60 * share))
    return [" ".join([*frame, *news(place + 1, 60 - len(frame))]) for place in range(count)]


def drifting(count: int) -> list[str]:
    """A chain: each text begins a few words after the one before."""
    words = news(0, 60 + 3 * count)
    return [" ".join(words[3 * place : 3 * place + 60]) for place in range(count)]


HOSTILE: dict[str, Callable[[int], list[str]]] = {
    "one text many times": lambda n: ["the same news once more"] * n,
    "one group": mutants,
    "one frame": templates,
    "one frame, nearly all of it": lambda n: templates(n, 0.65),
    "a chain": drifting,
    "three words each": lambda n: [" ".join(news(place, 3)) for place in range(n)],
    "nothing but marks": lambda n: ["!" * (place % 97) + "?" * (place // 97) for place in range(n)],
    "unlike": lambda n: [" ".join(news(place, 60)) for place in range(n)],
    "one long text": lambda n: [" ".join(news(0, 60 * n)), " ".join(news(1, 60 * n))],
    "one long text without spaces": lambda n: [unspaced("Thai", 30 * n, seed) for seed in (1, 2)],
}


def cpu_seconds(texts: list[str]) -> float:
    begun = time.process_time()
    near_duplicate_groups([str(place) for place in range(len(texts))], texts)
    return time.process_time() - begun


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_as_many_texts_cost_at_most_three_times_as_much(kind: str) -> None:
    few, many = HOSTILE[kind](2000), HOSTILE[kind](4000)
    costs = [(cpu_seconds(few), cpu_seconds(many)) for _ in range(4)]  # in turns: other work disturbs both alike

    assert min(cost for _, cost in costs) <= 3 * min(cost for cost, _ in costs)


def test_new_texts_are_no_near_duplicates_of_known_ones_nor_of_one_another() -> None:
    story = " ".join(f"word{i}" for i in range(40))
    known, fresh, other = story, story.replace("word", "term"), story.replace("word", "thing")

    assert new_texts([known + " again", fresh, fresh + " once more", other], [known]) == [fresh, other]
