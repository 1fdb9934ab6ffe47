"""Labelled articles: read strictly, every problem of every file listed at once, with what each counts in training."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.articles import ReceivedArticle, UnusableLine, read_lines

MAX_LISTED = 50
STEPS = (1.0, 0.5)
MAX_WEIGHT = 1e6
MAX_COST = 1e6
MAX_LINK_CHARS = 2_000
SLICE_FIELDS = ("source", "language", "id")
ARTICLE_KEYS = ("id", "title", "text", "content", "source", "language", "url")
LABEL_KEYS = ("labels", "weight", "repeats", "flags", "inclusion_probability", "oracle", "cost_usd")
MISSPELT = 0.82  # likeness from which a key that is not read is taken for one that is: lables, wieght, flag
# The squared error, in score points, that a student is left with on labels without noise. A label's variance counts
# only beside it: a label that happened to be repeated without a difference is not infinitely sure. (About 0.5 was the
# square of the deployed students' mean error.)
STUDENT_VARIANCE = 0.5
# How many answers the variance of all labels counts as, beside an article's own few.
PRIOR_ANSWERS = 4.0


@dataclass(frozen=True, slots=True)
class LabelledArticle:
    """One article with its cleaned text, labels in column order, the fields that slices read, and who labelled it.

    `weight`: what it counts in training. `repeats`: the oracle's several answers in column order, where it gave some.
    `inclusion`: the probability in (0, 1] with which an article like it was drawn to be labelled.
    `cost_usd`: what the labels cost, where it is stated. `flags`: those that the oracle raised. `link`: the article's
    address on the web, for reports.
    """

    id: str
    cleaned: ArticleText
    labels: tuple[float, ...]
    fields: Mapping[str, str]
    oracle: str | None
    weight: float = 1.0
    repeats: tuple[tuple[float, ...], ...] = ()
    inclusion: float = 1.0
    cost_usd: float | None = None
    flags: tuple[str, ...] = ()
    link: str | None = None

    @property
    def text(self) -> str:
        """The composed text that models read."""
        return self.cleaned.joined


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Labelled articles in file order."""

    articles: tuple[LabelledArticle, ...]

    def labels(self) -> NDArray[np.float32]:
        """(N, D) float32 in [0, 10], columns in spec.dimensions order."""
        return np.array([article.labels for article in self.articles], dtype=np.float32)

    def weights(self) -> NDArray[np.float32]:
        """What each label counts in training: (N, D) float32 above 0."""
        own, repeats = [a.weight for a in self.articles], [a.repeats for a in self.articles]
        return label_weights(own, repeats, len(self.articles[0].labels))

    def sampling_weights(self) -> NDArray[np.float64]:
        """How many articles of the source each stands for, up to a factor: (N,) float64, 1 or above."""
        return 1 / np.array([article.inclusion for article in self.articles], np.float64)

    def select(self, indices: Sequence[int]) -> "LabelledSet":
        """The articles at these places, in this order."""
        return LabelledSet(tuple(self.articles[i] for i in indices))

    @property
    def oracles(self) -> str:
        """Who labelled the articles, as their records say."""
        return ", ".join(sorted({article.oracle or "not stated" for article in self.articles}))

    @property
    def texts(self) -> list[str]:
        """The composed texts."""
        return [article.text for article in self.articles]


def label_weights(
    own: Sequence[float], repeats: Sequence[Sequence[Sequence[float]]], dimensions: int
) -> NDArray[np.float32]:
    """The weights of N articles' labels: (N, D) float32 above 0, 1 for an article without weight or repeats.

    Weights are inverse variances with a floor: (S + V) / (S + v), where v is a label's variance, S is what a student
    errs anyway and V is the variance of a single answer in this dimension. v is V for an article that was answered
    once. Of n answers it is their variance, shrunk towards V where n is small, divided by n: the label is their mean.

    Args:
        own: each article's own weight, above 0.
        repeats: each article's answers, n of D scores each; none where it was answered once.
        dimensions: D.
    """
    answered = [np.asarray(answers, np.float64).reshape(-1, dimensions) for answers in repeats]
    several = [answers for answers in answered if len(answers) > 1]
    weights = np.repeat(np.asarray(own, np.float64)[:, None], dimensions, axis=1)
    if several:
        single = _pooled_variance(several)
        noise = np.stack([_variance(answers, single) for answers in answered])
        weights *= (STUDENT_VARIANCE + single) / (STUDENT_VARIANCE + noise)
    return weights.astype(np.float32)


