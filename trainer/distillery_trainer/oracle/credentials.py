"""Keys of providers: read from the environment, and kept out of everything that is written."""

from collections.abc import Sequence

from distillery_runtime.environment import key_in
from distillery_runtime.errors import InputError, Problem

HIDDEN = "[key]"
SHORTEST_HIDDEN = 8


def read_key(variables: Sequence[str], needed: bool) -> str | None:
    """The key in the first of these environment variables that is set.

    Raises:
        InputError: none is set, and a key is needed; or it holds what no key does. The key is not shown.
    """
    for name in variables:
        if key := key_in(name):
            return key
    if needed:
        problem = Problem(" or ".join(variables), "not set", "the provider's key, in the environment")
        raise InputError("environment", [problem])
    return None


def without_key(text: str, key: str | None) -> str:
    """A text in which a server may have repeated the key, without it."""
    return text.replace(key, HIDDEN) if key and len(key) >= SHORTEST_HIDDEN else text
