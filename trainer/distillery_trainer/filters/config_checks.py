"""Checks of a valid config for what would be ignored: phrases that match nothing, empty slices, unused settings.

The runtime's `spec_checks` refuses what it cannot run, in bundles of any age. These rules are for those who write a
config: each names something that would be ignored without a message.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import re2

from distillery_runtime.articles.text import normalise
from distillery_runtime.errors import Problem
from distillery_runtime.spec.model import TextPolicy
from distillery_runtime.spec.patterns import AnyOf, compile_pattern
from distillery_runtime.spec.reading import find_problems

Json = Mapping[str, Any]  # Any: nested JSON

# ISO 639-1, without spaces; codes of three letters are not checked, there are some 8,000.
_CODES = (
    "aaabaeafakamanarasavayazbabebgbhbibmbnbobrbscacechcocrcscucvcydadedvdzee"
    "eleneoeseteufafffifjfofrfygagdglgngugvhahehihohrhthuhyhziaidieigiiikiois"
    "itiujajvkakgkikjkkklkmknkokrkskukvkwkylalblglilnloltlulvmgmhmimkmlmnmrms"
    "mtmynanbndnengnlnnnonrnvnyocojomorospapiplpsptqurmrnrorurwsascsdsesgshsi"
    "skslsmsnsosqsrssstsusvswtatetgthtitktltntotrtstttwtyugukuruzvevivowawoxh"
    "yiyozazhzu"
)
LANGUAGES = frozenset(_CODES[place : place + 2] for place in range(0, len(_CODES), 2))


def check_config(data: object) -> list[Problem]:
    """Lists everything wrong with a config's data: what no spec may be, then what would be ignored."""
    problems = find_problems(data)
    if not isinstance(data, Mapping):
        return problems
    known = {problem.path for problem in problems}
    ignored = [*_blank_texts(data), *_separators(data), *_prefilter(data), *_slices(data), *_languages(data)]
    return [*problems, *(problem for problem in ignored if problem.path not in known)]


def check_unused(data: object) -> Iterator[Problem]:
    """Finds settings of a probe that does not read them; not applied to overrides, which may change the probe alone."""
    probe = _at(data, "cascade.probe")
    if _at(probe, "embedder") != "static":
        return
    for key, unused in (("prefix", ""), ("pooling", "mean"), ("revision", "main"), ("layers", [])):
        value = _at(probe, key)
        if isinstance(value, str | list) and value != unused:
            found = f"{value!r}, which the embedder static does not use"
            yield Problem(f"cascade.probe.{key}", found, "nothing, or another embedder")


# The data may be broken in any way, which `find_problems` says: what is not as it should be is passed over here.


def _at(data: object, path: str) -> object:
    """The value at a dotted path; None where there is none."""
    for key in path.split("."):
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _rows(data: object, path: str) -> Iterator[tuple[str, Json]]:
    """The mappings of a list, each with its path."""
    rows = _at(data, path)
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, Mapping):
            yield f"{path}[{index}]", row


def _texts(data: object, key: str) -> list[tuple[int, str]]:
    """The texts of a list, each with its place."""
    texts = _at(data, key)
    return [(i, text) for i, text in enumerate(texts if isinstance(texts, list) else ()) if isinstance(text, str)]


def _blank_texts(data: Json) -> Iterator[Problem]:
    paths = ["summary", "oracle.model"]
    paths += [f"{place}.{key}" for place in ("cascade.probe", "student.frozen") for key in ("embedder", "revision")]
    paths += [f"student.{backend}.{key}" for backend in ("decoder", "encoder") for key in ("base_model", "revision")]
    texts = [(path, _at(data, path)) for path in paths]
    for path, row in [*_rows(data, "dimensions"), *_rows(data, "flags")]:
        anchors = row.get("anchors")
        texts.append((f"{path}.question", row.get("question")))
        texts += [(f"{path}.anchors.{b}", text) for b, text in anchors.items()] if isinstance(anchors, Mapping) else []
    for path, text in texts:
        if isinstance(text, str) and text and not normalise(text, TextPolicy(strip_markup=False)):
            yield Problem(path, repr(text), "text that is not blank")


