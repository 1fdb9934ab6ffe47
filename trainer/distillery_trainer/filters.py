"""Finding filters and reading their configs: `NAME` is the highest version, `NAME/vN` a given one, a path a folder."""

import os
import re
from pathlib import Path

import yaml

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import FilterSpec
from distillery_runtime.spec_checks import parse_spec

CONFIG_NAME = "config.yaml"


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, refusing a key given twice (plain YAML keeps the last without a word)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def filters_root() -> Path:
    """Where filters live: `$DISTILLERY_FILTERS`, or `filters` in the working folder."""
    return Path(os.environ.get("DISTILLERY_FILTERS", "filters"))


def find_filter(name: str) -> Path:
    """The folder of a filter.

    Args:
        name: NAME, NAME/vN, or a path to a folder that holds a config.yaml.

    Raises:
        InputError: there is no such filter; the message lists those there are.
    """
    if (Path(name) / CONFIG_NAME).is_file():
        return Path(name)
    root = filters_root()
    if re.fullmatch(r"[a-z][a-z0-9_]*/v\d+", name) and (root / name / CONFIG_NAME).is_file():
        return root / name
    plain = re.fullmatch(r"[a-z][a-z0-9_]*", name)
    found = [path.parent for path in root.glob(f"{name}/v*/{CONFIG_NAME}")] if plain else []
    versions = [folder for folder in found if folder.name[1:].isdigit()]
    if versions:
        return max(versions, key=lambda folder: int(folder.name[1:]))
    known = ", ".join(str(folder.relative_to(root)) for folder in all_filters()) or "none"
    problem = Problem(repr(name), "no such filter", f"a folder with a config.yaml, or one of: {known}")
    raise InputError("--filter", [problem])


def all_filters() -> list[Path]:
    """The folders of all versions of all filters."""
    return sorted(path.parent for path in filters_root().glob(f"*/v*/{CONFIG_NAME}"))


def read_config(folder: Path) -> object:
    """The data of a filter's config.yaml, not yet checked.

    Raises:
        InputError: the file is missing, not UTF-8, or not YAML.
    """
    path = folder / CONFIG_NAME
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(str(path), [Problem("(file)", " ".join(str(error).split()), "readable YAML")]) from error


def load_filter(folder: Path) -> FilterSpec:
    """A filter's spec.

    Raises:
        InputError: the config cannot be read.
        SpecError: it is not valid; every problem is listed.
    """
    return parse_spec(read_config(folder), str(folder / CONFIG_NAME))
