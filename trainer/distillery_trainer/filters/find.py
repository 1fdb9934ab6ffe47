"""Finding filters and reading their configs: `NAME` is the highest version, `NAME/vN` a given one, a path a folder.

A name is looked for among the user's own filters, and then among those that come with the trainer.
"""

import fnmatch
import os
import re
from pathlib import Path

from distillery_runtime.errors import InputError, Problem, SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.data.labels import default_labels
from distillery_trainer.filters.config_checks import check_config, check_unused
from distillery_trainer.filters.yaml_text import MAX_BYTES, Document, read_yaml

CONFIG_NAME = "config.yaml"
VERSION = re.compile(r"v[1-9][0-9]{0,8}")
_PACKAGE = Path(__file__).resolve().parent.parent

# What editors and file systems leave behind: never read, never a problem.
LITTER = (
    ".DS_Store", "._*", ".#*", "#*#", "*~", "~$*", ".~lock.*", "*.swp", "*.swo", "*.swx", "*.orig", "*.rej", "*.bak",
    "*.tmp", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", ".directory", ".idea", ".vscode", "__MACOSX",
    ".git*", ".editorconfig", ".ipynb_checkpoints", ".obsidian", ".history",
)  # fmt: skip


def is_litter(path: Path) -> bool:
    """Whether a file, by its name relative to the filter's folder or by a folder above it, is an editor's own."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in path.parts for pattern in LITTER)


def example_files(folder: Path) -> list[Path]:
    """A filter's labelled examples."""
    files = (folder / "examples").glob("*.jsonl")
    return sorted(file for file in files if not is_litter(file.relative_to(folder)))


def find_labels(folder: Path, spec: FilterSpec) -> list[Path]:
    """A filter's labels files, for commands that were not given any: one that was labelled, else its examples.

    Raises:
        InputError: there is none at any place where it is looked for, or labels at both.
    """
    places = (default_labels(spec), folder / "labels.jsonl")
    found = [place for place in places if place.is_file()] or example_files(folder)
    one, other = places
    if found == [one, other]:
        raise InputError(
            "--labels", [Problem(f"of {spec.label}", f"both {one} and {other} are there", "--labels FILE")]
        )
    if not found:
        expected = f"--labels FILE, a file {one} or {other}, or examples in {folder / 'examples'}"
        raise InputError("--labels", [Problem(f"of {spec.label}", "not given", expected)])
    return found


def filters_root() -> Path:
    """Where the user's own filters live: `$DISTILLERY_FILTERS`, or `filters` in the working folder."""
    return Path(os.environ.get("DISTILLERY_FILTERS", "filters"))


def shipped_root() -> Path:
    """Where the filters are that come with the trainer: inside its package, or in the checkout that it runs from."""
    packaged = _PACKAGE / "shipped_filters"
    return packaged if packaged.is_dir() else _PACKAGE.parent.parent / "filters"


def is_shipped(folder: Path) -> bool:
    """Whether a filter's folder is one that comes with the trainer, and none of the user's own."""
    return shipped_root() != filters_root().resolve() and shipped_root() in folder.resolve().parents


def find_filter(name: str) -> Path:
    """The folder of a filter: of the user's own where they have the name, else of one that comes with the trainer.

    Args:
        name: NAME, NAME/vN, or a path to a folder that holds a config.yaml.

    Raises:
        InputError: there is no such filter; the message lists those there are.
    """
    if (Path(name) / CONFIG_NAME).is_file():
        return Path(name)
    roots = (filters_root(), shipped_root())
    for root in roots:
        if found := _versions(root, name):
            return max(found, key=lambda folder: int(folder.name[1:]))
    labels = sorted({str(folder.relative_to(root)) for root in roots for folder in _filters_in(root)})
    problem = Problem(
        repr(name), _missing(Path(name)), f"a folder with a {CONFIG_NAME}, or one of: {', '.join(labels) or 'none'}"
    )
    raise InputError("--filter", [problem])


def shortest_name(folder: Path) -> str:
    """What finds a filter's folder again: NAME/vN, or its path."""
    roots = [root for root in (filters_root(), shipped_root()) if folder.is_relative_to(root)]
    return str(folder.relative_to(roots[0]) if roots else folder)


def _versions(root: Path, name: str) -> list[Path]:
    """The folders below a root that NAME or NAME/vN may mean."""
    found = re.fullmatch(rf"([a-z][a-z0-9_]*)(?:/({VERSION.pattern}))?", name)
    paths = [path.parent for path in root.glob(f"{found[1]}/{found[2] or 'v*'}/{CONFIG_NAME}")] if found else []
    return [folder for folder in paths if VERSION.fullmatch(folder.name)]


def _filters_in(root: Path) -> list[Path]:
    """The folders of all versions of all filters below a root."""
    folders = [path.parent for path in root.glob(f"*/v*/{CONFIG_NAME}")]
    return sorted(folder for folder in folders if VERSION.fullmatch(folder.name))


def _missing(path: Path) -> str:
    """Why a name is no filter."""
    if path.is_file():
        return "a file"
    near = sorted(file.name for file in path.iterdir() if is_second_config(file)) if path.is_dir() else []
    return f"a folder with {', '.join(near)} and no {CONFIG_NAME}" if near else "no such filter"


def is_second_config(path: Path) -> bool:
    """Whether a file looks like a config and has another name, so that nothing reads it."""
    if path.name == CONFIG_NAME or is_litter(Path(path.name)):
        return False
    suffix = path.suffix.lower()
    return suffix in (".yaml", ".yml") or (suffix in (".json", ".toml") and path.stem.lower().startswith("config"))


def all_filters() -> list[Path]:
    """The folders of all versions of all filters of the user's own."""
    return _filters_in(filters_root())


def stray_configs() -> list[Path]:
    """Configs below the root that no name leads to: not in `<name>/v<N>/`, or of another name."""
    root, listed = filters_root(), set(all_filters())
    depths = ("*", "*/*", "*/*/*", "*/*/*/*")
    files = [path for depth in depths for path in root.glob(depth) if path.is_file() and _is_like_config(path)]
    return sorted(f for f in files if not is_litter(f.relative_to(root)) and not listed.intersection(f.parents))


def _is_like_config(path: Path) -> bool:
    return path.name == CONFIG_NAME or (is_second_config(path) and path.stem.lower().startswith("config"))


def read_config(folder: Path) -> Document:
    """What a filter's config.yaml holds, not yet checked as a spec.

    Raises:
        InputError: the file is missing, too long, not UTF-8, or not YAML.
    """
    return read_yaml_file(folder / CONFIG_NAME)


def read_yaml_file(path: Path, scale: int = 1) -> Document:
    """What a YAML file holds; `scale` as in `read_yaml`. Errors as in `read_config`."""
    try:
        with path.open("rb") as stream:
            return read_yaml(stream.read(scale * MAX_BYTES + 1), scale=scale)
    except OSError as error:
        raise InputError(str(path), [Problem("(file)", error.strerror or str(error), "a YAML file")]) from error
    except InputError as error:
        raise InputError(str(path), error.problems) from error


def config_problems(document: Document) -> list[Problem]:
    """Everything wrong with a config, in its own lines."""
    return document.explain([*check_config(document.data), *check_unused(document.data)])


def load_filter(folder: Path) -> FilterSpec:
    """A filter's spec.

    Raises:
        InputError: the config cannot be read.
        SpecError: it is not valid; every problem is listed.
    """
    where, document = str(folder / CONFIG_NAME), read_config(folder)
    if problems := config_problems(document):
        raise SpecError(where, problems)
    return parse_spec(document.data, where)