def _separators(data: Json) -> Iterator[Problem]:
    if _at(data, "text.title_separator") == "":
        expected = "white space or a sign: the title's last word and the text's first become one"
        yield Problem("text.title_separator", "''", expected)
    for path in ("cascade.probe.window", "student.window"):
        separator = _at(data, f"{path}.separator")
        if isinstance(separator, str) and not separator.strip() and _at(data, f"{path}.tail_share") != 0:
            expected = "a sign such as ' ... ': white space alone is no token, so that head and tail run together"
            yield Problem(f"{path}.separator", repr(separator), expected)


def _prefilter(data: Json) -> Iterator[Problem]:
    policy = TextPolicy(strip_markup=_at(data, "text.strip_markup") is not False)
    always = _texts(data, "prefilter_unless")
    yield from _phrases("prefilter_unless", always, policy)
    if always and not data.get("prefilter"):
        yield Problem("prefilter_unless", "phrases, and no rule under prefilter", "rules that they are exceptions of")
    for path, rule in _rows(data, "prefilter"):
        words, unless = _texts(rule, "words"), _texts(rule, "unless")
        yield from _phrases(f"{path}.words", words, policy)
        yield from _phrases(f"{path}.unless", unless, policy)
        yield from _patterns(f"{path}.patterns", _texts(rule, "patterns"))
        yield from _passed(f"{path}.words", words, unless, "under unless too")
        yield from _passed(f"{path}.words", words, always, "under prefilter_unless too")


def _phrases(path: str, phrases: Sequence[tuple[int, str]], policy: TextPolicy) -> Iterator[Problem]:
    """Phrases that no cleaned text can hold, and phrases given twice (case does not matter)."""
    seen: dict[str, int] = {}
    for index, phrase in phrases:
        plain = phrase.removesuffix("*")
        if (cleaned := normalise(plain, policy)) != plain:
            expected = f"{cleaned!r}: texts are cleaned before rules read them"
            yield Problem(f"{path}[{index}]", f"{phrase!r}, which no cleaned text holds", expected)
        elif phrase.casefold() in seen:
            yield Problem(f"{path}[{index}]", f"{phrase!r}, as {path}[{seen[phrase.casefold()]}]", "each phrase once")
        seen.setdefault(phrase.casefold(), index)


def _patterns(path: str, patterns: Sequence[tuple[int, str]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, pattern in patterns:
        where, compiled = f"{path}[{index}]", _compiled(f"(?:{pattern})")
        if compiled is not None and compiled.search("") is not None:
            yield Problem(where, f"{pattern!r}, which is found in every text", "a pattern that needs some text")
        if unicodedata.normalize("NFC", pattern) != pattern:
            yield Problem(where, repr(pattern), "composed form (Unicode NFC), as texts are when rules read them")
        if pattern in seen:
            yield Problem(where, repr(pattern), "each pattern once")
        seen.add(pattern)


def _passed(
    path: str, words: Sequence[tuple[int, str]], unless: Sequence[tuple[int, str]], where: str
) -> Iterator[Problem]:
    """Phrases that hold one of their own exceptions, so that they never block anything."""
    exceptions = AnyOf([phrase for _, phrase in unless if phrase])
    for index, word in words:
        text = f"{word[:-1]}x" if word.endswith("*") else word  # the exception must hold for any ending
        if exceptions.found_in(text):
            yield Problem(f"{path}[{index}]", f"{word!r}, {where}", "a phrase that can block: this one always passes")


def _compiled(pattern: str) -> Any:  # Any: re2 has no types
    """A pattern as rules use it; None for one that does not compile, which the spec says."""
    try:
        return compile_pattern(pattern)
    except re2.error:
        return None


def _slices(data: Json) -> Iterator[Problem]:
    for path, part in _rows(data, "evaluation.slices"):
        includes, excludes = part.get("includes", ""), part.get("excludes")
        if isinstance(excludes, str) and isinstance(includes, str) and excludes in includes:
            found = f"{excludes!r}, which {'includes holds' if excludes else 'every field holds'}"
            yield Problem(f"{path}.excludes", found, "something else: no article is in this slice")
        if not includes and excludes is None:
            yield Problem(path, "neither includes nor excludes", "one of them: all articles are in this slice")


def _languages(data: Json) -> Iterator[Problem]:
    given: set[str] = set()
    for index, code in _texts(data, "card.language"):
        path = f"card.language[{index}]"
        if len(code) == 2 and code not in LANGUAGES:
            yield Problem(path, repr(code), "an ISO 639-1 code of a language (Japanese is ja, Czech cs, Greek el)")
        if code in given:
            yield Problem(path, repr(code), "each language once")
        given.add(code)
