"""Imports run one way, runtime <- trainer <- exporter, and nothing heavy is loaded before it is needed."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

Modules = Sequence[Any]  # Any: the conftest's Module, which cannot be imported from here
Loaded = Callable[..., set[str]]

HEAVY = {"torch", "transformers", "peft"}
RUNTIME_MAY_IMPORT = {"numpy", "onnxruntime", "tokenizers", "re2", "pydantic", "filelock", "distillery_runtime"}
NEVER_IN_THE_RUNTIME = {
    *HEAVY, "sklearn", "scipy", "pandas", "joblib", "yaml", "onnx", "safetensors", "huggingface_hub", "rich",
}  # fmt: skip
BEHIND_AN_EXTRA = {  # of the runtime: modules that are imported only when their command is given
    "runtime/distillery_runtime/bundles/hub.py": {"huggingface_hub", "urllib"},
    "runtime/distillery_runtime/bundles/hub_errors.py": {"huggingface_hub"},
    "runtime/distillery_runtime/format/signature.py": {"model_signing"},
}
STARTS_A_PROCESS = "runtime/distillery_runtime/bundles/child.py"  # this Python again, to test a bundle in
UNSAFE_IN_THE_RUNTIME = {"pickle", "marshal", "shelve", "ctypes", "subprocess", "socket", "urllib", "http"}

NEURAL = "distillery_trainer.neural"  # the only folder that imports torch
FLOORS = {  # a folder imports only from those before it; modules beside the folders are first
    "distillery_runtime": "files spec articles tokens format models scoring bundles bench cli",
    "distillery_trainer": "store data filters models certify evaluate neural oracle report labelling runs curate cli",
    "distillery_exporter": "graphs variants bundle",
}


def is_inside_a_folder(module: Any) -> bool:  # Any: as above
    """Whether a module is in a folder of its package, and not beside the folders."""
    return module.path.count("/") > 2


def folder(name: str) -> str:
    """The folder that holds what an import names, or none for what is beside the folders."""
    first = name.split(".")[1]
    return first if any(first in floors.split() for floors in FLOORS.values()) else ""


def found(modules: Modules, package: str, forbidden: Callable[[Any, str], bool]) -> list[str]:
    return [
        f"{module.path}:{line}: imports {name}"
        for module in modules
        if module.package == package
        for line, name in module.imports()
        if forbidden(module, name.partition(".")[0])
    ]


def test_the_runtime_imports_nothing_of_trainer_or_exporter(modules: Modules) -> None:
    wrong = found(modules, "distillery_runtime", lambda _, top: top in {"distillery_trainer", "distillery_exporter"})

    assert wrong == []


def test_the_trainer_imports_nothing_of_the_exporter(modules: Modules) -> None:
    wrong = found(modules, "distillery_trainer", lambda _, top: top == "distillery_exporter")

    assert wrong == []


def test_the_runtime_imports_only_its_dependencies_and_the_standard_library(modules: Modules) -> None:
    allowed = RUNTIME_MAY_IMPORT | (sys.stdlib_module_names - UNSAFE_IN_THE_RUNTIME)

    wrong = found(
        modules,
        "distillery_runtime",
        lambda module, top: (
            top not in allowed
            and top not in BEHIND_AN_EXTRA.get(module.path, ())
            and (module.path, top) != (STARTS_A_PROCESS, "subprocess")
        ),
    )

    assert wrong == []


def test_only_one_folder_imports_torch(modules: Modules) -> None:
    wrong = found(
        modules,
        "distillery_trainer",
        lambda module, top: top in HEAVY and not module.name.startswith(f"{NEURAL}."),
    )

    assert wrong == []


def test_no_other_folder_imports_the_one_that_imports_torch(modules: Modules) -> None:
    wrong = [
        f"{module.path}:{line}: imports {name}"
        for module in modules
        if not module.name.startswith(f"{NEURAL}.")
        for line, name in module.imports()
        if f"{name}.".startswith(f"{NEURAL}.")
    ]

    assert wrong == []


@pytest.mark.parametrize("package", FLOORS)
def test_a_folder_imports_only_from_the_folders_below_it(modules: Modules, package: str) -> None:
    floors = ["", *FLOORS[package].split()]
    own = [module for module in modules if module.package == package and is_inside_a_folder(module)]

    upward = [
        f"{module.path}:{line}: imports {name}"
        for module in own
        for line, name in module.imports()
        if name.partition(".")[0] == package and floors.index(folder(name)) > floors.index(folder(module.name))
    ]

    assert {folder(module.name) for module in own} == set(floors[1:])
    assert upward == []


def test_no_command_runs_another_command(modules: Modules) -> None:
    wrong = [
        f"{module.path}:{line}: imports {name}"
        for module in modules
        if not module.path.endswith("/__main__.py")
        for line, name in module.imports()
        if name.startswith(("distillery_runtime.cli.main", "distillery_trainer.cli.main", "distillery_exporter.cli"))
    ]

    assert wrong == []


def test_the_exporter_never_imports_torch(modules: Modules) -> None:
    wrong = found(modules, "distillery_exporter", lambda _, top: top in HEAVY)

    assert wrong == []


def test_modules_are_named_by_strings_only_where_a_backend_is_chosen_or_the_starter_is_looked_for(
    modules: Modules,
) -> None:
    dynamic = ("importlib", "runpy", "pkgutil")

    users = {
        module.path
        for module in modules
        for _, name in module.imports()
        if name.partition(".")[0] in dynamic and not name.startswith("importlib.metadata")
    }
    callers = {module.path for module in modules if "__import__" in module.source}

    starter = "runtime/distillery_runtime/bundles/find.py"  # finds a folder of data and imports nothing
    assert users | callers == {"trainer/distillery_trainer/models/choose.py", starter}


def test_importing_the_runtime_loads_nothing_heavy(loaded_by: Loaded) -> None:
    loaded = loaded_by("distillery_runtime", "distillery_runtime.cli.main")

    assert loaded & NEVER_IN_THE_RUNTIME == set()


def test_importing_the_commands_the_pipeline_and_the_exporter_loads_no_torch(
    loaded_by: Loaded, modules: Modules
) -> None:
    exporter = [module.name for module in modules if module.name.startswith("distillery_exporter.")]

    loaded = loaded_by("distillery_trainer.cli.main", "distillery_trainer.runs.pipeline", *exporter)

    assert loaded & HEAVY == set()
