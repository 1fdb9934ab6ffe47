"""What the command line shows of results: JSON lines, a table to read, progress, and a summary at the end."""

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import TextIO

from distillery_runtime.articles.text import normalise
from distillery_runtime.characters import shown
from distillery_runtime.scoring.result import Score
from distillery_runtime.spec.model import FilterSpec, TextPolicy

_PLAIN = TextPolicy(strip_markup=False)

PROGRESS_S = 0.2
PANEL_TITLE_WIDTH = 60
ID_DIGITS = 4  # of a bundle's id, at least, where they tell two bundles of one filter apart


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_line(score: Score) -> str:
    """One result as a JSON line."""
    return _encode(score.to_record())


class Table:
    """A table of results, a row each, as wide as the terminal."""

    def __init__(self, spec: FilterSpec) -> None:
        self._short = abbreviations(spec.dimension_names)
        self._names = spec.dimension_names
        self._tier_width = max(len(tier.name) for tier in spec.tiers)
        fixed = 9 + 9 + 13 + 8 + self._tier_width + sum(max(len(s), 4) + 1 for s in self._short) + 4
        self._title_width = max(24, min(60, shutil.get_terminal_size((140, 24)).columns - fixed))
        self._legend = "   ".join(f"{s} = {n}" for s, n in zip(self._short, self._names, strict=True))

    def header(self) -> str:
        """The first lines: what the short names mean, and the column names."""
        scores = " ".join(f"{s:>4}" for s in self._short)
        start = f"{'article':<{self._title_width}}  {'status':<8} {'stage':<8} {'selected':<12}{'overall':>7}"
        return f"{self._legend}\n\n{start}  {'tier':<{self._tier_width}}  {scores}"

    def row(self, title: str, scores: Sequence[Score]) -> str:
        """One result, with its article's title (or id) and, where there are no scores, the reason."""
        score = scores[0]
        start = f"{_name(title, score, self._title_width)}  {score.status:<8} {score.stage or '-':<8} "
        if score.scores is None:
            return f"{start}{shown(score.reason or '')}"
        values = " ".join(
            f"{score.scores[n]:>{max(len(s), 4)}.1f}" for n, s in zip(self._names, self._short, strict=True)
        )
        start += f"{_selected(score):<12}"
        capped = f"  capped by {score.gatekeeper}" if score.gatekeeper else ""
        return f"{start}{score.overall:>7.2f}  {score.tier:<{self._tier_width}}  {values}{capped}"


class PanelTable:
    """A table of a panel's results: a row for each article, overall and tier (or status) for each filter.

    An asterisk stands before those that a filter selects.
    """

    def __init__(self, specs: Sequence[FilterSpec], bundles: Sequence[str]) -> None:
        self._labels = headings(bundles)
        cells = [max(len("invalid"), *(len(f"* 10.00 {tier.name}") for tier in spec.tiers)) for spec in specs]
        self._widths = [max(len(label), cell) for label, cell in zip(self._labels, cells, strict=True)]

    def header(self) -> str:
        """The column names."""
        labels = "  ".join(f"{label:<{width}}" for label, width in zip(self._labels, self._widths, strict=True))
        return f"{'article':<{PANEL_TITLE_WIDTH}}  {labels}".rstrip() + "\n* selected"

    def row(self, title: str, scores: Sequence[Score]) -> str:
        """One article's results."""
        cells = map(_cell, scores)
        shown = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=True))
        return f"{_name(title, scores[0], PANEL_TITLE_WIDTH)}  {shown}".rstrip()


def table_of(specs: Sequence[FilterSpec], bundles: Sequence[str]) -> Table | PanelTable:
    """The table for the results of one bundle, or of several, by their filters' specs and their names in results."""
    return Table(specs[0]) if len(specs) == 1 else PanelTable(specs, bundles)