def _pooled_variance(several: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The variance of one answer around its article's mean, (D,), over all articles that were answered again."""
    squares = sum(((answers - answers.mean(axis=0)) ** 2).sum(axis=0) for answers in several)
    return np.asarray(squares / sum(len(answers) - 1 for answers in several), np.float64)


def _variance(answers: NDArray[np.float64], single: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of an article's label, (D,), given that of a single answer."""
    count = len(answers)
    if count < 2:
        return single
    squares = ((answers - answers.mean(axis=0)) ** 2).sum(axis=0)
    shrunk = (PRIOR_ANSWERS * single + squares) / (PRIOR_ANSWERS + count - 1)
    return np.asarray(shrunk / count, np.float64)


def read_labels(files: Sequence[Path], spec: FilterSpec) -> LabelledSet:
    """Reads labels files: JSON lines with `id`, `title`, `text`, `labels` {dimension: 0-10} and optional parts.

    Raises:
        InputError: a file cannot be read, a line is no labelled article, a dimension is missing, unknown or out of
            range, or an id occurs twice.
    """
    articles: list[LabelledArticle] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for file in files:
        try:
            for record, line in read_lines(file, spec.text):
                found = _read_labelled(record, line, spec)
                if isinstance(found, LabelledArticle) and found.id in seen:
                    found = [Problem(f"{line.where}.id", repr(found.id), f"an id not used before ({seen[found.id]})")]
                if isinstance(found, LabelledArticle):
                    seen[found.id] = line.where
                    articles.append(found)
                else:
                    problems.extend(found)
        except InputError as error:  # of the whole file
            problems.extend(error.problems)
    if not articles and not problems:
        problems.append(Problem(", ".join(map(str, files)), "no articles", "at least one labelled article"))
    if problems:
        raise InputError("--labels", _shorten(problems))
    return LabelledSet(tuple(articles))


def label_notes(labelled: LabelledSet) -> list[str]:
    """What is allowed in labels, but should be known before models learn from them."""
    notes = []
    if ", " in labelled.oracles:
        notes.append(f"labels of several oracles: {labelled.oracles}; a student of both learns neither's scale")
    first: dict[str, LabelledArticle] = {}
    pairs = [(first.setdefault(article.text, article), article) for article in labelled.articles]
    apart = [(one.id, other.id) for one, other in pairs if one.labels != other.labels]
    if apart:
        one, other = apart[0]
        what = f"{len(apart)} articles have the text of another one and other labels"
        notes.append(f"{what}, the first are {one!r} and {other!r} (trainer audit lists such)")
    return notes


def oracle_step(labels: NDArray[np.floating]) -> float | None:
    """The distance between an oracle's answers: 1, 0.5, or None where a label lies between these."""
    for step in STEPS:
        if np.all(np.abs(labels / step - np.rint(labels / step)) < 1e-6):
            return step
    return None


def default_labels(spec: FilterSpec) -> Path:
    """Where `trainer label` writes a filter's labels if it is not told otherwise."""
    return Path("labels") / f"{spec.label}.jsonl"


def files_digest(files: Sequence[Path]) -> list[dict[str, str]]:
    """Name and SHA-256 of each labels file, for the run's manifest and keys."""
    return [{"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in files]


def unchanged_files(entries: Sequence[Mapping[str, str]]) -> list[Path] | None:
    """The files that a manifest names, or None when one is gone or has changed."""
    paths = [Path(entry["path"]) for entry in entries]
    for path, entry in zip(paths, entries, strict=True):
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return None
    return paths


def _read_labelled(
    record: Mapping[str, object], line: ReceivedArticle | UnusableLine, spec: FilterSpec
) -> LabelledArticle | list[Problem]:
    where = line.where
    if isinstance(line, UnusableLine) and line.fault == "no object":
        return [Problem(where, line.reason, "a JSON object")]
    problems = [
        *_label_problems(record.get("labels"), spec, f"{where}.labels"),
        *_weight_problems(record, spec, where),
        *_cost_problems(record, where),
        *_flag_problems(record.get("flags", []), spec, f"{where}.flags"),
        *_key_problems(record, where),
        *_name_problems(record, where),
    ]
    if isinstance(line, UnusableLine) and line.fault == "no text":
        problems.append(Problem(f"{where}.text", "nothing left after cleaning", "some text"))
    elif isinstance(line, UnusableLine):
        problems.insert(0, Problem(where, line.reason, "an article with id, title and text"))
    fields = {key: str(record.get(key) or "") for key in SLICE_FIELDS}
    problems += [
        Problem(f"{where}.{key}", "a lone surrogate", "valid Unicode")
        for key, v in fields.items()
        if not _is_unicode(v)
    ]
    labels, weight, repeats = record.get("labels"), record.get("weight", 1.0), record.get("repeats", [])
    inclusion, flags = record.get("inclusion_probability", 1.0), record.get("flags", [])
    if problems or not (isinstance(labels, Mapping) and isinstance(repeats, list) and isinstance(flags, list)):
        return problems
    if isinstance(line, UnusableLine) or not (isinstance(weight, int | float) and isinstance(inclusion, int | float)):
        return problems
    oracle = record.get("oracle")
    values, *answers = [tuple(float(scores[name]) for name in spec.dimension_names) for scores in (labels, *repeats)]
    named = oracle if isinstance(oracle, str) else None
    cost = record.get("cost_usd")
    paid = float(cost) if isinstance(cost, int | float) else None
    return LabelledArticle(
        line.id, line.cleaned, values, fields, named, float(weight), tuple(answers), float(inclusion), paid,
        tuple(flags), _link(record.get("url")),
    )  # fmt: skip


def _link(url: object) -> str | None:
    """An address that a page may link to: http or https, without spaces and controls."""
    if not isinstance(url, str) or len(url) > MAX_LINK_CHARS or not re.fullmatch(r"https?://[^\s<>\"'\\]+", url, re.I):
        return None
    return url if url.isprintable() and _is_unicode(url) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _label_problems(labels: object, spec: FilterSpec, where: str) -> list[Problem]:
    if not isinstance(labels, Mapping):
        return [Problem(where, type(labels).__name__, "an object {dimension: 0-10}")]
    found = [_label_problem(f"{where}.{name}", labels.get(name)) for name in spec.dimension_names]
    unknown = [name for name in labels if name not in spec.dimension_names]
    return [
        *(problem for problem in found if problem is not None),
        *(Problem(f"{where}.{name}", "an unknown dimension", "only the filter's own") for name in unknown),
    ]


def _weight_problems(line: Mapping[str, object], spec: FilterSpec, where: str) -> list[Problem]:
    """What is wrong with the optional `weight`, `inclusion_probability` and `repeats`."""
    problems, repeats = [], line.get("repeats", [])
    for name, most in (("weight", MAX_WEIGHT), ("inclusion_probability", 1.0)):
        value = line.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
            problems.append(Problem(f"{where}.{name}", repr(value), f"a number above 0, at most {most:g}"))
    if not isinstance(repeats, list):
        return [*problems, Problem(f"{where}.repeats", type(repeats).__name__, "a list of objects {dimension: 0-10}")]
    for place, answer in enumerate(repeats):
        problems += _label_problems(answer, spec, f"{where}.repeats[{place}]")
    return problems


def _cost_problems(line: Mapping[str, object], where: str) -> list[Problem]:
    """What is wrong with the optional `cost_usd`."""
    cost = line.get("cost_usd")
    if cost is None or (isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost <= MAX_COST):
        return []
    return [Problem(f"{where}.cost_usd", repr(cost), f"a number from 0 to {MAX_COST:g}")]


def _flag_problems(flags: object, spec: FilterSpec, where: str) -> list[Problem]:
    """What is wrong with the optional `flags`."""
    known = ", ".join(spec.flag_names) or "none: the filter has no flags"
    if not isinstance(flags, list):
        return [Problem(where, type(flags).__name__, "a list of flags")]
    return [Problem(where, repr(flag), f"one of {known}") for flag in flags if flag not in spec.flag_names]


def _key_problems(line: Mapping[str, object], where: str) -> list[Problem]:
    """Keys that would be passed over though they are meant to be read."""
    problems = []
    for key in line:
        if key in ARTICLE_KEYS or key in LABEL_KEYS:
            continue
        plain = re.sub(r"[\W_]", "", key).casefold()
        meant = next((name for name in (*LABEL_KEYS, *ARTICLE_KEYS) if name.replace("_", "") == plain), None)
        if meant := meant or next(iter(get_close_matches(key, LABEL_KEYS, 1, MISSPELT)), None):
            problems.append(Problem(f"{where}.{key}", "a key that is not read", f"{meant}, or another name"))
    return problems


def _name_problems(line: Mapping[str, object], where: str) -> list[Problem]:
    """What is wrong with who labelled the article, and with the fields that slices read."""
    oracle = line.get("oracle")
    problems = [] if oracle is None or isinstance(oracle, str) else [Problem(f"{where}.oracle", repr(oracle), "a name")]
    for key in ("source", "language"):
        value = line.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            problems.append(Problem(f"{where}.{key}", repr(value), "a string"))
    return problems


def _label_problem(path: str, value: object) -> Problem | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 10:
        return Problem(path, repr(value), "a number in [0, 10]")
    return None


def _shorten(problems: Sequence[Problem]) -> list[Problem]:
    if len(problems) <= MAX_LISTED:
        return list(problems)
    rest = Problem("(more)", f"{len(problems) - MAX_LISTED} problems like these", "none")
    return [*problems[:MAX_LISTED], rest]
