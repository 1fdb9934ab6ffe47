"""What all measurements share: the bundle, the articles, and every variant of its stages, opened when needed."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.suite.rows import rows_of_length
from benchmarks.suite.settings import Settings
from distillery_runtime import Article, HybridScorer, load
from distillery_runtime.articles.article import parse_article
from distillery_runtime.articles.text import ArticleText, compose
from distillery_runtime.bench.sample import Record, sample_from_file, sample_from_goldens
from distillery_runtime.bundles.load import Bundle, open_bundle
from distillery_runtime.errors import ProviderError
from distillery_runtime.format.manifest import StageEntry
from distillery_runtime.format.variants import FORMS, REFERENCE
from distillery_runtime.models.shared import Shared
from distillery_runtime.models.stage import Stage
from distillery_runtime.tokens.window import TokenIds

Floats = NDArray[np.float32]


class Lab:
    """A bundle and a sample of articles under measurement. Opens and computes nothing twice."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._shared = Shared()
        self._stages: dict[tuple[str, str], Stage] = {}
        self._scorers: dict[str, HybridScorer] = {}
        self._rows: dict[tuple[str, int], list[TokenIds] | None] = {}
        self._exact: dict[tuple[str, int], Floats] = {}

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle, every byte of it checked."""
        bundle = open_bundle(self.folder)
        self._shared.learn(bundle.files)
        return bundle

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The sample, always the same for the same file and count."""
        given, goldens = self.settings.articles, self.bundle.goldens
        sample = sample_from_file(given) if given else sample_from_goldens(goldens)
        return sample.pick(self.settings.count)

    @cached_property
    def articles(self) -> tuple[Article, ...]:
        """The sample as articles."""
        return tuple(parse_article(record) for record in self.records)

    @cached_property
    def texts(self) -> list[ArticleText]:
        """The sample's texts."""
        return [compose(article, self.bundle.spec.text) for article in self.articles]

    def entry(self, stage: str) -> StageEntry:
        """A stage as the manifest has it."""
        return next(entry for entry in self.bundle.manifest.stages if entry.name == stage)

    def stage(self, name: str, variant: str) -> Stage:
        """A stage in one variant, on the hardware that the variant was made for; skips where that is not here."""
        if (name, variant) not in self._stages:
            entry, device = self.entry(name), FORMS[variant].device
            chosen = next(item for item in entry.variants if item.name == variant)
            try:
                opened = Stage(self.bundle.folder, entry, chosen, device, self.settings.threads, self._shared)
            except ProviderError:
                pytest.skip(f"{variant} does not run here: no {device}")
            self._stages[name, variant] = opened
        return self._stages[name, variant]

    def scorer(self, variant: str) -> HybridScorer:
        """The cascade in one variant, where a stage has it; skips where its hardware is not here."""
        if variant not in self._scorers:
            device = FORMS[variant].device
            try:
                opened = load(
                    self.folder, provider=device, threads=self.settings.threads, variant=variant, shared=self._shared
                )
            except ProviderError:
                pytest.skip(f"{variant} does not run here: no {device}")
            self._scorers[variant] = opened
        return self._scorers[variant]

    def rows(self, stage: str, tokens: int) -> Sequence[TokenIds]:
        """A row of `tokens` ids for each article; skips where the stage's window is shorter."""
        if (stage, tokens) not in self._rows:
            window = self.stage(stage, REFERENCE.name).window
            self._rows[stage, tokens] = rows_of_length(window, [text.joined for text in self.texts], tokens)
        rows = self._rows[stage, tokens]
        if rows is None:
            pytest.skip(f"{tokens} tokens: the {stage}'s window is {self.entry(stage).window.max_tokens}")
        return rows

    def exact_scores(self, stage: str, tokens: int) -> Floats:
        """cpu-fp32's scores of these rows, one at a time: (N, D) float32 in [0, 10]."""
        if (stage, tokens) not in self._exact:
            opened = self.stage(stage, REFERENCE.name)
            self._exact[stage, tokens] = scores_in_groups(opened, self.rows(stage, tokens), 1)
        return self._exact[stage, tokens]


def scores_in_groups(stage: Stage, rows: Sequence[TokenIds], size: int) -> Floats:
    """A stage's scores of rows that it gets so many at a time: (N, D) float32 in [0, 10]."""
    return np.concatenate([stage.run(rows[i : i + size]).scores for i in range(0, len(rows), size)])
