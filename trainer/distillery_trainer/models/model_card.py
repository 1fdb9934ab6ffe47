"""What a model's folder says of its licence and origin: the metadata on top of its README.md, as the Hub reads it."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import metadata_load

CARD_NAME = "README.md"


@dataclass(frozen=True, slots=True)
class Stated:
    """A model's licence as the Hub names it, and the Hub ids that it derives from; None and empty where not stated."""

    licence: str | None = None
    base_models: tuple[str, ...] = ()


def stated(folder: Path) -> Stated:
    """Reads a model's card; one that is missing or cannot be read states nothing."""
    try:
        data = metadata_load(folder / CARD_NAME) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return Stated()
    licence, bases = data.get("license"), data.get("base_model")
    names = bases if isinstance(bases, list) else [bases]
    return Stated(licence if isinstance(licence, str) else None, tuple(n for n in names if isinstance(n, str)))


def text_of(found: Stated, title: str) -> str:
    """A card that states this, for a model that was made from another one."""
    data = {"license": found.licence, "base_model": list(found.base_models)}
    metadata = yaml.safe_dump({key: value for key, value in data.items() if value}, sort_keys=False)
    return f"---\n{metadata}---\n\n{title}\n"
