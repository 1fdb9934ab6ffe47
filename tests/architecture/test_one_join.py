"""One place makes the text of an article out of its title and its content."""

import ast
from collections.abc import Iterator, Sequence
from typing import Any

Modules = Sequence[Any]  # Any: the conftest's Module, which cannot be imported from here

THE_JOIN = "runtime/distillery_runtime/articles/text.py"
DECLARED_IN = "runtime/distillery_runtime/spec/model.py"
TITLE, CONTENT = {"title"}, {"content", "text"}


def test_only_text_py_joins_title_and_content(modules: Modules) -> None:
    places = {f"{module.path}:{line}" for module in modules if module.path != THE_JOIN for line in joins(module.tree)}

    assert places == set()


def test_text_py_is_seen_to_join_them(modules: Modules) -> None:
    tree = next(module.tree for module in modules if module.path == THE_JOIN)

    assert list(joins(tree)) != []


def test_only_text_py_reads_the_separator_between_title_and_content(modules: Modules) -> None:
    readers = {
        module.path
        for module in modules
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr == "title_separator")
        or (isinstance(node, ast.Constant) and node.value == "title_separator")
    }

    assert readers - {DECLARED_IN} == {THE_JOIN}


def joins(tree: ast.Module) -> Iterator[int]:
    """Lines of expressions that make one string of something called title and something called content or text."""
    for node in ast.walk(tree):
        if makes_a_string(node):
            names = set(mentioned(node))
            if names & TITLE and names & CONTENT:
                yield node.lineno


def makes_a_string(node: ast.AST) -> bool:
    """An f-string, `+` or `%`, or a call of `join` or `format`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"join", "format", "format_map"}
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)))


def mentioned(node: ast.AST) -> Iterator[str]:
    """Attributes, variables and keys that an expression reads."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
            yield str(part.slice.value)
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "get":
            yield from (str(argument.value) for argument in part.args if isinstance(argument, ast.Constant))
