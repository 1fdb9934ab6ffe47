"""Drawing articles to label: the best of some rankings and a random share of all others, each with its odds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.curate.records import Received
from distillery_trainer.store.files import write_jsonl

RANDOM = "random"
RANDOM_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """How many articles to draw, what share of them at random, and the seed of that."""

    count: int
    random_share: float = RANDOM_SHARE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """An article drawn: its place, its stratum, and the probability in (0, 1] with which one like it was drawn."""

    place: int
    stratum: str
    inclusion: float


def draw(total: int, rankings: Mapping[str, Sequence[int]], request: Request) -> list[Chosen]:
    """Draws from `total` articles: the rankings take their next best in turns, then chance takes from what is left.

    What a ranking took would be taken again: its probability is 1. The others were equally likely. One over the
    probabilities are therefore weights by which the labels tell of all `total` articles, without bias.

    Args:
        total: how many articles there are.
        rankings: for each stratum all places, the best first.
        request: `count` must not be above `total`.
    """
    if request.count > total:
        raise InputError("--count", [Problem(str(request.count), f"only {total} articles", "no more than there are")])
    chance = round(request.count * request.random_share) if request.count < total else 0
    taken = list(_in_turns(rankings, request.count - chance))
    left = sorted(set(range(total)) - {place for place, _ in taken})
    drawn: list[int] = (
        np.random.default_rng(request.seed).choice(left, chance, replace=False).tolist() if chance else []
    )
    ranked = [Chosen(place, stratum, 1.0) for place, stratum in taken]
    return [*ranked, *(Chosen(place, RANDOM, chance / len(left)) for place in sorted(drawn))]


def write_chosen(
    path: Path, articles: Sequence[Received], chosen: Sequence[Chosen], scores: Mapping[str, Sequence[float]]
) -> None:
    """Writes the articles drawn, with `stratum`, `inclusion_probability` and what each was ranked by."""
    write_jsonl(
        path,
        (
            {
                **articles[one.place].record,
                "stratum": one.stratum,
                "inclusion_probability": one.inclusion,
                **{name: round(float(values[one.place]), 4) for name, values in scores.items()},
            }
            for one in chosen
        ),
    )


def _in_turns(rankings: Mapping[str, Sequence[int]], count: int) -> Iterator[tuple[int, str]]:
    """The first `count` places, each of the stratum that took it first."""
    queues = {stratum: iter(places) for stratum, places in rankings.items()}
    seen: set[int] = set()
    while len(seen) < count:
        for stratum, queue in queues.items():
            place = next((place for place in queue if place not in seen), None)
            if place is not None and len(seen) < count:
                seen.add(place)
                yield place, stratum