class Tally:
    """Counts results by bundle, status, stage and tier as they go by, and shows progress on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shows = stream.isatty()
        self._start = self._shown = time.perf_counter()
        self._counts: dict[tuple[int, str], Counter[tuple[str, str]]] = {}
        self._kept = 0
        self.total = 0
        self.first_reason: str | None = None
        """Why the first invalid article was invalid."""

    def add(self, scores: Sequence[Score]) -> None:
        """Counts the results of one article, one for each filter."""
        self.total += 1
        for number, score in enumerate(scores):
            counts = self._counts.setdefault((number, score.bundle), Counter())
            counts["status", score.status] += 1
            if score.status == "invalid":
                self.first_reason = self.first_reason or score.reason
            if score.stage and score.tier:
                counts["stage", score.stage] += 1
                counts["tier", score.tier] += 1
                counts["selected", "yes" if score.selected else "no"] += 1
        if self._shows and time.perf_counter() - self._shown >= PROGRESS_S:
            self._shown = time.perf_counter()
            with suppress(OSError):  # of a terminal that is gone
                self._stream.write(f"\r{self.total:,} articles, {self._rate():,.0f}/s ")
                self._stream.flush()

    def count_kept(self, scores: Sequence[Score]) -> None:
        """Counts the results of one article that an earlier process has written."""
        self._kept += 1
        self.add(scores)

    @property
    def all_invalid(self) -> bool:
        """Whether every article was invalid, for every filter."""
        return all(
            {status for kind, status in counts if kind == "status"} == {"invalid"} for counts in self._counts.values()
        )

    @property
    def any_invalid(self) -> bool:
        """Whether an article was invalid."""
        return any(counts["status", "invalid"] for counts in self._counts.values())

    def summary(self) -> list[str]:
        """The closing lines: how many, how fast, and for each bundle counts by status, stage and tier."""
        seconds = time.perf_counter() - self._start
        kept = f", {self._kept:,} kept from before" if self._kept else ""
        lines = [f"{self.total:,} articles in {seconds:.1f} s ({self._rate():,.1f} articles/s{kept})"]
        for (_, bundle), counts in self._counts.items():
            lines += [bundle] if len(self._counts) > 1 else []
            for kind in ("status", "stage", "selected", "tier"):
                found = [(value, n) for (k, value), n in sorted(counts.items()) if k == kind]
                shares = ", ".join(f"{value} {n:,} ({n / self.total:.1%})" for value, n in found)
                lines += [f"  {kind:<9}{shares}"] if found else []
        if self._shows:
            self._stream.write("\r")
        return lines

    def _rate(self) -> float:
        return (self.total - self._kept) / max(time.perf_counter() - self._start, 1e-9)


def headings(bundles: Sequence[str]) -> list[str]:
    """A name for each bundle: its filter's label, and where two bundles have the same, as much of its id as tells."""
    labels = [bundle.partition("@")[0] for bundle in bundles]
    others = {label: {b for b, own in zip(bundles, labels, strict=True) if own == label} for label in labels}
    return [_told_apart(b, others[label]) for b, label in zip(bundles, labels, strict=True)]


def _told_apart(bundle: str, alike: Set[str]) -> str:
    label, _, digits = bundle.partition("@")
    if len(alike) == 1:
        return label
    for count in range(ID_DIGITS, len(digits)):
        if sum(other.startswith(f"{label}@{digits[:count]}") for other in alike) == 1:
            return f"{label}@{digits[:count]}"
    return bundle


def abbreviations(names: Sequence[str]) -> list[str]:
    """The dimensions' initials, no two alike: `technology_readiness_level` is `TRL`, and a second such one `TRL2`."""
    initials = ["".join(part[0] for part in name.split("_") if part).upper() for name in names]
    found: list[str] = []
    for short in initials:
        numbered = (f"{short}{number}" for number in itertools.count(2))
        found.append(short if short not in found else next(n for n in numbered if n not in (*found, *initials)))
    return found


def _selected(score: Score) -> str:
    """Whether an article is selected, with its chance."""
    chance = "" if score.chance is None else f" {score.chance:.0%}"
    return f"{'yes' if score.selected else 'no'}{chance}"


def _cell(score: Score) -> str:
    """A panel's cell."""
    if score.overall is None:
        return f"  {score.status}"
    return f"{'*' if score.selected else ' '} {score.overall:>5.2f} {score.tier}"


def _name(title: str, score: Score, width: int) -> str:
    """An article's title or id, of exactly `width` characters."""
    name = title if title.strip() else score.id or "-"
    encodable = name.encode("utf-8", "replace").decode("utf-8")  # an invalid article's title may not be
    line = shown(normalise(encodable, _PLAIN))
    return f"{line if len(line) <= width else f'{line[: width - 1]}…':<{width}}"
