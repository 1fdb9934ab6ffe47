"""The token ids of a text's two ends, exactly as in the whole text, without tokenising what lies between.

The ends are read from the outside in until they are enough or meet; nothing is tokenised twice.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from distillery_runtime.tokens.cuts import Cuts

T = TypeVar("T")  # what stands for a token: its id, or more

# Characters read at first for each token wanted, a little fewer than most texts need: a second round costs less than
# reading too far. It grows by half from round to round, so that rounds are few.
_CHARACTERS_PER_TOKEN = 4


def read_ends(
    texts: Sequence[str], head: int, tail: int, cuts: Cuts, tokenise: Callable[[list[str]], list[list[T]]]
) -> list[list[T]]:
    """Gives each text's ids, in order: all of them, or those of its two ends.

    Where a middle is missing, the result begins with at least the first `head` ids of the whole text and ends with at
    least its last `tail`.

    Args:
        texts: each of any length.
        head: from 1.
        tail: from 0.
        cuts: where texts may be cut for this tokenizer.
        tokenise: gives the ids of each piece, in order. It is called once a round, with the pieces of all texts.
    """
    readers: list[Generator[list[str], list[list[T]], list[T]]] = [_read(text, head, tail, cuts) for text in texts]
    found: list[list[T]] = [[] for _ in texts]
    wanted = {index: next(reader) for index, reader in enumerate(readers)}
    while wanted:
        ids = iter(tokenise([piece for pieces in wanted.values() for piece in pieces]))
        further = {}
        for index, pieces in wanted.items():
            try:
                further[index] = readers[index].send([next(ids) for _ in pieces])
            except StopIteration as end:
                found[index] = end.value
        wanted = further
    return found


def _read(text: str, head: int, tail: int, cuts: Cuts) -> Generator[list[str], list[list[T]], list[T]]:
    """Yields the pieces to tokenise next, is sent their ids, and returns what `read_ends` gives for this text."""
    front: list[T] = []
    back: list[T] = []
    start, stop, per_token = 0, len(text), _CHARACTERS_PER_TOKEN
    while len(front) < head or len(back) < tail:
        before = max(0, head - len(front)) * per_token
        after = max(0, tail - len(back)) * per_token
        middle = _middle(text, (start, start + before), (stop - after, stop), cuts)
        if middle is None:
            (rest,) = yield [text[start:stop]]
            return front + rest + back
        pieces = [text[start : middle[0]], text[middle[1] : stop]]
        ids = iter((yield [piece for piece in pieces if piece]))
        front, back = (front + next(ids) if pieces[0] else front), (next(ids) + back if pieces[1] else back)
        start, stop = middle
        per_token += per_token // 2
    return front + back


def _middle(text: str, head: tuple[int, int], tail: tuple[int, int], cuts: Cuts) -> tuple[int, int] | None:
    """What lies between two safe cuts and can be left for later; None if that is nothing.

    Args:
        head: where the unread part begins, and from where on it may be cut.
        tail: before where it may be cut, and where it ends.
    """
    if head[1] >= tail[0]:
        return None
    first = head[0] if head[0] == head[1] else cuts.first(text, head[1], tail[0])
    if first is None:
        return None
    last = tail[1] if tail[0] == tail[1] else cuts.last(text, first + 1, tail[0])
    return None if last is None else (first, last)
