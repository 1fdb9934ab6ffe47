"""Estimate of calls before they are made: tokens and US dollars, likely, and at most for any text and any tokenizer.

The maximum: an LLM's tokenizer normalises a text and then makes at most one token of each of its UTF-8 bytes
(byte-level and byte-fallback vocabularies) or of each character (all others). Normalisation can lengthen a text, U+FDFA
from 3 bytes to 33, but no character beyond its compatibility decomposition and case folding.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from distillery_trainer.labelling.ledger import CostRatio, Mode
from distillery_trainer.oracle.prices import Price
from distillery_trainer.oracle.protocol import Call, Settings, Usage
from distillery_trainer.oracle.reply_schema import google_schema, plain_schema

ROUNDING = 1e-9
HEADROOM = 1.5
FEWEST_REPLIES = 10  # that tell more of what calls cost than their length does
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


@dataclass(frozen=True, slots=True)
class Terms:
    """What calls of one asking cost: the price, the maximum of each, and in which mode they are made.

    `frame_tokens`: the maximum of input beside a question. `factor`: reservations are this many times the maximum.
    """

    asking: str
    settings: Settings
    price: Price
    mode: Mode
    frame_tokens: int
    factor: float = 1.0

    def most_usd(self, call: Call) -> float:
        """The most that a call can cost."""
        usage = max_usage(call, self.settings, self.frame_tokens)
        return self.factor * self.price.max_cost(usage, self.mode == "batch")

    def cost_usd(self, usage: Usage) -> float:
        """What a call cost, by what it used."""
        return self.price.cost(usage, self.mode == "batch")

    def with_headroom(self, ratio: CostRatio) -> "Terms":
        """With larger reservations where a reply has cost more than the maximum before."""
        return replace(self, factor=HEADROOM * ratio.highest) if ratio.highest > 1 + ROUNDING else self


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What questions will use and cost: `likely_usd`, and `most_usd` that no call can go beyond.

    `replies`: from how many replies of the same asking the likely cost was learned, 0 where it is by length.
    """

    questions: int
    input_tokens: int
    likely_usd: float
    most_usd: float
    replies: int = 0


def estimate(calls: Sequence[Call], terms: Terms, answers: int, ratio: CostRatio) -> CostEstimate:
    """What some calls will use and cost, before they are made.

    Args:
        calls: the calls.
        terms: what calls cost.
        answers: how many a reply holds, for its length.
        ratio: what replies of this asking have cost until now.
    """
    probable = [likely_usage(call, answers) for call in calls]
    most_usd = sum(terms.most_usd(call) for call in calls)
    is_learned = ratio.replies >= FEWEST_REPLIES
    return CostEstimate(
        len(calls),
        sum(usage.input_tokens for usage in probable),
        ratio.likely_usd(most_usd) if is_learned else sum(terms.cost_usd(usage) for usage in probable),
        most_usd,
        ratio.replies if is_learned else 0,
    )


def likely_usage(call: Call, answers: int) -> Usage:
    """What a call will probably use, nothing cached and nothing thought."""
    content = f"{call.instruction}{call.message}".encode()
    words = len(content.translate(None, FIGURES))
    tokens = len(content) - words + int(words / LIKELY_BYTES)
    return Usage(tokens + LIKELY_FRAME_TOKENS, LIKELY_FRAME_TOKENS + ANSWER_TOKENS * answers)


def max_usage(call: Call, settings: Settings, frame_tokens: int = MAX_FRAME_TOKENS) -> Usage:
    """The maximum that a call can use; of output it is what the provider is told as the limit.

    Args:
        call: the call.
        settings: how it is made.
        frame_tokens: those that are input beside the question, as `max_frame_tokens` counts them.
    """
    tokens = max_tokens(call.instruction) + max_tokens(call.message)
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
