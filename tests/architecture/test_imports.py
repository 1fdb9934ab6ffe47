"""Imports run one way, runtime <- trainer <- exporter, and nothing heavy is loaded before it is needed."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

Modules = Sequence[Any]  # Any: the conftest's Module, which cannot be imported from here
Loaded = Callable[..., set[str]]

HEAVY = {"torch", "transformers", "peft"}
RUNTIME_MAY_IMPORT = {"numpy", "onnxruntime", "tokenizers", "re2", "pydantic", "distillery_runtime"}
NEVER_IN_THE_RUNTIME = {
    *HEAVY, "sklearn", "scipy", "pandas", "joblib", "yaml", "onnx", "safetensors", "huggingface_hub", "rich",
}  # fmt: skip
BEHIND_AN_EXTRA = {  # of the runtime: modules that are imported only when their command is given
    "runtime/distillery_runtime/bundles/hub_fetch.py": {"huggingface_hub", "urllib"},
    "runtime/distillery_runtime/bundles/hub_errors.py": {"huggingface_hub"},
    "runtime/distillery_runtime/format/signature.py": {"model_signing"},
}
STARTS_A_PROCESS = "runtime/distillery_runtime/bundles/child.py"  # this Python again, to test a bundle in
UNSAFE_IN_THE_RUNTIME = {"pickle", "marshal", "shelve", "ctypes", "subprocess", "socket", "urllib", "http"}

TORCH_FILES = {"tensor_files.py", "distil_table.py"}
TORCH_BACKENDS = {
    f"trainer/distillery_trainer/backends/{name}.py"
    for name in ("encoder", "decoder", "last_token", "fitting", "starting_head")
}


def wants_torch(path: str) -> bool:
    """Whether a module of the trainer is on the side that needs torch; its name says so."""
    name = path.rpartition("/")[2]
    return name.startswith("torch_") or name in TORCH_FILES or path in TORCH_BACKENDS


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


def test_the_runtime_imports_only_its_five_dependencies_and_the_standard_library(modules: Modules) -> None:
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


def test_only_the_torch_side_of_the_trainer_imports_torch(modules: Modules) -> None:
    wrong = found(modules, "distillery_trainer", lambda module, top: top in HEAVY and not wants_torch(module.path))

    assert wrong == []


def test_modules_that_need_no_torch_import_none_of_the_torch_side(modules: Modules) -> None:
    names = {module.name for module in modules if wants_torch(module.path)}

    wrong = [
        f"{module.path}:{line}: imports {name}"
        for module in modules
        if not wants_torch(module.path)
        for line, name in module.imports()
        if name in names or name.rpartition(".")[0] in names
    ]

    assert wrong == []


def test_every_module_named_for_torch_needs_it(modules: Modules) -> None:
    torch_side = {module.name: module for module in modules if wants_torch(module.path)}

    idle = [
        module.path
        for module in torch_side.values()
        if not any(n.partition(".")[0] in HEAVY or n.rpartition(".")[0] in torch_side for _, n in module.imports())
    ]

    assert idle == []


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

    starter = "runtime/distillery_runtime/bundles/starter.py"  # finds a folder of data and imports nothing
    assert users | callers == {"trainer/distillery_trainer/backends/choose.py", starter}


def test_importing_the_runtime_loads_nothing_heavy(loaded_by: Loaded) -> None:
    loaded = loaded_by("distillery_runtime", "distillery_runtime.cli.main")

    assert loaded & NEVER_IN_THE_RUNTIME == set()


def test_importing_the_trainers_command_loads_no_torch(loaded_by: Loaded) -> None:
    loaded = loaded_by("distillery_trainer.cli", "distillery_trainer.pipeline")

    assert loaded & HEAVY == set()


def test_importing_the_exporters_command_and_graphs_loads_no_torch(loaded_by: Loaded, modules: Modules) -> None:
    graphs = [module.name for module in modules if module.name.startswith("distillery_exporter.")]

    loaded = loaded_by("distillery_exporter.cli", *graphs)

    assert loaded & HEAVY == set()
