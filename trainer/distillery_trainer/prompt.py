"""The oracle's prompt: the filter's prose with dimensions, anchors and reply schema rendered from its spec."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import BANDS, Dimension, FilterSpec

PLACEHOLDERS = ("summary", "dimensions", "reply_schema")


def render_prompt(template: str, spec: FilterSpec, where: str = "prompt.md") -> str:
    """Fills `{{summary}}`, `{{dimensions}}` and `{{reply_schema}}`.

    Raises:
        InputError: a placeholder is missing, used twice, or unknown.
    """
    problems = check_template(template)
    if problems:
        raise InputError(where, problems)
    values = {
        "summary": " ".join(spec.summary.split()),
        "dimensions": "\n\n".join(_dimension(dimension) for dimension in spec.dimensions),
        "reply_schema": json.dumps(reply_schema(spec), indent=2),
    }
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: values[match[1]], template)


def read_template(path: Path) -> str:
    """A prompt's text.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), [Problem("(file)", str(error), "UTF-8 text")]) from error


def check_template(template: str) -> list[Problem]:
    """What is wrong with a template's placeholders."""
    found = re.findall(r"\{\{\s*(.*?)\s*\}\}", template)
    problems = [
        Problem(f"{{{{{name}}}}}", f"{found.count(name)} times", "exactly once")
        for name in PLACEHOLDERS
        if found.count(name) != 1
    ]
    unknown = sorted(set(found) - set(PLACEHOLDERS))
    expected = f"one of {', '.join(PLACEHOLDERS)}"
    return [*problems, *(Problem(f"{{{{{name}}}}}", "unknown", expected) for name in unknown)]


def reply_schema(spec: FilterSpec) -> Mapping[str, object]:
    """The JSON Schema of the oracle's reply: one half-point score for each dimension and nothing else."""
    score = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.5}
    return {
        "type": "object",
        "properties": dict.fromkeys(spec.dimension_names, score),
        "required": list(spec.dimension_names),
        "additionalProperties": False,
    }


def _dimension(dimension: Dimension) -> str:
    rows = "\n".join(f"| {band} | {' '.join(dimension.anchors[band].split())} |" for band in BANDS)
    return f"### {dimension.name}\n{dimension.question}\n\n| score | evidence |\n|---|---|\n{rows}"
