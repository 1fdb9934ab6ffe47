"""What the packages show to their users: few names, documented, typed, and errors with one base."""

import ast
import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import distillery_exporter
import distillery_runtime
import distillery_trainer
from distillery_runtime.errors import DistilleryError

Modules = Sequence[Any]  # Any: the conftest's Module, which cannot be imported from here

PACKAGES = [distillery_runtime, distillery_trainer, distillery_exporter]
MOST_NAMES = 15


def test_the_runtime_shows_at_most_fifteen_names() -> None:
    assert len(distillery_runtime.__all__) <= MOST_NAMES
    assert len(set(distillery_runtime.__all__)) == len(distillery_runtime.__all__)


def test_every_name_shown_exists_and_is_documented() -> None:
    shown = {name: getattr(distillery_runtime, name, None) for name in distillery_runtime.__all__}

    wrong = [name for name, item in shown.items() if not is_documented(item)]

    assert wrong == []


def test_every_public_attribute_of_the_runtime_is_shown() -> None:
    public = {name for name, item in vars(distillery_runtime).items() if name[0] != "_" and not is_submodule(item)}

    assert public - set(distillery_runtime.__all__) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_package_says_that_it_is_typed(package: ModuleType) -> None:
    assert (Path(str(package.__file__)).parent / "py.typed").is_file()


def test_every_error_of_ours_is_a_distillery_error(modules: Modules) -> None:
    names = [
        (module.name, node.name)
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and is_an_error(node)
    ]

    classes = [getattr(importlib.import_module(module), name) for module, name in names]

    assert DistilleryError in classes
    assert [found.__name__ for found in classes if not issubclass(found, DistilleryError)] == []


def is_documented(item: object) -> bool:
    """Whether it has a docstring of its own, ending its first line with a period; a plain value needs none."""
    if isinstance(item, str):
        return True
    return (inspect.isclass(item) or inspect.isfunction(item)) and (item.__doc__ or "").split("\n")[0].endswith(".")


def is_submodule(item: object) -> bool:
    return isinstance(item, ModuleType) and item.__name__.startswith("distillery_runtime.")


def is_an_error(node: ast.ClassDef) -> bool:
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return node.name.endswith("Error") or any(base.endswith(("Error", "Exception")) for base in bases)
