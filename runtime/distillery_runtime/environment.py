"""Keys of services from the environment: checked before they go into a header, and never shown."""

import os

from distillery_runtime.errors import InputError, Problem


def key_in(variable: str) -> str | None:
    """The key in an environment variable, without blanks around it; None where there is none.

    Raises:
        InputError: it holds what no header can carry; the message names the variable and not the key.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        problem = Problem(variable, "characters that no key has", "ASCII letters, digits and signs on one line")
        raise InputError("environment", [problem])
    return key or None
