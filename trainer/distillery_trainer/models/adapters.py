"""The names in a LoRA adapter's file, brought to one form: tools and peft versions write them in different dialects.

For example, with `base_model.model.` or without it before each:

    model.layers.0.mlp.up_proj.lora_A.weight, ...lora_A.default.weight               -> ...lora_A.weight
    score.weight, score.modules_to_save.weight, score.modules_to_save.default.weight -> score.weight
    score.original_module.weight                                                     -> dropped: the untrained head
"""

import re
from collections.abc import Iterable

from distillery_runtime.errors import InputError, Problem

_ROOT = "base_model.model."
_FROZEN_COPY = ".original_module."
_SAVED_COPY = re.compile(r"\.modules_to_save(\.default)?\.")
_LORA_NAME = re.compile(r"\.(lora_[AB])\.default\.")


def normalise_keys(keys: Iterable[str]) -> dict[str, str]:
    """Gives each key's short form, without the wrappers' names.

    Returns:
        Original key -> short key, in the order given; copies of modules from before the training are left out.

    Raises:
        InputError: two keys have the same short form.
    """
    short_keys: dict[str, str] = {}
    first_with: dict[str, str] = {}
    problems: list[Problem] = []
    for key in keys:
        if _FROZEN_COPY in key:
            continue
        short = _shorten(key)
        if short in first_with:
            problems.append(Problem(key, f"the same tensor as {first_with[short]}", f"{short} once"))
        first_with.setdefault(short, key)
        short_keys[key] = short
    if problems:
        raise InputError("adapter", problems)
    return short_keys


def check_pairs(found: set[str], expected: set[str], where: str) -> None:
    """Sees that an adapter holds exactly the tensors its model needs; anything less loads silently and scores wrongly.

    Args:
        found: short keys in the adapter's file.
        expected: short keys that the model with the adapter's settings has.
        where: the file, for the message.

    Raises:
        InputError: a key is missing or not expected; all of them are listed.
    """
    missing = [Problem(key, "missing", "a tensor of the adapter") for key in sorted(expected - found)]
    unexpected = [Problem(key, "present", "no such tensor for this base model") for key in sorted(found - expected)]
    if missing or unexpected:
        raise InputError(where, missing + unexpected)


def _shorten(key: str) -> str:
    short = key.removeprefix(_ROOT)
    short = _SAVED_COPY.sub(".", short)
    return _LORA_NAME.sub(r".\1.", short)
