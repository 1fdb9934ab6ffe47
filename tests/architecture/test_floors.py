"""The oldest releases that the pyproject.toml files allow are those that `make test-floor` installs."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECTS = ("pyproject.toml", "trainer/pyproject.toml", "exporter/pyproject.toml")
REQUIREMENT = re.compile(r"([\w-]+)>=([\d.]+)")
HIGHER_WITH_TORCH = {"tokenizers", "safetensors"}  # of which transformers asks for newer ones


def floors() -> Iterator[tuple[str, str]]:
    """Each dependency with the oldest release that is allowed; our own distributions name none."""
    for name in PROJECTS:
        project = tomllib.loads((ROOT / name).read_text(encoding="utf-8"))["project"]
        for listed in [project["dependencies"], *project.get("optional-dependencies", {}).values()]:
            yield from (found.groups() for entry in listed if (found := REQUIREMENT.match(entry)))


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {plain(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def is_release(version: str, floor: str) -> bool:
    """Whether a version is the floor, which may leave out zeros at its end."""
    return version == floor or re.fullmatch(rf"{re.escape(floor)}(\.0)+", version) is not None


def test_the_floors_are_the_releases_that_are_tested() -> None:
    light, torch = pinned("constraints-floor.txt"), pinned("constraints-floor-torch.txt")

    wrong = [
        (name, floor)
        for name, floor in floors()
        if not is_release(light.get(plain(name), torch[plain(name)]), floor)
        or (name not in HIGHER_WITH_TORCH and not is_release(torch[plain(name)], floor))
    ]

    assert wrong == []
