"""How long a filter's rules take on hostile texts, and 200 hostile patterns on texts up to a megabyte.

    python benchmarks/prefilter_time.py --filter NAME [--out FILE]

Two questions. Of each of the filter's rules: the time for texts made to be slow, at 4 KB to 1 MB, and how it grows from
250 KB on: the exponent of time as a power of length, 1 where it is linear. (On shorter texts RE2 may still build its
automaton as it goes, and changes to another method when that pays no more.) And the same of 200 patterns that make an
engine with backtracking take exponential time. Patterns that the config refuses, because RE2 does, are counted. Prints
JSON.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText
from distillery_runtime.bench.machine import this_machine
from distillery_runtime.spec.model import FilterSpec, PrefilterRule
from distillery_trainer.filters.find import find_filter, load_filter

SIZES = (4_000, 64_000, 250_000, 1_000_000)
REPEATS = 5
ENOUGH_S = 0.5  # of repeating one text
SHORTEST_S = 1e-4  # what takes less tells nothing of how it grows


def texts(size: int) -> Iterator[tuple[str, str]]:
    """Texts of one size by name: runs, near misses of patterns, and many scripts."""
    units = {
        "one letter": "a",
        "two letters": "ab",
        "spaces": " ",
        "near misses of words": "solarx sola solars- heatpump heat pum bes deals ",
        "unclosed": "((((((((a",
        "digits": "0123456789",
        "accents": "e\u0301\u0327\u0323",
        "scripts": "солнце 太陽 شمس ήλιος सूर्य ",
        "line ends": "a\r\n\n",
        "invisible": "a\u200b\u200d\ufeff",
    }
    for name, unit in units.items():
        yield name, (unit * (size // len(unit) + 1))[: size - 1] + "!"


def hostile_patterns() -> list[str]:
    """200 patterns known to ruin backtracking engines: nested and adjoining repeats, overlapping alternatives."""
    atoms = ["a", "[a-z]", r"\w", ".", "(?:a|aa)", "(?:a|b|ab)", r"\pL", r"[^\n]", r"(?:\d|\w)", "(?:ab?)"]
    shapes = [
        "(?:{0}+)+$",
        "(?:{0}*)*$",
        "(?:{0}|{0})*$",
        "{0}*{0}*{0}*x",
        "(?:{0}+){{10}}x",
        "^(?:{0}*,)*x",
        "(?:{0}{{1,30}}){{1,20}}x",
        "(?:{0}?){{30}}{0}{{30}}x",
        ".*{0}.*{0}.*x",
        "(?:(?:{0}+)*)+x",
        "(?:{0}+|{0}+x)+y",
        "x*{0}*x*{0}*x*y",
        "(?:{0}{{2}})*{0}x",
        "(?:.*{0}){{8}}x",
        "(?:{0}*)*x(?:{0}*)*",
        r"\b(?:{0}+ ?)+x",
        "(?:^|x)(?:{0}+)+(?:$|y)z",
        "(?:{0}|x)*(?:{0}|y)*z",
        "{0}+{0}+{0}+{0}+x",
        "(?:{0}{{0,50}})*x",
    ]
    return [shape.format(atom) for shape in shapes for atom in atoms]


def accepted(name: str, pattern: str) -> PrefilterRule | None:
    """A rule of one pattern, or None where the config would refuse it."""
    try:
        return PrefilterRule(name=name, patterns=(pattern,))
    except ValidationError:
        return None


def seconds(rule: PrefilterRule, spec: FilterSpec, size: int) -> dict[str, float]:
    """The shortest time of the processor for each text of one size: what else the machine does only adds to it."""
    prefilter = Prefilter(spec.model_copy(update={"prefilter": (rule,)}))
    found = {}
    for name, text in texts(size):
        article = ArticleText(text[: min(size, 300)], text, text)
        taken: list[float] = []
        while len(taken) < REPEATS and sum(taken) < ENOUGH_S:
            start = time.thread_time()  # not the time of others on the same core
            prefilter.check(article)
            taken.append(time.thread_time() - start)
        found[name] = min(taken)
    return found


def growth(by_size: dict[int, float]) -> float:
    """The exponent of time as a power of size, between the two largest sizes."""
    (small, large) = sorted(by_size)[-2:]
    return math.log(max(by_size[large], SHORTEST_S) / max(by_size[small], SHORTEST_S)) / math.log(large / small)


def measured(rules: list[PrefilterRule], spec: FilterSpec) -> dict[str, object]:
    """The worst text of each size, over all rules, with the rule and the growth that is worst."""
    worst = dict.fromkeys(SIZES, (0.0, "", ""))
    exponents: dict[str, float] = {}
    for number, rule in enumerate(rules):
        found = {size: seconds(rule, spec, size) for size in SIZES}
        for size, by_text in found.items():
            name = max(by_text, key=by_text.__getitem__)
            worst[size] = max(worst[size], (by_text[name], rule.patterns[0] if rule.patterns else rule.name, name))
        exponents[f"{number} {rule.name}"] = max(
            growth({size: found[size][name] for size in SIZES}) for name, _ in texts(SIZES[0])
        )
        print(f"{number + 1} of {len(rules)}: {rule.name}", file=sys.stderr)
    slowest = max(exponents, key=exponents.__getitem__)
    return {
        "rules": len(rules),
        "worst_ms": {
            str(size): {"ms": 1000 * s, "rule": rule, "text": text} for size, (s, rule, text) in worst.items()
        },
        "worst_growth": {"exponent": round(exponents[slowest], 3), "rule": slowest},
        "median_growth": round(statistics.median(exponents.values()), 3),
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = load_filter(find_filter(options.filter))
    without = spec.model_copy(update={"prefilter_unless": ()})
    hostile = [rule for i, pattern in enumerate(hostile_patterns()) if (rule := accepted(f"hostile_{i}", pattern))]
    report = {
        "filter": spec.label,
        "machine": asdict(this_machine().processor),
        "python": platform.python_version(),
        "own_rules": measured(list(spec.prefilter), spec),
        "hostile_patterns": {"refused": len(hostile_patterns()) - len(hostile), **measured(hostile, without)},
    }
    text = json.dumps(report, indent=1, ensure_ascii=False)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
