"""Choosing a bundle's golden articles, and recording what the exported graphs answer on them."""

import hashlib
from collections.abc import Iterable, Sequence

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.text import compose
from distillery_runtime.bundles.golden import Expected, Golden, ids_digest
from distillery_runtime.models.stage import Stage
from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.runs.run import Run

COUNT = 12

# For filters without examples of their own. Written for this project.
GENERIC = (
    Article("generic-1", "Harbour town swaps diesel ferry for an electric one",
            "The crossing takes eleven minutes and now makes no noise. The council says the bill for energy fell by "
            "half in the first year, and the old ferry has been sold for parts."),
    Article("generic-2", "Een dorp bouwt zelf zijn warmtenet",
            "Honderdtwintig huizen in het dorp krijgen hun warmte voortaan uit het meer. De bewoners zijn samen "
            "eigenaar en stellen elk jaar het tarief vast."),
    Article("generic-3", "Notes from a quiet Sunday",
            "We walked along the canal, ate pancakes and lost at cards. Nothing happened, and it was perfect."),
)  # fmt: skip


def choose_goldens(run: Run) -> list[tuple[Article, str]]:
    """Articles that may be shipped, with their origin: some of the filter's examples, or generic ones."""
    if run.examples is None or not run.examples.articles:
        return [(article, "generic article of distillery-exporter") for article in GENERIC]
    order = sorted(run.examples.articles, key=lambda a: hashlib.sha256(a.id.encode()).hexdigest())
    origin = f"example article of {run.spec.name}, written for it"
    return [(Article(a.id, a.cleaned.title, a.cleaned.content), origin) for a in order[:COUNT]]


def record_goldens(chosen: Sequence[tuple[Article, str]], stages: Iterable[Stage], policy: TextPolicy) -> list[Golden]:
    """The golden articles with what every variant of every stage answers here; a stage comes once for each variant."""
    texts = [compose(article, policy).joined for article, _ in chosen]
    answers: list[dict[str, dict[str, Expected]]] = [{} for _ in chosen]
    for stage in stages:
        rows = stage.window.encode(texts)
        raw = stage.run(rows).raw
        for answer, row, values in zip(answers, rows, raw, strict=True):
            expected = Expected(tokens=len(row.ids), ids_sha256=ids_digest(row.ids), raw=tuple(map(float, values)))
            answer.setdefault(stage.name, {})[stage.variant] = expected
    return [
        Golden(id=article.id, title=article.title, text=article.content, origin=origin, expected=answer)
        for (article, origin), answer in zip(chosen, answers, strict=True)
    ]
