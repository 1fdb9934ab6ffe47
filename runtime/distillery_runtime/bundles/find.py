"""The bundles to use where none is named by its folder: of the environment, of the folder `bundles/`, or the starter's.

The starter is data in a distribution of its own: bundles side by side, which share files, and `starter.json`, which
says which of their filters stands for all where one is wanted.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from distillery_runtime.errors import BundleError, InputError, Problem
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.format.integrity import read_manifest
from distillery_runtime.format.manifest import FilterEntry
from distillery_runtime.spec.model import Name, StrictModel
from distillery_runtime.spec.reading import describe

BUNDLES_FOLDER = Path("bundles")
STARTER_PACKAGE = "distillery_starter"  # of the extra `[starter]`
STARTER_FILE = "starter.json"
ALL = "all"


class StarterFile(StrictModel):
    """The content of `starter.json`: the filter to score by where one is wanted; first of a panel of all."""

    schema_version: Literal[1]
    first: Name


def find_bundle(given: Path | None) -> Path:
    """The bundle to use: the one given, `$DISTILLERY_BUNDLE`, the only one under `bundles/`, or the starter's first.

    Raises:
        InputError: none was given, and there is not exactly one to be found.
        BundleError: as in `starter_bundles`.
    """
    if given is not None:
        return given
    if os.environ.get("DISTILLERY_BUNDLE"):
        return Path(os.environ["DISTILLERY_BUNDLE"])
    found = _own_bundles()
    if len(found) == 1:
        return found[0]
    starter = () if found else starter_bundles()
    if starter:
        return starter[0]
    expected = (
        "exactly one, --bundle DIR or --filters all" if found else "exactly one, --bundle DIR, or the extra [starter]"
    )
    raise InputError("--bundle", [Problem("bundles/", f"bundles found: {_listed(found)}", expected)])


def find_bundles(filters: Sequence[str]) -> list[Path]:
    """The bundles of several filters: those under `bundles/`, or where there are none, the starter's.

    Args:
        filters: names of filters, or `<filter>-<version>` where there are several of one name, in the order in which
            results are wanted; `all` alone means every bundle there.

    Raises:
        InputError: there is no bundle, or not exactly one of a filter that is named.
        BundleError: a bundle's manifest is not sound, or as in `starter_bundles`.
    """
    bundles = _own_bundles() or list(starter_bundles())
    if not bundles:
        raise InputError("--filters", [Problem("bundles/", "no bundle", "at least one, or the extra [starter]")])
    if list(filters) == [ALL]:
        return bundles
    named = [(folder, read_manifest(folder)[0].filter) for folder in bundles]
    fitting = [[folder for folder, entry in named if name in _names_of(entry)] for name in filters]
    expected = f"one of {', '.join(entry.name for _, entry in named)}, or {ALL}"
    if problems := [
        Problem(name, f"bundles found: {_listed(folders)}", expected if not folders else "exactly one, as NAME-VERSION")
        for name, folders in zip(filters, fitting, strict=True)
        if len(folders) != 1
    ]:
        raise InputError("--filters", problems)
    return [folder for folders in fitting for folder in folders]


def starter_bundles() -> tuple[Path, ...]:
    """The folders of the starter's bundles, the first as `starter.json` says, then by name; none without the extra.

    Raises:
        BundleError: it is installed in an archive, whose files have no places of their own, or `starter.json` does not
            name the filter of one of its bundles.
    """
    package = find_spec(STARTER_PACKAGE)
    locations = [Path(location) for location in (package.submodule_search_locations if package else None) or ()]
    for location in locations:
        if found := _bundles_in(location):
            return tuple(_first_of(location / STARTER_FILE, found))
    packed = next((parent for location in locations for parent in location.parents if parent.is_file()), None)
    if packed:
        raise BundleError(f"{packed}: the starter bundle is inside this archive, expected it unpacked, or --bundle DIR")
    return ()


def _own_bundles() -> list[Path]:
    return _bundles_in(BUNDLES_FOLDER)


def _bundles_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/bundle.json"))


def _first_of(file: Path, bundles: Sequence[Path]) -> Iterator[Path]:
    """Gives the bundles with the one first that the file names; as they are where there is no such file."""
    if not file.exists():
        yield from bundles
        return
    first = _read_starter(file).first
    names = {bundle: read_manifest(bundle)[0].filter.name for bundle in bundles}
    if first not in names.values():
        raise BundleError(f"{file}: first: {first}, expected one of {', '.join(names.values())}")
    yield from sorted(bundles, key=lambda bundle: (names[bundle] != first, names[bundle]))


def _read_starter(file: Path) -> StarterFile:
    try:
        data = file.read_bytes()
        parse_json(data)
        return StarterFile.model_validate_json(data)
    except JsonError as error:
        raise BundleError(f"{file}: not strict JSON ({error})") from error
    except ValidationError as error:
        raise BundleError(*(f"{file}: {describe(item)}" for item in error.errors(include_url=False))) from error


def _names_of(entry: FilterEntry) -> tuple[str, str]:
    return entry.name, f"{entry.name}-{entry.version}"


def _listed(folders: Iterable[Path]) -> str:
    return ", ".join(map(str, folders)) or "none"
