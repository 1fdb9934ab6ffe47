"""Reading the JSON files beside weights: strict about what changes a model's outputs, blind to the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.reading import describe

Settings = TypeVar("Settings", bound=BaseModel)


def read_json(path: Path) -> Mapping[str, object]:
    """Reads a JSON object.

    Raises:
        InputError: the file is missing, not readable, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), [Problem("(file)", error.strerror or str(error), "a readable file")]) from error
    except ValueError as error:
        raise InputError(str(path), [Problem("(file)", str(error), "JSON")]) from error
    if not isinstance(data, dict):
        raise InputError(str(path), [Problem("(top)", type(data).__name__, "a JSON object")])
    return data


def read_settings(model: type[Settings], data: Mapping[str, object], where: Path) -> Settings:
    """Reads the settings that a graph depends on out of a config.

    Args:
        model: what to read.
        data: the config.
        where: its file, for messages.

    Raises:
        InputError: with every problem found: a missing key, a wrong value, an option that is not supported.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(str(where), [describe(item) for item in error.errors(include_url=False)]) from error
