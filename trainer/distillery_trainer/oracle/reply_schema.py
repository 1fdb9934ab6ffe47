"""A reply's JSON Schema in the forms that providers take: what they do not know is left out, and checked by us."""

import math
from collections.abc import Mapping, Sequence

# Scores are listed as an `enum`: llama.cpp's grammar, which Ollama and LM Studio use too, knows `minimum` and `maximum`
# of integers only, so that a model wrote scores of 349 and 12260e327; older vLLM and OpenAI's strict mode refused both.
# OpenAI takes up to 1,000 values in a schema; the 32 dimensions that a filter may have are 672.
_FOR_ALL = ("type", "description", "enum", "required", "minItems", "maxItems")


def plain_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """For OpenAI-compatible servers: the numbers of a range with steps are listed one by one."""
    return _reduced(schema, (*_FOR_ALL, "additionalProperties"))


def google_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """For Gemini's `responseSchema`, a part of OpenAPI's: with the order in which properties are to be written."""
    return _as_google(_reduced(schema, (*_FOR_ALL, "minimum", "maximum")))


def _reduced(schema: Mapping[str, object], kept: Sequence[str]) -> dict[str, object]:
    found = {name: schema[name] for name in kept if name in schema}
    if "minimum" not in kept:
        found |= _listed(schema)
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, Mapping):
        found["properties"] = {name: _reduced(part, kept) for name, part in properties.items()}
    if isinstance(items, Mapping):
        found["items"] = _reduced(items, kept)
    return found


def _listed(schema: Mapping[str, object]) -> dict[str, object]:
    """The values of a number with bounds and a step, whole ones without a fraction: 0, 0.5, 1, ..."""
    low, high, step = (schema.get(name) for name in ("minimum", "maximum", "multipleOf"))
    if not (isinstance(low, int | float) and isinstance(high, int | float) and isinstance(step, int | float)):
        return {}
    values = (place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1))
    return {"enum": [int(value) if value == int(value) else value for value in values]}


def _as_google(schema: dict[str, object]) -> dict[str, object]:
    found = schema | {"type": str(schema["type"]).upper()} if "type" in schema else schema
    if isinstance(items := schema.get("items"), dict):
        found |= {"items": _as_google(items)}
    if isinstance(properties := schema.get("properties"), dict):
        found |= {"properties": {name: _as_google(part) for name, part in properties.items()}}
        found |= {"propertyOrdering": list(properties)}
    return found
