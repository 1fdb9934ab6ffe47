"""What a call will use, before it is made: what is likely, and the most that it can be."""

from distillery_trainer.oracle.protocol import Request, Settings
from distillery_trainer.oracle.usage import Usage

# UTF-8 bytes for each token of input. Prose in Latin script has about 4.5, Dutch and German 4, Chinese 3 to 4; markup,
# figures and long hexadecimal strings go down to 2.
LIKELY_BYTES = 4.0
FEWEST_BYTES = 2.0
# What a chat adds around the messages, and what a reply has beside its numbers.
FRAME_TOKENS = 32
ANSWER_TOKENS = 12


def likely(request: Request, answers: int) -> Usage:
    """What a call will probably use, nothing cached and nothing thought."""
    return Usage(_tokens(request, LIKELY_BYTES), FRAME_TOKENS + ANSWER_TOKENS * answers)


def most(request: Request, settings: Settings) -> Usage:
    """The most that a call can use; of output it is what the provider is told as the limit."""
    return Usage(_tokens(request, FEWEST_BYTES), settings.most_output_tokens)


def _tokens(request: Request, bytes_per_token: float) -> int:
    size = len(request.instruction.encode()) + len(request.message.encode())
    return int(size / bytes_per_token) + FRAME_TOKENS
