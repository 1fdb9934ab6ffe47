"""What guards know of a text's words: how many it has, what its title adds, how much of it is writing at all."""

import re

from distillery_trainer.data.duplicates import tokens

_SENTENCE = re.compile(r"(?<=[.!?…»。！？])\s+|\n+")
LETTERS_FROM = 2000  # characters
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
# The replacement character, and what UTF-8 read as Windows-1252 looks like.
_GARBLED = re.compile("\ufffd|Ã[\u0080-\u00bf©¨ª«¼¶¤±³]|â€[™œ\u009d“”¦˜]|Â[\u00a0-\u00bf]")


def words(text: str) -> list[str]:
    """The words in lower case, web addresses left out; of scripts without spaces each character is one."""
    return tokens(_ADDRESS.sub(" ", text))


def sentences(text: str) -> list[str]:
    """The text cut after full stops and line breaks; an address with stops in it stays whole."""
    return [part for part in _SENTENCE.split(text) if part]


def beyond_title(content: str, title: str) -> int:
    """How many words the content has that do not stand in the title."""
    known = set(words(title))
    return sum(word not in known for word in words(content))


def garbled_share(text: str) -> float:
    """Characters that a wrong decoding left, as a share of all: 0 to 1."""
    return sum(map(len, _GARBLED.findall(text))) / max(len(text), 1)


def letter_share(text: str) -> float:
    """Letters and marks as a share of what is no space and no web address, at the start: 0 to 1; 1 for none."""
    visible = "".join(_ADDRESS.sub(" ", text[:LETTERS_FROM]).split())
    return sum(char.isalpha() or not char.isascii() for char in visible) / len(visible) if visible else 1.0
