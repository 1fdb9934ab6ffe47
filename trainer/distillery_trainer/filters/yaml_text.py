"""Strict reading of YAML: plain data, the line of every value, and every problem at once, in bounded time.

YAML has more than a config needs, and much of it surprises: `no` is false, `012` is ten, `1:30` is ninety, `1e-3` is a
string, an alias can stand for a billion values. Mappings, lists, plain and quoted scalars and (within a limit) aliases
are read; tags, merge keys, a second document and scalars that only YAML takes for numbers or dates are problems.
PyYAML's parser gives the events (the one in Python: libyaml's accepts other texts), nothing of it constructs a value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from distillery_runtime.errors import InputError, Problem

MAX_BYTES = 64 * 1024  # four times the largest config that we know; PyYAML reads the densest in half a second
MAX_VALUES = 10_000  # aliases written out
MAX_DEPTH = 32
MAX_DIGITS = 18

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_EXPONENT = re.compile(r"([-+]?[0-9]+)(\.[0-9]*)?[eE]([-+]?)([0-9]+)")
_COMMA = re.compile(r"([-+]?[0-9]+),([0-9]+)")
_CUT_OFF = re.compile(r"\s+(#\S.*)")  # a comment begins with `# `: without the space it is the end of somebody's text
_LAST_PART = re.compile(r"(\.[^.\[\]]*|\[[^\[\]]*\])$")
_RESOLVER = yaml.resolver.Resolver()
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands. `plain`: a scalar as it was written, where it was written without quotes."""

    line: int
    plain: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML text holds, as JSON-like data, with the place of each value by its path, and what is wrong with it.

    Paths are those of `spec_checks`: `dimensions[0].weight`.
    """

    data: object
    places: Mapping[str, Place]
    problems: tuple[Problem, ...]

    def explain(self, problems: Sequence[Problem]) -> list[Problem]:
        """The document's problems and those that were found in its data, with lines, and in YAML's own terms.

        Where the text is at fault, what was found in the data at the same place is the consequence and is left out.
        """
        own = {problem.path for problem in self.problems}
        found = [_explained(problem, self._place(problem.path)) for problem in problems if problem.path not in own]
        return [*self.problems, *found]

    def _place(self, path: str) -> Place | None:
        """That of a path, or of the nearest value that holds it."""
        if path in self.places:
            return self.places[path]
        while path:
            shorter = _LAST_PART.sub("", path)
            path = shorter if shorter != path else ""
            if path in self.places:
                return Place(self.places[path].line)
        return None


def read_yaml(content: str | bytes, path: str = "", scale: int = 1) -> Document:
    """Reads a YAML text.

    Args:
        path: of the whole, put before every path in it.
        scale: by which the limits are higher, for files that we wrote ourselves.

    Raises:
        InputError: it cannot be read to its end: too long, not UTF-8, no YAML, or aliases without measure.
    """
    text = _decoded(content, scale * MAX_BYTES)
    reader = _Reader(text, scale, yaml.parse(text, Loader=yaml.SafeLoader))
    try:
        data = reader.read(path)
    except yaml.MarkedYAMLError as error:
        raise _refusal(_syntax_problem(error, text)) from error
    return Document(data, reader.places, tuple(reader.problems))


def _refusal(problem: Problem) -> InputError:
    return InputError("YAML", [problem])


def _decoded(content: str | bytes, limit: int) -> str:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > limit:
        raise _refusal(Problem("(file)", f"more than {limit} bytes", "a config of no more"))
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw[:4]:
        raise _refusal(Problem("(file)", "text in UTF-16 or UTF-32", "UTF-8: save it as UTF-8"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        found = f"the byte 0x{raw[error.start]:02x}, which is not UTF-8"
        raise _refusal(Problem("(file)", found, "UTF-8: save it as UTF-8", line)) from error
    if control := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise _refusal(Problem("(file)", f"the invisible character {control.group()!r}", "text without it", line))
    return text


@dataclass(frozen=True, slots=True)
class _Value:
    """A value with its size, aliases written out."""

    data: object
    values: int
    characters: int


@dataclass(slots=True)
class _Anchor:
    line: int
    path: str
    value: _Value | None = None  # None until the value is complete
    is_used: bool = False


@dataclass(slots=True)
class _Reader:
    """Builds data from PyYAML's events, and keeps places and problems on the way."""

    text: str
    scale: int
    _events: Iterator[Any]  # Any: PyYAML has no types for its events
    places: dict[str, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _anchors: dict[str, _Anchor] = field(default_factory=dict)
    _values: int = 0
    _characters: int = 0

    def read(self, path: str) -> object:
        data: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._add(path or "(top)", "a second document, after '---'", "one document", event)
                    break
                data = self._node(next(self._events), path, 0).data
        for name, anchor in self._anchors.items():
            if not anchor.is_used:
                found, expected = f"&{name}, an anchor that no alias uses", "quotes around it, if it is text"
                self.problems.append(Problem(anchor.path, found, expected, anchor.line))
        return data

    def _node(self, event: Any, path: str, depth: int) -> _Value:  # Any: as above
        line = event.start_mark.line + 1
        self.places.setdefault(path, Place(line))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        anchor = self._anchor(event, path, line)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(path, f"the tag {tag}", "no tag; quotes around it, if it is text", event)
        if depth > MAX_DEPTH:
            raise _refusal(Problem("(file)", f"more than {MAX_DEPTH} levels", "lists and mappings less deep", line))
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        if anchor:
            anchor.value = value
        return value

    def _sequence(self, path: str, depth: int) -> _Value:
        items: list[_Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return self._collected([item.data for item in items], items)

    def _mapping(self, path: str, depth: int) -> _Value:
        content: dict[str, object] = {}
        items: list[_Value] = []
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(event, path, depth)
            if key is None:
                self._node(next(self._events), f"{path}.?", depth + 1)
                continue
            inner = f"{path}.{key}" if path else key
            if key in lines:
                self._add(inner, f"a key given twice (first in line {lines[key]})", "each key once", event)
                self._node(next(self._events), f"{inner}.?", depth + 1)
                continue
            lines[key] = line
            self.places[inner] = Place(line)
            items.append(self._node(next(self._events), inner, depth + 1))
            content[key] = items[-1].data
        return self._collected(content, items)

    def _key(self, event: Any, path: str, depth: int) -> str | None:  # Any: as above
        """A key as text; None for one that is no text, which is a problem."""
        if not isinstance(event, yaml.ScalarEvent):
            kind = "an alias" if isinstance(event, yaml.AliasEvent) else "a mapping" if isinstance(
                event, yaml.MappingStartEvent) else "a list"  # fmt: skip
            braces = "{{" in self._line(event) or "{ {" in self._line(event)
            cure = "quotes around the text: braces begin a mapping" if braces else "text as a key"
            self._add(path or "(top)", f"{kind} as a key", cure, event)
            self._skip(event, path, depth)
            return None
        key: str = event.value
        if event.implicit[0] and key == "<<":
            self._add(f"{path}.<<" if path else "<<", "a merge key", "the keys written out", event)
            return None
        if event.implicit[0] and not isinstance(_resolved(key), str):
            inner = f"{path}.{key}" if path else key
            self._add(inner, f"a key that YAML reads as {_kind(key)}", f'text in quotes: "{key}"', event)
        return key

    def _skip(self, event: Any, path: str, depth: int) -> None:  # Any: as above
        """Reads over a key that is a collection."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._node(event, f"{path}.?", depth + 1)

    def _scalar(self, event: Any, path: str) -> _Value:  # Any: as above
        text: str = event.value
        is_plain = bool(event.implicit[0])
        self._count(1, len(text))
        if not is_plain:
            return _Value(text, 1, len(text))
        self.places[path] = Place(self.places[path].line, text)
        if " " in text and (cut := _CUT_OFF.match(self._rest(event))):
            self._add(path, f"{cut[1]} after the text, which YAML reads as a comment", "all of it in quotes", event)
        value = _resolved(text)
        if isinstance(value, _Ambiguous):
            self._add(path, f"{text}, which YAML reads as {value.kind}", value.cure, event)
            return _Value(text, 1, len(text))
        return _Value(value, 1, len(text))

    def _collected(self, data: object, items: Sequence[_Value]) -> _Value:
        self._count(1, 0)
        return _Value(data, 1 + sum(i.values for i in items), sum(i.characters for i in items))

    def _anchor(self, event: Any, path: str, line: int) -> _Anchor | None:  # Any: as above
        if event.anchor is None:
            return None
        if event.anchor in self._anchors:
            first = self._anchors[event.anchor].line
            self._add(path, f"&{event.anchor}, an anchor given twice (first in line {first})", "another name", event)
        anchor = self._anchors[event.anchor] = _Anchor(line, path)
        return anchor

    def _alias(self, event: Any, path: str) -> _Value:  # Any: as above
        anchor = self._anchors.get(event.anchor)
        if anchor is None or anchor.value is None:
            what = "an alias of what holds it" if anchor else f"an alias without an anchor &{event.anchor}"
            if anchor:
                anchor.is_used = True
            self._add(path, f"*{event.anchor}, {what}", f'quotes, if it is text: "*{event.anchor}"', event)
            return _Value(f"*{event.anchor}", 1, 0)
        anchor.is_used = True
        self._count(anchor.value.values, anchor.value.characters)
        return anchor.value

    def _count(self, values: int, characters: int) -> None:
        self._values += values
        self._characters += characters
        if self._values > self.scale * MAX_VALUES or self._characters > self.scale * MAX_BYTES:
            most = f"{self.scale * MAX_VALUES} values or {self.scale * MAX_BYTES} characters"
            found = f"more than {most}, aliases written out"
            raise _refusal(Problem("(file)", found, "fewer values, and aliases of small ones only"))

    def _add(self, path: str, found: str, expected: str, event: Any) -> None:  # Any: as above
        self.problems.append(Problem(path or "(top)", found, expected, event.start_mark.line + 1))

    def _rest(self, event: Any) -> str:  # Any: as above
        """What stands behind a value on its last line."""
        return _line_of(self.text, event.end_mark.line)[event.end_mark.column :]

    def _line(self, event: Any) -> str:  # Any: as above
        return _line_of(self.text, event.start_mark.line)


@dataclass(frozen=True, slots=True)
class _Ambiguous:
    """A plain scalar that YAML 1.1 reads as something that its writer hardly means."""

    kind: str
    cure: str


def _resolved(text: str) -> str | bool | int | float | _Ambiguous | None:
    """The value of a plain scalar, as YAML 1.1 has it."""
    resolve: Any = _RESOLVER.resolve  # Any: PyYAML leaves it untyped
    tag = resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2]
    quoted = f'"{text}" in quotes'
    if tag == "null":
        return None
    if tag == "bool":
        return _WORDS[text.lower()]
    if tag == "int":
        if len(text) > MAX_DIGITS:
            return _Ambiguous("an integer", f"at most {MAX_DIGITS} digits")
        if _DECIMAL.fullmatch(text):
            return int(text)
        return _Ambiguous("another integer", f"a decimal integer, or {quoted}")
    if tag == "float":
        if "_" in text or ":" in text:
            return _Ambiguous("another number", f"a decimal number, or {quoted}")
        if text.lstrip("+-").lower() in (".inf", ".nan"):
            return float(text.replace(".", ""))
        return float(text)
    kinds = {"timestamp": "a date", "merge": "a merge key", "value": "a default value"}
    return _Ambiguous(kinds[tag], quoted) if tag in kinds else text


def _kind(text: str) -> str:
    """What YAML takes a plain scalar for, in words."""
    value = _resolved(text)
    if isinstance(value, _Ambiguous):
        return value.kind
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else "a number"


def _explained(problem: Problem, place: Place | None) -> Problem:
    """A problem of a value with its line and, where the way it was written is the cause, the way to write it."""
    if place is None:
        return problem
    found, expected = problem.found, problem.expected
    if place.plain is not None:
        value = _resolved(place.plain)
        if isinstance(value, bool) and place.plain.lower() not in ("true", "false"):
            found = f"{place.plain}, which YAML reads as {str(value).lower()}"
        if expected == "text" and value is not None:
            expected = f'text in quotes: "{place.plain}"'
        if expected == "an integer" and isinstance(value, float) and value.is_integer():
            expected = f"an integer: {int(value)}"
    elif expected == "text" and found[:1] in ("{", "["):
        expected = "text: in quotes, where it holds ': ', [ or {"
    return replace(problem, found=found, expected=_number_cure(found, expected), line=place.line)


def _number_cure(found: str, expected: str) -> str:
    """What was expected where a number was and text was found, with that number as YAML reads it."""
    if expected not in ("a number", "an integer") or found[:1] not in ("'", '"'):
        return expected
    text = found[1:-1].strip()
    if exponent := _EXPONENT.fullmatch(text):
        whole, fraction, sign, power = exponent.groups()
        return f"{expected}: write {whole}{fraction or '.0'}e{sign or '+'}{power}"
    if comma := _COMMA.fullmatch(text):
        return f"{expected}: write {comma[1]}.{comma[2]}"
    return f"{expected}: write {text} without quotes" if isinstance(_resolved(text), int | float) else expected


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    """Cause and cure of a text that is no YAML, with the line to look at."""
    what = str(error.problem or error.context)
    is_open = "end of stream" in what or "<stream end>" in what or "document separator" in what
    context = str(error.context or "")
    mark = error.context_mark if is_open and error.context_mark else error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    content = _line_of(text, line)
    at = content[mark.column : mark.column + 1] if mark else ""
    indent = content[: len(content) - len(content.lstrip())]
    if "\t" in indent or at == "\t":
        found, expected = "a tab", "spaces: YAML takes no tabs outside quotes"
    elif "mapping values are not allowed" in what:
        found = "a second colon, or a line not indented as the one above"
        expected = "quotes around a text with ': ' in it"
    elif "quoted scalar" in context and is_open:
        found, expected = "a quote that is not closed", "a closing quote; inside '...' an apostrophe is written twice"
    elif "flow" in context:
        found = "a list or mapping in brackets that is not closed"
        expected = "a closing bracket, commas between values, quotes around text with , : { } [ ] in it"
    elif at and at in "@`%!&*|>?-" and "<block end>" not in what:
        found, expected = f"text that begins with {at}", "quotes around it"
    elif "expected <block end>" in what or "could not find expected ':'" in what:
        found = "a line that does not continue what is above"
        expected = "the same indentation as its neighbours, and quotes around text with quotes or colons in it"
    else:
        found, expected = what, "readable YAML"
    return Problem("(file)", found, f"{expected} ({_excerpt(content)})", line + 1)


def _excerpt(line: str) -> str:
    line = line.strip().replace("\t", "\\t")
    return line if len(line) <= 60 else f"{line[:57]}..."


def _line_of(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number] if number < len(lines) else ""
