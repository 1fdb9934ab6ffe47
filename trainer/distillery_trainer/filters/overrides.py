"""Overrides of a filter's config from the command line, checked like the config itself and recorded in the run."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from distillery_runtime.errors import InputError, Problem, SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.filters.config_checks import check_config
from distillery_trainer.filters.yaml_text import Document, read_yaml


def apply_overrides(spec: FilterSpec, overrides: Mapping[str, object], written: Sequence[Document] = ()) -> FilterSpec:
    """A spec with some values replaced.

    Args:
        overrides: dotted path to value, for example {"student.window.max_tokens": 128}.
        written: the overrides as they were written, so that a problem can say how to write them.

    Raises:
        InputError: a path that the spec does not have.
        SpecError: the result is not a valid spec.
    """
    data = copy.deepcopy(spec.model_dump(mode="json"))
    unknown = []
    for path, value in overrides.items():
        *parents, last = path.split(".")
        place: object = data
        for part in parents:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            unknown.append(Problem(path, "no such key", "a dotted path into the filter's config"))
        else:
            place[last] = value
    if unknown:
        raise InputError("override", unknown)
    where = f"{spec.label} with {', '.join(overrides) or 'no overrides'}"
    problems = check_config(data)
    for document in written:
        problems = document.explain(problems)
    if problems:
        raise SpecError(where, [replace(problem, line=None) for problem in problems])
    return parse_spec(data, where)


def read_settings(texts: Sequence[str]) -> tuple[dict[str, object], list[Document]]:
    """The values of `--set KEY=VALUE`, read as config.yaml is, with what was written.

    Raises:
        InputError: no `=`, a key given twice, or a value that is no YAML; all of them are listed.
    """
    values: dict[str, object] = {}
    documents: list[Document] = []
    problems: list[Problem] = []
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            problems.append(Problem(repr(text), "no '='", "KEY=VALUE"))
            continue
        if key in values:
            problems.append(Problem(key, "a key given twice", "each key once"))
        try:
            document = read_yaml(value, key)
        except InputError as error:
            problems += [replace(problem, path=key, line=None) for problem in error.problems]
            continue
        problems += [replace(problem, line=None) for problem in document.problems]
        values[key] = document.data
        documents.append(document)
    if problems:
        raise InputError("--set", problems)
    return values, documents


def named_overrides(
    spec: FilterSpec,
    *,
    backend: str | None,
    base_model: str | None,
    embedder: str | None,
    max_tokens: int | None,
    epochs: int | None,
) -> dict[str, object]:
    """The paths that the named options of `trainer fit` stand for.

    The static backend brings the static embedder along, unless another is named. The frozen backend is what an embedder
    is named for, and brings the static probe along. A shorter student window shortens the probe's.
    Epochs for the backend `auto` are those of whichever it becomes.

    Raises:
        InputError: a base model was named for a backend that has none, or for `auto`.
    """
    chosen = backend or spec.student.backend
    found: dict[str, object] = {}
    if backend:
        found["student.backend"] = backend
    if base_model and chosen in ("static", "frozen"):
        expected = "--embedder, which names its encoder" if chosen == "frozen" else "no base model"
        raise InputError("--base-model", [Problem(base_model, f"a base model for the {chosen} backend", expected)])
    if base_model and chosen == "auto":
        found_auto = "a base model for the backend auto, which chooses its own"
        raise InputError("--base-model", [Problem(base_model, found_auto, "--backend beside it")])
    if base_model:
        found[f"student.{chosen}.base_model"] = _absolute(base_model)
    if embedder and chosen in ("frozen", "auto") and embedder != "static":
        found["student.frozen.embedder"] = _absolute(embedder)
    if embedder and chosen != "frozen":
        found["cascade.probe.embedder"] = _absolute(embedder)
    if backend == "frozen" or (backend == "static" and not embedder):
        found["cascade.probe.embedder"] = "static"
    if max_tokens:
        found["student.window.max_tokens"] = max_tokens
        found["cascade.probe.window.max_tokens"] = min(max_tokens, spec.cascade.probe.window.max_tokens)
    if epochs:
        sections = (
            [name for name, value in spec.student if hasattr(value, "training")] if chosen == "auto" else [chosen]
        )
        found |= {f"student.{section}.training.epochs": epochs for section in sections}
    return found


def _absolute(model: str) -> str:
    """A folder as an absolute path, so that the run can be gone on with from anywhere; a Hub id as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() and model != "static" else model
