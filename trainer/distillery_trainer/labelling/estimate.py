"""Tokens of a call before it is made: a likely number, and a maximum that holds for any text and any tokenizer.

The maximum: an LLM's tokenizer normalises a text and then makes at most one token of each of its UTF-8 bytes
(byte-level and byte-fallback vocabularies) or of each character (all others). Normalisation can lengthen a text, U+FDFA
from 3 bytes to 33, but no character beyond its compatibility decomposition and case folding.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache

from distillery_trainer.oracle.protocol import Call, Settings, Usage
from distillery_trainer.oracle.reply_schema import google_schema, plain_schema

# UTF-8 bytes for each token of input: prose in Latin script has about 4.5, Dutch and German 4, Chinese 3 to 4. Gemma,
# Qwen and DeepSeek make a token of each figure or of three.
LIKELY_BYTES = 4.0
FIGURES = b"0123456789"
# What a chat template adds around the messages: the longest known (a model's own system message with dates) has 100.
LIKELY_FRAME_TOKENS = 32
MAX_FRAME_TOKENS = 512
# What a reply has beside its numbers.
ANSWER_TOKENS = 12

_ASCII = re.compile(r"[\x00-\x7f]+")


def likely(request: Call, answers: int) -> Usage:
    """What a call will probably use, nothing cached and nothing thought."""
    content = f"{request.instruction}{request.message}".encode()
    words = len(content.translate(None, FIGURES))
    tokens = len(content) - words + int(words / LIKELY_BYTES)
    return Usage(tokens + LIKELY_FRAME_TOKENS, LIKELY_FRAME_TOKENS + ANSWER_TOKENS * answers)


def most(request: Call, settings: Settings, frame_tokens: int = MAX_FRAME_TOKENS) -> Usage:
    """The maximum that a call can use; of output it is what the provider is told as the limit.

    Args:
        request: the question.
        settings: how it is asked.
        frame_tokens: those that are input beside the question, as `max_frame_tokens` counts them.
    """
    tokens = max_tokens(request.instruction) + max_tokens(request.message)
    return Usage(tokens + frame_tokens, settings.most_output_tokens)


def max_frame_tokens(schema: Mapping[str, object], settings: Settings) -> int:
    """The maximum of input tokens beside a question: the chat's template, and what is sent along with the messages.

    Some providers count the reply's schema as input, in a form of their own; none is longer than indented JSON.
    """
    forms = (schema, plain_schema(schema), google_schema(schema))
    sent = max(len(json.dumps(form, indent=4)) for form in forms)
    return MAX_FRAME_TOKENS + sent + max_tokens(json.dumps(settings.extra, indent=4, ensure_ascii=False))


def max_tokens(text: str) -> int:
    """The maximum of tokens that a text can be, whatever the tokenizer: its UTF-8 bytes, normalised at the longest."""
    size = len(text.encode())
    if size == len(text):  # ASCII, which no normalisation lengthens
        return size
    return size + sum(_growth(character) * times for character, times in Counter(_ASCII.sub("", text)).items())


@cache
def _growth(character: str) -> int:
    """UTF-8 bytes by which normalisation can lengthen a character: NFD, NFKD, case folding, or all of them."""
    folded = unicodedata.normalize("NFKD", character).casefold()
    forms = (unicodedata.normalize("NFD", character), unicodedata.normalize("NFKD", character), folded,
             unicodedata.normalize("NFKD", folded), unicodedata.normalize("NFKD", character.casefold()),
             character.lower(), character.upper())  # fmt: skip
    return max(0, max(len(form.encode()) for form in forms) - len(character.encode()))
