"""A reply's JSON Schema in the forms that providers take: what they do not know is left out, and checked by us."""

from collections.abc import Mapping, Sequence

_FOR_ALL = ("type", "description", "enum", "minimum", "maximum", "required", "minItems", "maxItems")


def plain_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """For OpenAI-compatible servers: without steps of numbers and other words that some of them refuse."""
    return _reduced(schema, (*_FOR_ALL, "additionalProperties"))


def google_schema(schema: Mapping[str, object]) -> dict[str, object]:
    """For Gemini's `responseSchema`, a part of OpenAPI's: with the order in which properties are to be written."""
    return _as_google(_reduced(schema, _FOR_ALL))


def _reduced(schema: Mapping[str, object], kept: Sequence[str]) -> dict[str, object]:
    found = {name: schema[name] for name in kept if name in schema}
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, Mapping):
        found["properties"] = {name: _reduced(part, kept) for name, part in properties.items()}
    if isinstance(items, Mapping):
        found["items"] = _reduced(items, kept)
    return found


def _as_google(schema: dict[str, object]) -> dict[str, object]:
    found = schema | {"type": str(schema["type"]).upper()} if "type" in schema else schema
    if isinstance(items := schema.get("items"), dict):
        found |= {"items": _as_google(items)}
    if isinstance(properties := schema.get("properties"), dict):
        found |= {"properties": {name: _as_google(part) for name, part in properties.items()}}
        found |= {"propertyOrdering": list(properties)}
    return found
