"""The oracle's prompt: the filter's prose with flags, dimensions, anchors and reply schema rendered from its spec."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import BANDS, Dimension, FilterSpec, Flag

PLACEHOLDERS = ("summary", "dimensions", "reply_schema")
FLAGS = "flags"  # a placeholder of those filters that have any
_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_NAME = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b")
_LOOSE = re.compile(rf"\{{{{1,3}}[ \t]{{0,9}}({'|'.join((*PLACEHOLDERS, FLAGS))})\b[ \t]{{0,9}}\}}{{0,3}}")


def render_prompt(template: str, spec: FilterSpec, where: str = "prompt.md") -> str:
    """Fills `{{summary}}`, `{{dimensions}}` and `{{reply_schema}}`, and `{{flags}}` where the filter has any.

    Raises:
        InputError: a placeholder is missing, used twice, or unknown, or a name is none of the filter's.
    """
    problems = [*check_placeholders(template, bool(spec.flags)), *check_names(template, spec)]
    if problems:
        raise InputError(where, problems)
    values = {
        "summary": " ".join(spec.summary.split()),
        "flags": _flags(spec.flags),
        "dimensions": "\n\n".join(_dimension(dimension) for dimension in spec.dimensions),
        "reply_schema": json.dumps(reply_schema(spec), indent=2),
    }
    return _PLACEHOLDER.sub(lambda match: values[match[1].strip()], template)


def read_template(path: Path) -> str:
    """A prompt's text.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # the mark that some editors write is no part of the prompt
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), [Problem("(file)", str(error), "UTF-8 text")]) from error


def check_placeholders(template: str, has_flags: bool) -> list[Problem]:
    """What is wrong with a template's placeholders."""
    known = (*PLACEHOLDERS, *((FLAGS,) if has_flags else ()))
    counts: dict[str, int] = dict.fromkeys(known, 0)
    first: dict[str, re.Match[str]] = {}
    for match in _PLACEHOLDER.finditer(template):
        name = match[1].strip()
        counts[name] = counts.get(name, 0) + 1
        first.setdefault(name, match)
    why = {FLAGS: "exactly once: the config has flags, about which the oracle is asked there"}
    problems = [
        Problem(f"{{{{{name}}}}}", f"{counts[name]} times", why.get(name, "exactly once"))
        for name in known
        if counts[name] != 1
    ]
    for name, match in first.items():
        if name not in known:
            expected = f"one of {', '.join(known)}" if name != FLAGS else "nothing here: the config has no flags"
            problems.append(Problem(f"{{{{{name}}}}}", "unknown", expected, _line(template, match)))
    loose = {match[0]: match for match in reversed(list(_LOOSE.finditer(_without(_PLACEHOLDER, template))))}
    for written, match in reversed(loose.items()):
        found = "a placeholder without two braces on both sides"
        expected = f"{{{{{match[1]}}}}}: as it stands, the oracle is sent the braces"
        problems.append(Problem(written, found, expected, _line(template, match)))
    return problems


def check_names(template: str, spec: FilterSpec) -> list[Problem]:
    """The names in a template's prose that no reply can hold: words with `_` are taken for names."""
    known = (*spec.flag_names, *spec.dimension_names)
    prose = _without(_LOOSE, _without(_PLACEHOLDER, template))
    used = {match[0]: match for match in reversed(list(_NAME.finditer(prose)))}
    expected = f"a dimension or flag: {', '.join(known)}"
    return [
        Problem(name, "a name that no reply can hold", expected, _line(template, match))
        for name, match in reversed(used.items())
        if name not in known
    ]


def _without(pattern: re.Pattern[str], text: str) -> str:
    """A text with blanks in place of what a pattern finds, so that all else stays where it is."""
    return pattern.sub(lambda match: " " * len(match[0]), text)


def _line(template: str, match: re.Match[str]) -> int:
    return template.count("\n", 0, match.start()) + 1


def reply_schema(spec: FilterSpec) -> Mapping[str, object]:
    """The JSON Schema of the oracle's reply: a boolean for each flag, a half-point score for each dimension, no more.

    Flags come first: what kind of article it is is settled before it is scored.
    """
    flag = {"type": "boolean"}
    score = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.5}
    return {
        "type": "object",
        "properties": dict.fromkeys(spec.flag_names, flag) | dict.fromkeys(spec.dimension_names, score),
        "required": [*spec.flag_names, *spec.dimension_names],
        "additionalProperties": False,
    }


def _dimension(dimension: Dimension) -> str:
    rows = "\n".join(f"| {band} | {' '.join(dimension.anchors[band].split())} |" for band in BANDS)
    return f"### {dimension.name}\n{dimension.question}\n\n| score | evidence |\n|---|---|\n{rows}"


def _flags(flags: Sequence[Flag]) -> str:
    rows = "\n".join(f"| {flag.name} | {' '.join(flag.question.split())} |" for flag in flags)
    return f"| flag | true when |\n|---|---|\n{rows}"
