"""The prefilter: a filter's rules over an article's cleaned text, in linear time (RE2)."""

from dataclasses import dataclass
from typing import Any

import re2

from distillery_runtime.spec import FilterSpec, PrefilterRule
from distillery_runtime.text import ArticleText


@dataclass(frozen=True, slots=True)
class PrefilterResult:
    """The rule that blocks the article, if any, and the shadow rules that would have."""

    blocked_by: str | None
    shadows: tuple[str, ...]


class Prefilter:
    """A filter's rules, compiled."""

    def __init__(self, spec: FilterSpec) -> None:
        self._rules = tuple(_CompiledRule(rule) for rule in spec.prefilter)
        self._unless = _compiled(phrases_pattern(spec.prefilter_unless)) if spec.prefilter_unless else None

    def check(self, text: ArticleText) -> PrefilterResult:
        """Tells which rules match; the first blocking rule in the spec's order is named."""
        fields = {"title": text.title, "text": text.content, "any": text.joined}
        matched = [rule.rule for rule in self._rules if rule.matches(fields)]
        if matched and self._unless is not None and self._unless.search(text.joined) is not None:
            matched = []
        blocking = next((rule.name for rule in matched if rule.mode == "block"), None)
        return PrefilterResult(blocking, tuple(rule.name for rule in matched if rule.mode == "shadow"))


class _CompiledRule:
    def __init__(self, rule: PrefilterRule) -> None:
        self.rule = rule
        alternatives = [f"(?:{pattern})" for pattern in rule.patterns]
        if rule.words:
            alternatives.append(phrases_pattern(rule.words))
        self._match = _compiled("|".join(alternatives))
        self._unless = _compiled(phrases_pattern(rule.unless)) if rule.unless else None

    def matches(self, fields: dict[str, str]) -> bool:
        found = self._match.search(fields[self.rule.where]) is not None
        return found and (self._unless is None or self._unless.search(fields["any"]) is None)


def _compiled(pattern: str) -> Any:  # Any: re2 has no types
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return re2.compile(pattern, options)


def phrases_pattern(phrases: tuple[str, ...]) -> str:
    """An RE2 pattern that finds any of the phrases at word boundaries of any script (RE2's own know only ASCII)."""
    body = "|".join(
        re2.escape(phrase[:-1]) + r"[\pL\pN\pM]*" if phrase.endswith("*") else re2.escape(phrase) for phrase in phrases
    )
    return rf"(?:^|[^\pL\pN\pM_])(?:{body})(?:$|[^\pL\pN\pM_])"
