"""Markup: tags, comments and hidden elements are removed, comparisons and generics (`x<y`, `List<String>`) are kept.

A tag is an element name of HTML, SVG or MathML, followed by `>` or by what can only be attributes. With an unknown name
it takes more: `<x:y>`, `<x/>`, an attribute in quotes, or a closing tag, which makes `<x>` one too. Tags that occur
inside words (the text-level elements of the HTML standard) join what they stood between, all others separate it.

These patterns need Python's `re`: a match costs a thirtieth of one in RE2, whose Python side computes offsets.
They are linear by construction: repeats are possessive, no attempt reads past the next place where a tag may begin, and
what runs to a closing sign is looked for only where such a sign follows.
"""

import re
from collections.abc import Iterable, Sequence

_INLINE = (
    "a abbr acronym b basefont bdi bdo big blink cite code data del dfn em font i ins kbd mark nobr q rb ruby s "
    "samp small span strike strong sub sup time tt u var wbr"
)
_SEPARATING = (
    "address applet area article aside audio base bgsound blockquote body br button canvas caption center col "
    "colgroup command content datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form "
    "frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe image img input isindex keygen label legend "
    "li link listing main map marquee math menu menuitem meta meter multicol nav nextid noembed noframes noscript "
    "object ol optgroup option output p param picture plaintext portal pre progress rp rt rtc script search section "
    "select shadow slot source spacer style summary svg table tbody td template textarea tfoot th thead title tr "
    "track ul video xml xmp animate circle clippath defs desc ellipse fecolormatrix fegaussianblur filter "
    "foreignobject g lineargradient line mask metadata path pattern polygon polyline radialgradient rect stop "
    "symbol text textpath tspan use maction merror mfrac mi mn mo mover mrow ms mspace msqrt mroot mstyle msub "
    "msubsup msup mtable mtd mtext mtr munder munderover semantics annotation"
)
_BOOLEAN = (
    "allowfullscreen async autofocus autoplay border checked class compact controls crossorigin default defer "
    "disabled download hidden inert ismap itemscope loop multiple muted nohref nomodule noresize noshade novalidate "
    "nowrap open playsinline readonly required reversed selected"
)
_HIDDEN = ("script", "style", "head", "template")
# Elements that do nothing without an attribute, and are names of types: `List<object>`, `Vec<Label>`.
_TYPES = "area base data embed frame image input link map meta object option param source track"


def _any(names: Iterable[str]) -> str:
    """A pattern for any of the names, by their common beginnings."""
    rests: dict[str, list[str]] = {}
    for name in sorted(names, reverse=True):
        rests.setdefault(name[:1], []).append(name[1:])
    return "(?:" + "|".join(head + (_any(rest) if any(rest) else "") for head, rest in rests.items()) + ")"


_END = r"(?=[\s/>])"
_LITERAL_LESS = r"<(?![A-Za-z/!?])"
_QUOTED = "|".join(rf"{quote}(?:[^{quote}<]++|{_LITERAL_LESS})*+{quote}{_END}" for quote in "\"'")
_REST = rf"""(?:(?:[^<>"'=]++|=\s*+(?:{_QUOTED})|["'=])*+>|[^<>]*+>)"""
_VALUELESS = rf"\s++(?:(?ai:{_any(_BOOLEAN.split())})|(?a:[a-z]++-[\w-]++)){_END}(?!\s*+=)"
_FIRST_ATTRIBUTE = r"""(?=[\s/]++[^\s<>"'=/]++\s*+=|[^<>]*?=\s*+["'])[\s/]"""
_ATTRIBUTES = rf"(?:{_VALUELESS})*+(?:[\s/]*+>|{_FIRST_ATTRIBUTE}{_REST})"
_TYPE_ARGUMENT = rf"(?<=\w<)(?:[A-Z](?:>(?!\w)|[a-z]{{2}}\w*+>)|{_any(_TYPES.split())}>)"


def _tag_of(names: Sequence[str]) -> str:
    """A pattern for what follows `<` in a tag of these elements; names of one letter, the most frequent, go first."""
    letters = "".join(name for name in names if len(name) == 1)
    return rf"/?+(?:[{letters}]>|(?!{_TYPE_ARGUMENT})(?ai:{_any(names)})(?:>|{_END}{_ATTRIBUTES}))"


_INLINE_NAME = rf"(?ai:{_any(_INLINE.split())}){_END}"
_JOINING_TAG = re.compile(rf"<{_tag_of(_INLINE.split())}")
_OTHER_TAG = re.compile(
    rf"<(?:{_tag_of(_SEPARATING.split())}"
    rf"|/(?!{_INLINE_NAME})[A-Za-z][^\s<>/]*+(?:[\s/][^<>]*+)?+>"
    rf"|(?!{_INLINE_NAME})[A-Za-z][\w:.-]*+(?:\s*+/>|\s++[^\s<>\"'=/]++\s*+(?==\s*+[\"']){_REST})"
    r"|[a-z][a-z0-9]*+:[a-z][\w.-]*+\s*+>"
    r"|!(?ai:DOCTYPE|ELEMENT|ENTITY|ATTLIST|NOTATION)(?=\s)[^<>]*+>"
    r"|!\[(?ai:if|else|endif)[^<>]*+>|!-*+>"
    r"|\?[A-Za-z][^<>]*+(?<=\?)>)"
)
_OPENING = re.compile(r"<([A-Za-z][\w.-]*+)\s*+>")
_CLOSED = re.compile(r"</([A-Za-z][\w.-]*+)\s*+>")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ELEMENTS = tuple(
    (re.compile(rf"(?ai:</{name})\s*+>"), re.compile(rf"(?s:(?ai:<{name}){_END}.*?(?ai:</{name})\s*+>)"))
    for name in _HIDDEN
)


def strip_markup(text: str) -> str:
    """Removes markup once. What is left may be markup again, where markup stood inside markup (`<<b>b>`)."""
    if "]]>" in text:
        text = _up_to(text.rfind("]]>") + 3, text, _CDATA, r"\1")
    text = text.replace("<![CDATA[", "")
    for closing, element in _ELEMENTS:
        end = max((match.end() for match in closing.finditer(text)), default=0)
        if end:
            text = _up_to(end, text, element, " ")
    if "-->" in text:
        text = _up_to(text.rfind("-->") + 3, text, _COMMENT, " ")
    stripped = _OTHER_TAG.sub(" ", _JOINING_TAG.sub("", text))
    if "<" in stripped and "</" in text and (closed := set(_CLOSED.findall(text))):
        stripped = _OPENING.sub(lambda match: " " if match[1] in closed else match[0], stripped)
    return stripped


def _up_to(end: int, text: str, pattern: re.Pattern[str], replacement: str) -> str:
    """Replaces in the part of the text that ends with the last closing sign: there every opening one finds another."""
    return pattern.sub(replacement, text[:end]) + text[end:]
