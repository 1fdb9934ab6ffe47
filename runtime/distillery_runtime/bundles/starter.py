"""The bundle that comes with the extra `[starter]`: data in a distribution of its own."""

from importlib.util import find_spec
from pathlib import Path

from distillery_runtime.errors import BundleError

PACKAGE = "distillery_starter"


def starter_bundle() -> Path | None:
    """The folder of the starter bundle, or None where the extra is not installed.

    Raises:
        BundleError: it is installed in an archive, whose files have no places of their own.
    """
    package = find_spec(PACKAGE)
    locations = [Path(location) for location in (package.submodule_search_locations if package else None) or ()]
    found = sorted(path.parent for location in locations for path in location.glob("*/bundle.json"))
    if found:
        return found[0]
    packed = next((parent for location in locations for parent in location.parents if parent.is_file()), None)
    if packed:
        raise BundleError(f"{packed}: the starter bundle is inside this archive, expected it unpacked, or --bundle DIR")
    return None
