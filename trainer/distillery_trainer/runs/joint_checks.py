"""What filters must have in common to learn together, and which options of a fit a joint training uses."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.models.choose import FROZEN, STATIC

HEADS_THAT_LEARN_ALONE = ("student.frozen.hidden", "student.frozen.training")  # settings that others do not use


def check_options(spec: FilterSpec, overrides: Mapping[str, object], folds: int | None, splits: Path | None) -> None:
    """Refuses what a joint training would not use. `folds`: as asked for, None for as many as suit the backend.

    Raises:
        InputError: folds or splits for a backend that is fitted once, no folds for `frozen`, or settings of its heads.
    """
    backend = spec.student.backend
    problems = list(_frozen_problems(overrides, folds, splits)) if backend == FROZEN else []
    if backend != FROZEN:
        given = {"--splits": splits, "--folds": folds}
        problems = [Problem(n, "given with --joint", "the backend frozen beside them") for n, v in given.items() if v]
    if problems:
        raise InputError("trainer fit", problems)


def _frozen_problems(overrides: Mapping[str, object], folds: int | None, splits: Path | None) -> Iterator[Problem]:
    if splits and folds:
        yield Problem("--splits", f"{folds} folds", "a file of folds alone, or --folds alone")
    if folds is not None and folds < 2:
        yield Problem("--folds", str(folds), "at least 2 with --joint and the backend frozen")
    for path in overrides:
        if path.startswith(HEADS_THAT_LEARN_ALONE):
            expected = "nothing: heads that learn together have one way to do so"
            yield Problem(path, "given with --joint", expected)


def differences(specs: Sequence[FilterSpec]) -> Iterator[Problem]:
    """Why these filters cannot share a student."""
    first = specs[0]
    if len(specs) < 2:
        yield Problem("--filter", "one filter", "several")
    for label, count in Counter(spec.label for spec in specs).items():
        if count > 1:
            yield Problem("--filter", f"{label} {count} times", "each filter once")
    backends = {spec.student.backend for spec in specs}
    if STATIC in backends:
        yield Problem(
            "student.backend", STATIC, "encoder, decoder or frozen (a static table's pass costs next to nothing)"
        )
    if len(backends) > 1:
        found = ", ".join(f"{spec.student.backend} in {spec.label}" for spec in specs)
        yield Problem("student.backend", found, "the same in all (--backend makes it so)")
        return
    expected = _shared(first)
    for spec in specs[1:]:
        for path, value in _shared(spec).items():
            if value != expected.get(path):
                found = f"{value!r} in {spec.label}, {expected.get(path)!r} in {first.label}"
                yield Problem(path, found, f"the same in all (--set {path}=VALUE makes it so)")


def _shared(spec: FilterSpec) -> dict[str, object]:
    """What filters with one student must have in common, by path."""
    student = spec.student
    settings = getattr(student, student.backend)
    parts = {"text": spec.text, "student.window": student.window, f"student.{student.backend}": settings}
    found: dict[str, object] = {}
    for path, model in parts.items():
        found |= dict(_leaves(path, model.model_dump(mode="json")))
    return found


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    else:
        yield path, value
