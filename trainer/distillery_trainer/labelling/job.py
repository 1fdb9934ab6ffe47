"""What `trainer label` is asked to do, and the files that it writes."""

from dataclasses import dataclass, field
from pathlib import Path

from distillery_trainer.labelling import canary
from distillery_trainer.labelling.driving import Pace
from distillery_trainer.oracle.services import Access


@dataclass(frozen=True, slots=True)
class Money:
    """The budget in US dollars, for all that the ledger has ever paid, and the price where the table has none."""

    max_usd: float
    price: str | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked: how often a share of the articles is, how long a text may be, how large the canary is.

    `asks_dead_again`: dead letters of before are asked about once more. `limit`: only the first so many usable articles
    are asked about, in file order.
    """

    repeats: int = 1
    repeat_share: float = 0.0
    max_characters: int = 40_000
    canary: int = canary.SIZE
    asks_dead_again: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One `trainer label`.

    `may_begin_ledger`: even where labels, dead letters or a summary beside it come from another ledger.
    """

    filter_folder: Path
    articles: tuple[Path, ...]
    out: Path
    ledger: Path
    access: Access
    money: Money
    questions: Questions = Questions()
    pace: Pace = field(default_factory=Pace)
    is_batch: bool = False
    recorded: tuple[Path, ...] = ()
    may_begin_ledger: bool = False

    @property
    def dead(self) -> Path:
        """Where the dead letters are written."""
        return self.out.with_suffix(".dead.jsonl")

    @property
    def summary(self) -> Path:
        """Where the summary is written."""
        return self.out.with_suffix(".summary.json")
