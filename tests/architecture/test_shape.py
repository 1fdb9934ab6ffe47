"""The shape of our modules: short, documented, without pickle, printing, leftovers or a filter's names."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Modules = Sequence[Any]  # Any: the conftest's Module, which cannot be imported from here

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
MAY_PRINT = re.compile(r".*/(?:cli/\w+|\w*cli|command|__main__|distil_table)\.py")
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile"}
UNSAFE_OF_TORCH = {"load", "save"}
LEFTOVERS = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def test_no_module_is_above_400_lines(modules: Modules) -> None:
    assert {m.path: lines(m) for m in modules if lines(m) > MAX_LINES} == {}


def test_every_module_says_its_idea_in_a_first_line_that_ends_with_a_period(modules: Modules) -> None:
    assert [m.path for m in modules if not is_sentence(ast.get_docstring(m.tree))] == []


def test_everything_public_has_a_docstring_whose_first_line_ends_with_a_period(modules: Modules) -> None:
    wrong = [
        f"{module.path}:{node.lineno}: {node.name}"
        for module in modules
        for node in public_definitions(module.tree)
        if not is_sentence(ast.get_docstring(node))
    ]

    assert wrong == []


def test_no_code_can_load_or_run_code(modules: Modules) -> None:
    wrong = [f"{module.path}:{line}: {what}" for module in modules for line, what in unsafe_uses(module)]

    assert wrong == []


def test_only_commands_print(modules: Modules) -> None:
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in modules
        if not MAY_PRINT.fullmatch(module.path)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and node.id == "print"
    ]

    assert wrong == []


def test_nothing_is_left_to_do(modules: Modules) -> None:
    wrong = [
        f"{module.path}:{number}: {line.strip()}"
        for module in modules
        for number, line in enumerate(module.source.splitlines(), start=1)
        if LEFTOVERS.search(line)
    ]

    assert wrong == []


def test_no_module_names_a_filter_a_dimension_or_a_tier(modules: Modules) -> None:
    phrases, tiers = filter_words()
    mentions = re.compile(rf"(?<![a-z0-9_])(?:{'|'.join(map(re.escape, sorted(phrases)))})(?![a-z0-9_])")

    wrong = [
        f"{module.path}:{node.lineno}: {node.value!r}"
        for module in modules
        if not module.path.endswith("/scaffold.py")  # whose text is a filter itself
        for node in string_literals(module)
        if node.value in tiers or mentions.search(node.value)
    ]

    assert wrong == []


def test_a_broad_except_says_why_on_its_line(modules: Modules) -> None:
    wrong = [f"{module.path}:{line}" for module in modules for line in silent_broad_excepts(module)]

    assert wrong == []


def test_an_error_gets_the_lines_of_its_message_one_by_one(modules: Modules) -> None:
    """Joined by us they could not be told from line breaks in a name, which are shown escaped."""
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and "'\\n'.join(" in ast.unparse(node)
    ]

    assert wrong == []


def lines(module: Any) -> int:  # Any: as above
    return len(module.source.splitlines())


def is_sentence(docstring: str | None) -> bool:
    return bool(docstring) and docstring.splitlines()[0].endswith(".")


def public_definitions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and classes without an underscore, and the methods of those classes."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def string_literals(module: Any) -> Iterator[Any]:  # Any: as above, and ast.Constant whose value is a string
    """The strings of a module's code, parts of f-strings included, docstrings left out."""
    docstrings = module.docstrings()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def filter_words() -> tuple[set[str], set[str]]:
    """What only filters may say: their names and dimensions, looked for inside strings too, and the tiers' names."""
    configs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("filters/*/v*/config.yaml")]
    assert configs
    names = {config["name"] for config in configs}
    dimensions = {dimension["name"] for config in configs for dimension in config["dimensions"]}
    return names | dimensions, {tier["name"] for config in configs for tier in config["tiers"]}


def unsafe_uses(module: Any) -> Iterator[tuple[int, str]]:  # Any: as above
    for line, name in module.imports():
        if name.partition(".")[0] in UNSAFE_MODULES or name in {f"torch.{n}" for n in UNSAFE_OF_TORCH}:
            yield line, f"imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            yield node.lineno, f"calls {node.func.id}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {f"torch.{name}" for name in UNSAFE_OF_TORCH}:
            yield node.lineno, f"uses torch.{node.attr}"
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code"}:
            yield node.value.lineno, f"passes {node.arg}"


def silent_broad_excepts(module: Any) -> Iterator[int]:  # Any: as above
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(module.source).readline)
        if token.type == tokenize.COMMENT
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            reason = re.sub(r"^(?:noqa|type:)\S*(?: BLE001)?", "", comments.get(node.lineno, "")).strip(" -")
            if len(reason) < 10:
                yield node.lineno


def is_broad(caught: ast.expr | None) -> bool:
    names = [node.id for node in ast.walk(caught) if isinstance(node, ast.Name)] if caught else ["BaseException"]
    return bool({"Exception", "BaseException"} & set(names))
