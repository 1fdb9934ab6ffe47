"""Reading a spec: every problem of a config at once, those of single fields and those between fields."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from distillery_runtime.errors import Problem, SpecError
from distillery_runtime.spec.model import BANDS, FilterSpec

WEIGHT_SUM_TOLERANCE = 1e-6
MAX_NUMBER = 1e300  # beyond it an integer may not fit a float
MAX_DEPTH = 64
MAX_NAMED = 32
MAX_FOUND, MAX_EXPECTED = 80, 300  # characters of a message
PLAIN = {
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
    "string_too_short": "text that is not empty",
}
WRITTEN = {
    r"^[a-z][a-z0-9_]*$": "a name: lower case letters, digits and _, a letter first",
    r"^[a-z]{2,3}$": "an ISO 639 code of two or three lower case letters (nl, not nl-NL)",
    r"^[a-z0-9][a-z0-9.-]*$": "a licence as the Hub names it: lower case letters, digits, dots and hyphens",
}
# Rules of one filter, and in all of them together: compiling them takes a few milliseconds each.
MAX_RULES = 200
MAX_PATTERNS = 1000
MAX_PHRASES = 5000


def parse_spec(data: object, where: str) -> FilterSpec:
    """Reads a spec from JSON-like data.

    Args:
        data: what a YAML or JSON file held.
        where: the file's name, for messages.

    Raises:
        SpecError: with every problem found, each with its path, the value found and what was expected.
    """
    problems = find_problems(data)
    if problems:
        raise SpecError(where, problems)
    return FilterSpec.model_validate_json(json.dumps(data))


def find_problems(data: object) -> list[Problem]:
    """Lists everything wrong with a spec's data; an empty list means that `parse_spec` will succeed."""
    if not isinstance(data, Mapping):
        return [Problem("(top)", "nothing" if data is None else type(data).__name__, "a mapping")]
    problems: list[Problem] = []
    plain = _plain(data, "", problems)
    foreign = {problem.path for problem in problems}
    try:
        text = json.dumps(plain, allow_nan=True)
    except ValueError as error:  # an integer of more digits than Python writes
        return [Problem("(top)", str(error), "numbers of fewer digits")]
    # Rules are counted first, for to read them is to compile their patterns.
    found = list(_count_rules(plain)) or [*_structural(text), *_between_fields(plain)]
    return [*problems, *(problem for problem in found if problem.path not in foreign)]


def _plain(value: object, path: str, problems: list[Problem]) -> Any:  # Any: nested JSON
    """A value as JSON can hold it; what it cannot hold becomes text and a problem, so that it hides no other."""
    if path.count(".") + path.count("[") > MAX_DEPTH:
        problems.append(Problem(path, f"more than {MAX_DEPTH} levels", "lists and mappings less deep"))
        return None
    if isinstance(value, Mapping):
        content = {}
        for key, inner in value.items():
            where = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str):
                problems.append(Problem(where, f"the key {key!r}", "text as a key"))
            content[str(key)] = _plain(inner, where, problems)
        return content
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{path}[{place}]", problems) for place, inner in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    problems.append(Problem(path, _short(value), "text, a number, true or false, a list or a mapping"))
    return str(value)


def _structural(text: str) -> list[Problem]:
    try:
        FilterSpec.model_validate_json(text)
    except ValidationError as error:
        return [describe(item) for item in error.errors(include_url=False)]
    return []


def describe(item: Mapping[str, Any]) -> Problem:  # Any: pydantic's own error record
    """Turns one of pydantic's errors into a problem with a readable path."""
    path = ""
    for part in item["loc"]:
        if isinstance(part, str) and part.startswith("("):  # which of several forms a value was read as
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return Problem(path, "an unknown key", "only the keys of the format")
    if item["type"] == "missing":
        return Problem(path, "nothing", "a value (this key is required)")
    expected = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if item["type"] == "string_pattern_mismatch":
        expected = WRITTEN.get(item["ctx"]["pattern"], f"text that matches {item['ctx']['pattern']}")
    return Problem(path, _short(item.get("input")), _cut(PLAIN.get(item["type"], expected), MAX_EXPECTED))


