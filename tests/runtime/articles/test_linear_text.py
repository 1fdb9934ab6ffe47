"""The text path takes linear time, up to the longest article: for twice the text at most three times as much.

The one kind of timed test here: processor time at n and 2n, its ratio alone. `STEPS` holds the steps of the path; any
other from a text to something joins by a line of its own.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from distillery_runtime.articles.article import MAX_CONTENT_CHARS
from distillery_runtime.articles.text import normalise
from distillery_runtime.spec.model import TextPolicy, Window
from distillery_runtime.spec.patterns import AnyOf
from distillery_runtime.tokens.window import TokenWindow

MOST = 3.0  # times the processor time for twice the text
NOISE_S = 0.01  # what takes less tells nothing of how it grows
REPEATS = 5  # a machine that is busy with something else disturbs one measurement, not five

ATOMS: Mapping[str, str] = {
    "tag": "<b>",
    "block tag": "<p>",
    "attribute": '<a href="x>y" class=z>',
    "open tag": "<a href=",
    "open quote": '<a x="',
    "quotes in quotes": '="<b><a "',
    "other quotes": "<a x='\"",
    "no tag": "<b and c> ",
    "open comment": "<!-- ",
    "closed comment": "<!-- x -->",
    "open script": "<script> ",
    "closed style": "<style>x</style>",
    "open cdata": "<![CDATA[",
    "less": "<",
    "greater": ">",
    "nested": "<<b>b>",
    "generic": "List<Map<K, V>> ",
    "entity": "&lt;b&gt;",
    "open entity": "&amp",
    "number": "&#1234;",
    "marks": "s" + "".join(chr(0x300 + (7 * i) % 0x70) for i in range(50)),
    "marks that decompose": "\u0344\u0f73",
    "marks and hidden": "e\u0301\u200b\u0323\u034f",
    "hidden": "\u200b",
    "tag characters": "g\U000e0067",
    "jamo": "\u1100\u1161\u11a8",
    "composed": "\u1ea4\ufb2c",
    "spaces": " \u00a0\t\n",
    "word": "wind",
    "words": "big wind farm ",
    "near phrases": "word3 wordx ",
    "letters of two cases": "ſKß",
    "four bytes": "\U0001d400\U0001f600",
    "controls": "a\x00\x1b",
}
Shape = Callable[[str, int], str]


def times(atom: str, size: int) -> str:
    """Whole atoms: one that is cut may be another attack at n than at 2n."""
    return atom * (size // len(atom))


SHAPES: Mapping[str, Shape] = {
    "alone": times,
    "in words": lambda atom, size: times(f"big {atom}wind{atom} ", size),
    "numbered": lambda atom, size: "".join(f"{atom}{i}" for i in range(size // (len(atom) + 6))),
    "then letters": lambda atom, size: times(atom, size // 2) + times("a", size - size // 2),
    "letters, then": lambda atom, size: times("a", size // 2) + times(atom, size - size // 2),
    "between brackets": lambda atom, size: times("<", size // 3) + times(atom, size // 3) + times(">", size // 3),
    "doubling": lambda atom, size: "".join(atom * 2**i + " " for i in range(30) if len(atom) * 2 ** (i + 1) <= size),
    "closed at the end": lambda atom, size: times(atom, size - 40) + "\"'--></script></style>]]>\"'>;",
    "mixed with marks": lambda atom, size: times(f"{atom}\u0301\u0323\u00ad", size),
}
HOSTILE = [pytest.param(atom, shape, id=f"{atom}, {shape}") for atom, shape in itertools.product(ATOMS, SHAPES)]

POLICY, PLAIN = TextPolicy(), TextPolicy(strip_markup=False)


@cache
def rules() -> AnyOf:
    return AnyOf(
        [*(f"word{i}*" for i in range(400)), *(f"{'big ' * (i % 7)}wind farm {i}" for i in range(1500)), "ſKß*"],
        [r"(a+)+$", r"(?:big\s+)*wind\S{0,50}x", r"\pL{20}\d"],
    )


@cache
def window() -> TokenWindow:
    """The starter's: a Unigram vocabulary, of texts whose ends are tokenised alone where that is safe."""
    (tokenizer,) = Path(__file__).parents[3].glob("starter/distillery_starter/*/student/tokenizer.json")
    return TokenWindow(tokenizer, Window())


STEPS: Mapping[str, Callable[[str], object]] = {
    "cleaning": lambda text: normalise(text, POLICY),
    "cleaning without markup": lambda text: normalise(text, PLAIN),
    "rules": lambda text: rules().found_in(text),
    "tokens": lambda text: window().encode([text]),
}


def test_there_are_three_hundred_generators_of_hostile_texts() -> None:
    assert len(HOSTILE) >= 300


@pytest.mark.slow
@pytest.mark.parametrize(("atom", "shape"), HOSTILE)
def test_every_step_of_the_text_path_is_linear(atom: str, shape: str) -> None:
    half, whole = (SHAPES[shape](ATOMS[atom], size) for size in (MAX_CONTENT_CHARS // 2, MAX_CONTENT_CHARS))

    for name, step in STEPS.items():
        assert growth(step, half, whole) <= MOST, name


def growth(step: Callable[[str], object], half: str, whole: str) -> float:
    """The time for twice the text by the time for it: the least of each, measured again while that is too much."""
    once = twice = float("inf")
    for _ in range(REPEATS):
        once, twice = min(once, seconds(step, half)), min(twice, seconds(step, whole))
        if twice <= MOST * max(once, NOISE_S):
            break
    return twice / max(once, NOISE_S)


def seconds(step: Callable[[str], object], text: str) -> float:
    """The processor time of one run."""
    start = time.process_time()
    step(text)
    return time.process_time() - start


def test_a_step_that_is_not_linear_is_seen() -> None:
    """A cubic one, for eight times as much time stands out on any machine, however busy it is."""

    def cubic(text: str) -> None:
        for start in range(0, len(text), 1000):
            for _ in range(start // 1000):
                text.count("b", start)

    assert growth(cubic, "a" * 70_000, "a" * 140_000) > MOST
