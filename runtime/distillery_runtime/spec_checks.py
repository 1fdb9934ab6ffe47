"""Reading a spec: every problem of a config at once, those of single fields and those between fields."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from distillery_runtime.errors import Problem, SpecError
from distillery_runtime.spec import BANDS, FilterSpec

WEIGHT_SUM_TOLERANCE = 1e-6
MAX_NUMBER = 1e300  # beyond it an integer may not fit a float


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
        return [Problem("(top)", type(data).__name__, "a mapping")]
    try:
        text = json.dumps(data, allow_nan=True)
    except (TypeError, ValueError) as error:
        return [Problem("(top)", str(error), "only strings, numbers, booleans, lists and mappings with string keys")]
    return [*_structural(text), *_between_fields(data)]


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
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    if item["type"] == "extra_forbidden":
        return Problem(path, "an unknown key", "only the keys of the format")
    if item["type"] == "missing":
        return Problem(path, "nothing", "a value (this key is required)")
    expected = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Problem(path, _short(item.get("input")), expected)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
    evaluation = data.get("evaluation")
    if isinstance(evaluation, Mapping):
        yield from _duplicates("evaluation.slices", _rows(evaluation, "slices"))
        for index, part in enumerate(_rows(evaluation, "slices")):
            if part.get("name") == "total":
                yield Problem(f"evaluation.slices[{index}].name", "'total'", "another name; total is all articles")


def _duplicates(path: str, rows: Sequence[Mapping[str, object]]) -> Iterator[Problem]:
    names = [row.get("name") for row in rows]
    for index, name in enumerate(names):
        if isinstance(name, str) and name in names[:index]:
            yield Problem(f"{path}[{index}].name", repr(name), "a name not used before")


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
        yield Problem("operating_tier", repr(operating), f"one of {', '.join(map(str, names))} (not the lowest)")


def _check_flags(flags: Sequence[Mapping[str, object]], dimensions: Sequence[object]) -> Iterator[Problem]:
    for index, flag in enumerate(flags):
        own = flag.get("name")
        if isinstance(own, str) and own in dimensions:
            yield Problem(f"flags[{index}].name", repr(own), "a name that no dimension has: a reply holds both")
        caps = flag.get("caps")
        for name in caps if isinstance(caps, Mapping) else ():
            if name not in dimensions:
                yield Problem(f"flags[{index}].caps", repr(name), f"one of {', '.join(map(str, dimensions))}")


def _check_gatekeepers(data: Mapping[str, object]) -> Iterator[Problem]:
    names = [d.get("name") for d in _rows(data, "dimensions")]
    blocked = next((t for t in _rows(data, "tiers") if t.get("name") == data.get("operating_tier")), {})
    limit = _number(blocked, "min_overall")
    for index, gatekeeper in enumerate(_rows(data, "gatekeepers")):
        path = f"gatekeepers[{index}]"
        if gatekeeper.get("dimension") not in names:
            yield Problem(
                f"{path}.dimension", repr(gatekeeper.get("dimension")), f"one of {', '.join(map(str, names))}"
            )
        cap = _number(gatekeeper, "overall_cap")
        if cap >= limit:
            expected = f"less than {limit}, where the tier {blocked.get('name')} begins (a higher cap demotes nothing)"
            yield Problem(f"{path}.overall_cap", str(cap), expected)
        if _number(gatekeeper, "below") <= 0:
            yield Problem(f"{path}.below", str(gatekeeper.get("below")), "more than 0 (no score is below it)")
