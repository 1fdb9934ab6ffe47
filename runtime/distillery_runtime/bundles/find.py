"""The bundle to use where none is named: of the environment, of the folder `bundles/`, or the starter."""

import os
from importlib.util import find_spec
from pathlib import Path

from distillery_runtime.errors import BundleError, InputError, Problem

BUNDLES_FOLDER = Path("bundles")
STARTER_PACKAGE = "distillery_starter"  # of the extra `[starter]`: data in a distribution of its own


def find_bundle(given: Path | None) -> Path:
    """The bundle to use: the one given, `$DISTILLERY_BUNDLE`, the only one under `bundles/`, or else the starter.

    Raises:
        InputError: none was given, and there is not exactly one to be found.
    """
    if given is not None:
        return given
    if os.environ.get("DISTILLERY_BUNDLE"):
        return Path(os.environ["DISTILLERY_BUNDLE"])
    found = sorted(path.parent for path in BUNDLES_FOLDER.glob("*/bundle.json"))
    if len(found) == 1:
        return found[0]
    starter = starter_bundle()
    if not found and starter:
        return starter
    names = ", ".join(str(path) for path in found) or "none"
    expected = "exactly one, or --bundle DIR" + ("" if found else ", or the extra [starter]")
    raise InputError("--bundle", [Problem("bundles/", f"bundles found: {names}", expected)])


def starter_bundle() -> Path | None:
    """The folder of the starter bundle, or None where the extra is not installed.

    Raises:
        BundleError: it is installed in an archive, whose files have no places of their own.
    """
    package = find_spec(STARTER_PACKAGE)
    locations = [Path(location) for location in (package.submodule_search_locations if package else None) or ()]
    found = sorted(path.parent for location in locations for path in location.glob("*/bundle.json"))
    if found:
        return found[0]
    packed = next((parent for location in locations for parent in location.parents if parent.is_file()), None)
    if packed:
        raise BundleError(f"{packed}: the starter bundle is inside this archive, expected it unpacked, or --bundle DIR")
    return None
