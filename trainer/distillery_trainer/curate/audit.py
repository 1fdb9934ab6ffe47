"""What `trainer audit` does: looks for what would make labelled articles teach or test something else than meant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.curate.checks import (
    check_conflicts,
    check_finds,
    check_guards,
    check_hidden,
    check_injections,
    check_leaks,
    check_redundancy,
    check_residuals,
    check_spread,
    check_truncation,
)
from distillery_trainer.curate.findings import Finding
from distillery_trainer.data.articles import ReceivedArticle, read_lines
from distillery_trainer.data.duplicates import near_duplicate_pairs
from distillery_trainer.data.labels import LabelledSet, files_digest, read_labels


@dataclass(frozen=True)
class Audited:
    """N labelled articles in file order, all that the checks read of them.

    `received`: each article's title and text before cleaning. `splits`: each article's part, where they are split.
    `pairs`: places of near-duplicates.
    """

    spec: FilterSpec
    labelled: LabelledSet
    received: Sequence[str]
    splits: Mapping[str, str] | None
    pairs: Sequence[tuple[int, int]]

    @property
    def ids(self) -> list[str]:
        """The articles' ids."""
        return [article.id for article in self.labelled.articles]

    @property
    def overalls(self) -> NDArray[np.float64]:
        """What the labels come to: (N,) float64 in [0, 10]."""
        return overalls(self.labelled.labels(), self.spec)


def read_audited(files: Sequence[Path], spec: FilterSpec, splits: Mapping[str, str] | None) -> Audited:
    """Reads labels files.

    Raises:
        InputError: a file is not usable.
    """
    labelled = read_labels(files, spec)
    lines = (line for file in files for _, line in read_lines(file, spec.text))
    raw = {
        line.id: f"{line.record.get('title') or ''}\n{_content(line.record)}"
        for line in lines
        if isinstance(line, ReceivedArticle)
    }
    received = [raw[article.id] for article in labelled.articles]
    return Audited(spec, labelled, received, splits, near_duplicate_pairs(labelled.texts))


CHECKS: Mapping[str, Callable[[Audited], Finding]] = {
    "leaks": lambda data: check_leaks(data.ids, data.pairs, data.splits),
    "conflicting_labels": lambda data: check_conflicts(data.ids, data.pairs, data.overalls),
    "no_articles": lambda data: check_guards(data.ids, [article.cleaned for article in data.labelled.articles]),
    "truncated_finds": lambda data: check_truncation(
        data.ids, data.labelled.texts, data.overalls >= data.spec.operating_overall, data.spec.student.window
    ),
    "hidden_characters": lambda data: check_hidden(data.ids, data.received),
    "injections": lambda data: check_injections(data.ids, data.received),
    "flat_dimensions": lambda data: check_spread(data.labelled.labels(), data.spec.dimension_names),
    "few_finds": lambda data: check_finds(data.overalls, data.spec),
    "redundant_dimensions": lambda data: check_redundancy(data.labelled.labels(), data.spec.dimension_names),
    "suspicious_labels": lambda data: check_residuals(
        data.ids, data.labelled.texts, data.labelled.labels(), data.pairs, data.spec.dimension_names
    ),
}


def audit(data: Audited) -> list[Finding]:
    """Every check's finding."""
    return [check(data) for check in CHECKS.values()]


def report(data: Audited, findings: Sequence[Finding], files: Sequence[Path]) -> dict[str, object]:
    """The content of an audit's JSON file."""
    return {
        "schema_version": 1,
        "filter": data.spec.label,
        "labels": files_digest(files),
        "articles": len(data.ids),
        "split": data.splits is not None,
        "findings": [finding.record() for finding in findings],
    }


def _content(record: Mapping[str, object]) -> object:
    return record["text"] if record.get("text") is not None else record.get("content")
