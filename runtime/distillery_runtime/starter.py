"""The bundle that comes with the extra `[starter]`: data in a distribution of its own."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "distillery_starter"


def starter_bundle() -> Path | None:
    """The folder of the starter bundle, or None where the extra is not installed."""
    package = find_spec(PACKAGE)
    locations = package.submodule_search_locations if package else None
    found = sorted(path.parent for location in locations or () for path in Path(location).glob("*/bundle.json"))
    return found[0] if found else None