def _short(value: object) -> str:
    return _cut("nothing" if value is None else repr(value), MAX_FOUND)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _rows(data: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """The mappings listed under a key, whatever else is wrong with them."""
    rows = data.get(key)
    return [row if isinstance(row, Mapping) else {} for row in rows] if isinstance(rows, list) else []


def _number(row: Mapping[str, object], key: str) -> float:
    """A numeric field, or NaN where it is absent or no number (comparisons with it are then false)."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > MAX_NUMBER:
        return math.nan
    return float(value)


def _between_fields(data: Mapping[str, object]) -> Iterator[Problem]:
    """The rules between fields. Broken single fields are reported elsewhere and are passed over here."""
    for key in ("dimensions", "tiers", "flags", "prefilter"):
        yield from _duplicates(key, _rows(data, key))
    yield from _check_dimensions(_rows(data, "dimensions"))
    yield from _check_tiers(_rows(data, "tiers"), data.get("operating_tier"))
    yield from _check_gatekeepers(data)
    yield from _check_flags(_rows(data, "flags"), [d.get("name") for d in _rows(data, "dimensions")])
    for index, rule in enumerate(_rows(data, "prefilter")):
        if not rule.get("words") and not rule.get("patterns"):
            yield Problem(f"prefilter[{index}]", "neither words nor patterns", "at least one of them")
    student = data.get("student")
    frozen = student.get("frozen") if isinstance(student, Mapping) else None
    if isinstance(frozen, Mapping) and frozen.get("embedder") == "static":
        yield Problem("student.frozen.embedder", "'static'", "an encoder; a static table is student.backend: static")
    evaluation = data.get("evaluation")
    if isinstance(evaluation, Mapping):
        yield from _duplicates("evaluation.slices", _rows(evaluation, "slices"))
        for index, part in enumerate(_rows(evaluation, "slices")):
            if part.get("name") == "total":
                yield Problem(f"evaluation.slices[{index}].name", "'total'", "another name; total is all articles")


def _count_rules(data: Mapping[str, object]) -> Iterator[Problem]:
    rules = _rows(data, "prefilter")
    lists = {key: [rule.get(key) for rule in rules] for key in ("patterns", "words", "unless")}
    patterns, phrases = lists["patterns"], [*lists["words"], *lists["unless"], data.get("prefilter_unless")]
    for what, count, most in (
        ("rules", len(rules), MAX_RULES),
        ("patterns in all", sum(len(found) for found in patterns if isinstance(found, list)), MAX_PATTERNS),
        ("phrases in all", sum(len(found) for found in phrases if isinstance(found, list)), MAX_PHRASES),
    ):
        if count > most:
            yield Problem("prefilter", f"{count} {what}", f"at most {most}")


def _duplicates(path: str, rows: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(row.get("name") for row in rows):
        if isinstance(name, str) and name in seen:
            yield Problem(f"{path}[{index}].name", repr(name), "a name not used before")
        elif isinstance(name, str):
            seen.add(name)


def _one_of(names: Sequence[object]) -> str:
    """The names that are allowed, as many of them as a line can hold."""
    return f"one of {', '.join(map(str, names[:MAX_NAMED]))}{', ...' if len(names) > MAX_NAMED else ''}"


def _check_dimensions(dimensions: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    total = sum(_number(d, "weight") for d in dimensions)
    if abs(total - 1) > WEIGHT_SUM_TOLERANCE:
        yield Problem("dimensions[*].weight", f"a sum of {total:.6g}", "a sum of 1")
    for index, dimension in enumerate(dimensions):
        anchors = dimension.get("anchors")
        missing = [band for band in BANDS if isinstance(anchors, Mapping) and band not in anchors]
        if missing:
            yield Problem(f"dimensions[{index}].anchors", f"no {', '.join(missing)}", f"all of {', '.join(BANDS)}")


def _check_tiers(tiers: Sequence[Mapping[str, object]], operating: object) -> Iterator[Problem]:
    lows = [_number(tier, "min_overall") for tier in tiers]
    for index, (above, below) in enumerate(itertools.pairwise(lows), start=1):
        if below >= above:
            yield Problem(f"tiers[{index}].min_overall", str(below), f"less than {above}, highest tier first")
    if lows and lows[-1] > 0:
        yield Problem(f"tiers[{len(lows) - 1}].min_overall", str(lows[-1]), "0, so that every overall has a tier")
    names = [tier.get("name") for tier in tiers[:-1]]
    if tiers and operating not in names:
        yield Problem("operating_tier", repr(operating), f"{_one_of(names)} (not the lowest)")


def _check_flags(flags: Sequence[Mapping[str, object]], dimensions: Sequence[object]) -> Iterator[Problem]:
    known = {name for name in dimensions if isinstance(name, str)}
    for index, flag in enumerate(flags):
        own = flag.get("name")
        if isinstance(own, str) and own in known:
            yield Problem(f"flags[{index}].name", repr(own), "a name that no dimension has: a reply holds both")
        caps = flag.get("caps")
        for name in caps if isinstance(caps, Mapping) else ():
            if name not in known:
                yield Problem(f"flags[{index}].caps", repr(name), _one_of(dimensions))


def _check_gatekeepers(data: Mapping[str, object]) -> Iterator[Problem]:
    names = [d.get("name") for d in _rows(data, "dimensions")]
    blocked = next((t for t in _rows(data, "tiers") if t.get("name") == data.get("operating_tier")), {})
    limit = _number(blocked, "min_overall")
    known = {name for name in names if isinstance(name, str)}
    for index, gatekeeper in enumerate(_rows(data, "gatekeepers")):
        path, dimension = f"gatekeepers[{index}]", gatekeeper.get("dimension")
        if not isinstance(dimension, str) or dimension not in known:
            yield Problem(f"{path}.dimension", repr(dimension), _one_of(names))
        cap = _number(gatekeeper, "overall_cap")
        if cap >= limit:
            expected = f"less than {limit}, where the tier {blocked.get('name')} begins (a higher cap demotes nothing)"
            yield Problem(f"{path}.overall_cap", str(cap), expected)
        if _number(gatekeeper, "below") <= 0:
            yield Problem(f"{path}.below", str(gatekeeper.get("below")), "more than 0 (no score is below it)")
