"""What `trainer guard` does: of received articles, those worth a label, and why each other one was dropped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.curate.guards import Dropped, Guards
from distillery_trainer.curate.records import Receipt, Received, read_records
from distillery_trainer.data.duplicates import near_duplicate_groups, representatives
from distillery_trainer.store.files import write_jsonl

UNREADABLE, DUPLICATE, NEAR_DUPLICATE = "unreadable", "duplicate", "near_duplicate"


@dataclass(frozen=True, slots=True)
class Sorted:
    """Articles in file order: those kept with their groups, those dropped with the reason, and unreadable lines."""

    kept: tuple[tuple[Received, str], ...]
    dropped: tuple[tuple[Received, Dropped], ...]
    unreadable: tuple[Mapping[str, object], ...]

    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason, the commonest first."""
        found = Counter(why.reason for _, why in self.dropped)
        found.update({UNREADABLE: len(self.unreadable)} if self.unreadable else {})
        return dict(found.most_common())


def guard_files(files: Sequence[Path], out: Path, dropped: Path, guards: Guards) -> Sorted:
    """Writes the articles kept to `out`, each with its `group`, and all others to `dropped`, each with `reason`.

    Raises:
        InputError: a file is missing, or holds no article.
    """
    result = sort_articles(read_records(files, TextPolicy()), guards)
    write_jsonl(out, ({**article.record, "group": group} for article, group in result.kept))
    rows = [{**article.record, "reason": why.reason, "found": why.found} for article, why in result.dropped]
    write_jsonl(dropped, [*rows, *result.unreadable])
    return result


def sort_articles(receipt: Receipt, guards: Guards) -> Sorted:
    """Drops what a guard names, then all of each near-duplicate group but its longest text."""
    checked = [(article, guards.check(article.cleaned)) for article in receipt.articles]
    passed = [article for article, why in checked if why is None]
    groups = near_duplicate_groups([article.id for article in passed], [article.text for article in passed])
    chosen = representatives(groups, [article.text for article in passed])
    repeated = {
        article.id: _repeats(article, passed[chosen[group]])
        for place, (article, group) in enumerate(zip(passed, groups, strict=True))
        if chosen[group] != place
    }
    reasons = {article.id: why or repeated.get(article.id) for article, why in checked}
    kept = [(a, g) for a, g in zip(passed, groups, strict=True) if a.id not in repeated]
    dropped = [(article, why) for article, _ in checked if (why := reasons[article.id])]
    lines = [{"where": line.where, "reason": UNREADABLE, "found": line.reason} for line in receipt.unreadable]
    return Sorted(tuple(kept), tuple(dropped), tuple(lines))


def _repeats(article: Received, kept: Received) -> Dropped:
    same = article.text.casefold() == kept.text.casefold()
    return Dropped(DUPLICATE if same else NEAR_DUPLICATE, f"of {kept.id}")
