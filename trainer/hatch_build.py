"""Puts the repository's `filters/` into the trainer's wheel and source archive: `--filter NAME` outside a checkout."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "distillery_trainer/shipped_filters"


class FiltersHook(BuildHookInterface):
    """Adds the filters to what is built; an editable install reads those of the repository where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # Any: as hatchling calls it
        """Names the folder to include; a source archive holds it inside the package already."""
        root = Path(self.root)
        source = root.parent / "filters"
        if version == "editable" or (root / INSIDE).is_dir():
            return
        if not source.is_dir():
            raise FileNotFoundError(f"{source}: no such folder, expected the repository's filters")
        build_data["force_include"][str(source)] = INSIDE
