"""An evaluation, `eval.json`: the figures of every system on the same test articles, written and read here alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.reading import describe
from distillery_trainer.data.predictions import MAKE_AGAIN
from distillery_trainer.evaluate.metrics import Decisions, Errors, Interval, Report
from distillery_trainer.evaluate.paired import Differences
from distillery_trainer.evaluate.parts import TOTAL
from distillery_trainer.store.files import read_json, write_json

EVALUATION_VERSION = 4
MEASURES = ("mae", "spearman", "recall", "precision", "f1", "average_precision")  # that have an interval


@dataclass(frozen=True, slots=True)
class RecallAt:
    """The share of all positives that is among the `k` articles with the highest overalls."""

    k: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Recall of the highest ranked articles: as many as there are positives, and a tenth of all."""

    positives: RecallAt
    top_tenth: RecallAt


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """The figures of one system on the `n` articles of one part.

    `finds`: the articles that it selects against those that the oracle places at the operating tier or above;
    `average_precision`: how well its chance ranks these. `mae`, `overall`, `dimensions` and `tiers` (decisions at each
    tier but the lowest) are of `scores`; `rmse` is of `expected`. `slope`: of the overall on the label's. `intervals`:
    at 95 %, of `mae`, `spearman` (of the overall), `recall`, `precision`, `f1` and `average_precision`; None where most
    resamples left it undefined. `weighted`: the same but for `spearman`, each article counting as many as it stands for
    in the source that it was drawn from; empty where all count alike.
    """

    n: int
    finds: Decisions
    average_precision: float | None
    slope: float | None
    mae: float
    rmse: float
    overall: Errors
    dimensions: Mapping[str, Errors]
    tiers: Mapping[str, Decisions]
    recall_at: Ranking
    intervals: Mapping[str, Interval | None]
    weighted: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Systems:
    """The figures of all systems on the articles of one part."""

    constant: SystemFigures
    tfidf_ridge: SystemFigures
    static: SystemFigures
    probe: SystemFigures
    student: SystemFigures
    cascade: SystemFigures

    def by_name(self) -> dict[str, SystemFigures]:
        """The systems' figures by their names, in the order of the file."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class SystemDifferences:
    """By how much three systems differ from the TF-IDF ridge on the articles of one part."""

    student_minus_tfidf_ridge: Differences
    probe_minus_tfidf_ridge: Differences
    cascade_minus_tfidf_ridge: Differences


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """Articles that models were fitted on, tuned on, and tested on.

    With `folds` (0 without) all articles train the models that ship, and each was tested by those of other folds.
    """

    train: int
    val: int
    test: int
    folds: int = 0


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The oracle's own error as in `Noise`, and what each system has achieved of the way from the constant to it."""

    articles: int
    mae: float
    dimensions: Mapping[str, float]
    share_of_reachable: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Missed:
    """Test articles that the student selects, and those of them that the probe dropped."""

    student_positives: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CascadeUse:
    """The routing threshold, and what it does on the test articles."""

    threshold: float | None
    share_probe: float
    missed: Missed


@dataclass(frozen=True, slots=True)
class PrefilterUse:
    """Test articles that the prefilter blocks, the positives among them, and those that a shadow rule matches."""

    blocked: int
    blocked_positive: int
    shadowed: int


@dataclass(frozen=True, slots=True)
class UnreadCounts:
    """Test articles that each stage cannot read, and those that a bundle refuses, with the positives among them."""

    probe: int
    student: int
    invalid: int
    invalid_positive: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All systems on the same test articles. `docs/formats/eval.md` says what every figure means.

    `parts`, `differences`: by the name of the part, the total first. `unreadable`: None in evaluations of before it
    was counted.
    """

    filter: str
    backend: str
    split_sizes: SplitSizes
    parts: Mapping[str, Systems]
    differences: Mapping[str, SystemDifferences]
    noise_floor: NoiseFloor | None
    cascade: CascadeUse
    prefilter: PrefilterUse
    unreadable: UnreadCounts | None = None

    @property
    def total(self) -> Systems:
        """The systems on all test articles."""
        return self.parts[TOTAL]

    def to_record(self) -> Report:
        """The content of `eval.json`."""
        record = {"schema_version": EVALUATION_VERSION, **asdict(self)}
        if self.unreadable is None:
            del record["unreadable"]
        return record


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes `eval.json`, the same bytes for the same evaluation."""
    write_json(path, evaluation.to_record())


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `write_evaluation` wrote.

    Raises:
        InputError: it is of another version, or something in it is missing, unknown or of another type.
    """
    content = dict(read_json(path))
    version = content.pop("schema_version", None)
    if version != EVALUATION_VERSION:
        raise InputError(str(path.parent), [Problem(path.name, f"schema version {version}", MAKE_AGAIN)])
    try:
        found = _READER.validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        raise InputError(str(path), [describe(item) for item in error.errors(include_url=False)]) from error
    if problems := list(_missing(found)):
        raise InputError(str(path), problems)
    return found


def _missing(found: Evaluation) -> Iterator[Problem]:
    """What names of parts and intervals must be there and are not."""
    for key, parts in (("parts", found.parts), ("differences", found.differences)):
        if TOTAL not in parts:
            yield Problem(f"{key}.{TOTAL}", "nothing", "a value (this key is required)")
    for part, systems in found.parts.items():
        for name, system in systems.by_name().items():
            for measure in {*MEASURES} - set(system.intervals):
                yield Problem(f"parts.{part}.{name}.intervals.{measure}", "nothing", "a value (this key is required)")


_READER = TypeAdapter(Evaluation)
