"""RE2 patterns as rules use them: without case, phrases at word boundaries, any number of them in linear time."""

from collections.abc import Iterator, Sequence
from typing import Any

import re2

# Instructions: in larger programs a hostile text makes RE2 leave its DFA, which costs 20 times more.
MAX_PROGRAM = 25_000
MAX_PHRASES_BYTES = 8_000  # in one pattern, for the same reason
MEMORY_BYTES = 64 << 20  # the most that the states of one pattern's DFA may take


def quiet_options() -> Any:  # Any: re2 has no types
    """RE2's own options, but for its messages on stderr about patterns that do not compile."""
    options = re2.Options()
    options.log_errors = False
    return options


def compile_pattern(pattern: str, memory_bytes: int = MEMORY_BYTES) -> Any:  # Any: as above
    """Compiles a pattern that ignores case; its groups capture nothing.

    Raises:
        re2.error: it is no RE2 pattern, or too large.
    """
    options = quiet_options()
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = memory_bytes
    return re2.compile(pattern, options)


def phrases_pattern(phrases: Sequence[str]) -> str:
    """An RE2 pattern that finds any of the phrases at word boundaries of any script (RE2's own know only ASCII).

    Phrases with any ending share one copy of it: a class of all letters is some hundred instructions.
    """
    whole = [re2.escape(phrase) for phrase in phrases if not phrase.endswith("*")]
    begun = [re2.escape(phrase[:-1]) for phrase in phrases if phrase.endswith("*")]
    alternatives = [*whole, rf"(?:{'|'.join(begun)})[\pL\pN\pM]*"] if begun else whole
    return rf"(?:^|[^\pL\pN\pM_])(?:{'|'.join(alternatives)})(?:$|[^\pL\pN\pM_])"


class AnyOf:
    """Finds any of some phrases and patterns; one pass over a text where they are few, else one for every part."""

    def __init__(self, phrases: Sequence[str], patterns: Sequence[str] = ()) -> None:
        alternatives = [f"(?:{pattern})" for pattern in patterns]
        alternatives += [phrases_pattern(part) for part in _parts(phrases)]
        self._compiled = _compiled(alternatives)

    def found_in(self, text: str) -> bool:
        """Whether the text holds one of them."""
        for one in self._compiled:  # noqa: SIM110 (a generator costs as much as a short search)
            if one.search(text) is not None:
                return True
        return False


def _parts(phrases: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for phrase in phrases:
        size += len(phrase.encode())
        if part and size > MAX_PHRASES_BYTES:
            yield part
            part, size = [], len(phrase.encode())
        part.append(phrase)
    if part:
        yield part


def _compiled(alternatives: Sequence[str]) -> list[Any]:  # Any: as above
    if not alternatives:
        return []
    if len(alternatives) == 1:
        return [compile_pattern(alternatives[0])]
    try:
        together = compile_pattern("|".join(alternatives))
        if together.programsize <= MAX_PROGRAM:
            return [together]
    except re2.error:
        pass  # too large together
    middle = len(alternatives) // 2
    return [*_compiled(alternatives[:middle]), *_compiled(alternatives[middle:])]
