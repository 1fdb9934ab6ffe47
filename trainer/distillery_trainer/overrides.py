"""Overrides of a filter's config from the command line, checked like the config itself and recorded in the run."""

import copy
from collections.abc import Mapping
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import FilterSpec
from distillery_runtime.spec_checks import parse_spec


def apply_overrides(spec: FilterSpec, overrides: Mapping[str, object]) -> FilterSpec:
    """A spec with some values replaced.

    Args:
        overrides: dotted path to value, for example {"student.window.max_tokens": 128}.

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
    return parse_spec(data, f"{spec.label} with {', '.join(overrides) or 'no overrides'}")


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

    The static backend brings the static embedder along, unless another is named; a shorter student window shortens
    the probe's.
    """
    chosen = backend or spec.student.backend
    found: dict[str, object] = {}
    if backend:
        found["student.backend"] = backend
    if base_model and chosen == "static":
        raise InputError("--base-model", [Problem(base_model, "a base model for the static backend", "no base model")])
    if base_model:
        found[f"student.{chosen}.base_model"] = _absolute(base_model)
    if embedder or backend == "static":
        found["cascade.probe.embedder"] = _absolute(embedder or "static")
    if max_tokens:
        found["student.window.max_tokens"] = max_tokens
        found["cascade.probe.window.max_tokens"] = min(max_tokens, spec.cascade.probe.window.max_tokens)
    if epochs:
        found[f"student.{chosen}.training.epochs"] = epochs
    return found


def _absolute(model: str) -> str:
    """A folder as an absolute path, so that the run can be gone on with from anywhere; a Hub id as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() and model != "static" else model
