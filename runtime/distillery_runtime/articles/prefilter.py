"""The prefilter: a filter's rules over an article's cleaned text, in linear time (RE2)."""

from dataclasses import dataclass

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.model import FilterSpec, PrefilterRule
from distillery_runtime.spec.patterns import AnyOf


@dataclass(frozen=True, slots=True)
class PrefilterResult:
    """The rule that blocks the article, if any, and the shadow rules that would have."""

    blocked_by: str | None
    shadows: tuple[str, ...]


class Prefilter:
    """A filter's rules, compiled."""

    def __init__(self, spec: FilterSpec) -> None:
        self._rules = tuple(_CompiledRule(rule) for rule in spec.prefilter)
        self._unless = AnyOf(spec.prefilter_unless)

    def check(self, text: ArticleText) -> PrefilterResult:
        """Tells which rules match; the first blocking rule in the spec's order is named."""
        fields = {"title": text.title, "text": text.content, "any": text.joined}
        matched = [rule.rule for rule in self._rules if rule.matches(fields)]
        if matched and self._unless.found_in(text.joined):
            matched = []
        blocking = next((rule.name for rule in matched if rule.mode == "block"), None)
        return PrefilterResult(blocking, tuple(rule.name for rule in matched if rule.mode == "shadow"))


class _CompiledRule:
    def __init__(self, rule: PrefilterRule) -> None:
        self.rule = rule
        self._any = AnyOf(rule.words, rule.patterns)
        self._unless = AnyOf(rule.unless)

    def matches(self, fields: dict[str, str]) -> bool:
        return self._any.found_in(fields[self.rule.where]) and not self._unless.found_in(fields["any"])
