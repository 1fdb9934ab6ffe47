"""What a filter's prefilter rules block, what they miss, and how long each takes, counted on articles."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.articles.text import ArticleText
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.articles import ReceivedArticle, UnusableLine, check_files, read_lines


@dataclass(frozen=True, slots=True)
class Counted:
    """An article's text, its language (`?` where unstated), and whether it is a find (None without labels)."""

    text: ArticleText
    language: str
    find: bool | None


def read_counted(files: Sequence[Path], finds: Sequence[Path], spec: FilterSpec) -> tuple[list[Counted], int]:
    """The articles of both lists of JSON lines, and how many lines hold no article with a text.

    In `files` an article with labels is a find from the operating tier's weighted overall on; every article of `finds`
    is one.

    Raises:
        InputError: a file is missing, labels do not fit the filter, or there is no usable article.
    """
    check_files((*files, *finds))
    sources = [*((f, False) for f in files), *((f, True) for f in finds)]
    read = [found for file, certain in sources for found in _read(file, certain, spec)]
    articles = [found for found in read if found is not None]
    if not articles:
        raise InputError("articles", [Problem(", ".join(map(str, (*files, *finds))), "no usable article", "one")])
    return articles, len(read) - len(articles)


def evaluate_prefilter(
    spec: FilterSpec, articles: Sequence[Counted], clock: Callable[[], float] = time.perf_counter
) -> dict[str, object]:
    """Pass and block rates by language, each rule's blocks, misses and time, and the trade-off curve, as JSON data.

    Shadow rules are counted as if they blocked in `rules` and in `curve`, and not in `total` and `languages`.
    """
    hits = [_hits(spec, place, articles, clock) for place in range(len(spec.prefilter))]
    modes = [rule.mode for rule in spec.prefilter]
    blocked = [
        any(h[0][i] for h, mode in zip(hits, modes, strict=True) if mode == "block") for i in range(len(articles))
    ]
    languages = {a.language for a in articles}
    return {
        "filter": spec.label,
        "total": _rates(articles, blocked),
        "languages": {name: _rates(*_only(name, articles, blocked)) for name in sorted(languages)},
        "rules": [
            {"name": rule.name, "mode": rule.mode, **_rule(articles, *found)}
            for rule, found in zip(spec.prefilter, hits, strict=True)
        ],
        "curve": list(_curve(spec, articles, [found[0] for found in hits])),
    }


def _read(file: Path, certain: bool, spec: FilterSpec) -> Iterator[Counted | None]:
    for record, line in read_lines(file, spec.text):
        if isinstance(line, UnusableLine) and line.fault != "no text":
            yield None
            continue
        find = True if certain else _is_ungated_find(record.get("labels"), spec, line.where)
        language = str(record.get("language") or "?")
        yield Counted(line.cleaned, language, find) if isinstance(line, ReceivedArticle) else None


def _is_ungated_find(labels: object, spec: FilterSpec, where: str) -> bool | None:
    """Whether the weighted mean, before any gatekeeper's cap, reaches the operating tier; None without labels.

    A rule must not block what only a gate would stop: gates change more often than rules.
    """
    if labels is None:
        return None
    overall = 0.0
    for dimension in spec.dimensions:
        value = labels.get(dimension.name) if isinstance(labels, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
            problem = Problem(f"{where}.labels.{dimension.name}", repr(value), "a number in [0, 10]")
            raise InputError("articles", [problem])
        overall += dimension.weight * value
    return overall >= spec.operating_overall - 1e-9


def _hits(
    spec: FilterSpec, place: int, articles: Sequence[Counted], clock: Callable[[], float]
) -> tuple[list[bool], list[float]]:
    """Whether one rule by itself matches each article, and the seconds that took."""
    alone = Prefilter(spec.model_copy(update={"prefilter": (spec.prefilter[place],)}))
    matched, seconds = [], []
    for article in articles:
        start = clock()
        result = alone.check(article.text)
        seconds.append(clock() - start)
        matched.append(result.blocked_by is not None or bool(result.shadows))
    return matched, seconds


def _rule(articles: Sequence[Counted], matched: Sequence[bool], seconds: Sequence[float]) -> dict[str, object]:
    missed = Counter(a.language for a, hit in zip(articles, matched, strict=True) if hit and a.find)
    ordered = sorted(seconds)
    return {
        **_rates(articles, matched),
        "missed_by_language": dict(sorted(missed.items())),
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
    }


def _curve(
    spec: FilterSpec, articles: Sequence[Counted], hits: Sequence[Sequence[bool]]
) -> Iterator[dict[str, object]]:
    """The rates with the first rule on, the first two, and so on."""
    blocked = [False] * len(articles)
    for rule, matched in zip(spec.prefilter, hits, strict=True):
        blocked = [old or new for old, new in zip(blocked, matched, strict=True)]
        yield {"with": rule.name, **_rates(articles, blocked)}


def _only(language: str, articles: Sequence[Counted], blocked: Sequence[bool]) -> tuple[list[Counted], list[bool]]:
    chosen = [i for i, article in enumerate(articles) if article.language == language]
    return [articles[i] for i in chosen], [blocked[i] for i in chosen]


def _rates(articles: Sequence[Counted], blocked: Sequence[bool]) -> dict[str, object]:
    finds = [hit for article, hit in zip(articles, blocked, strict=True) if article.find]
    return {
        "n": len(articles),
        "blocked": sum(blocked),
        "block_rate": sum(blocked) / len(articles),
        "finds": len(finds),
        "missed": sum(finds),
        "pass_rate": 1 - sum(finds) / len(finds) if finds else None,
    }
