"""What the command line shows of results: JSON lines, a table to read, progress, and a summary at the end."""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TextIO

from distillery_runtime.result import Score
from distillery_runtime.spec import FilterSpec, TextPolicy
from distillery_runtime.text import normalise

_PLAIN = TextPolicy(strip_markup=False)


def json_line(score: Score) -> str:
    """One result as a JSON line."""
    return json.dumps(score.to_record(), ensure_ascii=False, allow_nan=False)


class Table:
    """A table of results, a row each, as wide as the terminal."""

    def __init__(self, spec: FilterSpec) -> None:
        self._short = [abbreviate(name) for name in spec.dimension_names]
        self._names = spec.dimension_names
        self._tier_width = max(len(tier.name) for tier in spec.tiers)
        fixed = 9 + 9 + 8 + self._tier_width + sum(max(len(s), 4) + 1 for s in self._short) + 4
        self._title_width = max(24, min(60, shutil.get_terminal_size((140, 24)).columns - fixed))
        self._legend = "   ".join(f"{s} = {n}" for s, n in zip(self._short, self._names, strict=True))

    def header(self) -> str:
        """The first lines: what the short names mean, and the column names."""
        scores = " ".join(f"{s:>4}" for s in self._short)
        start = f"{'article':<{self._title_width}}  {'status':<8} {'stage':<8} {'overall':>7}"
        return f"{self._legend}\n\n{start}  {'tier':<{self._tier_width}}  {scores}"

    def row(self, record: object, score: Score) -> str:
        """One result, with its article's title (or id) and, where there are no scores, the reason."""
        title = record.get("title") if isinstance(record, Mapping) else None
        name = title if isinstance(title, str) and title.strip() else score.id or "-"
        encodable = name.encode("utf-8", "replace").decode("utf-8")  # an invalid article's title may not be
        shown = _clip(normalise(encodable, _PLAIN), self._title_width)
        start = f"{shown:<{self._title_width}}  {score.status:<8} {score.stage or '-':<8} "
        if score.scores is None:
            return f"{start}{score.reason}"
        values = " ".join(
            f"{score.scores[n]:>{max(len(s), 4)}.1f}" for n, s in zip(self._names, self._short, strict=True)
        )
        capped = f"  capped by {score.gatekeeper}" if score.gatekeeper else ""
        return f"{start}{score.overall:>7.2f}  {score.tier:<{self._tier_width}}  {values}{capped}"


class Tally:
    """Counts results by status, stage and tier as they go by, and shows progress on a terminal."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._start = time.perf_counter()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.total = 0

    def add(self, scores: Sequence[Score]) -> None:
        """Counts a batch of results."""
        self.total += len(scores)
        for score in scores:
            self.counts["status", score.status] += 1
            if score.stage and score.tier:
                self.counts["stage", score.stage] += 1
                self.counts["tier", score.tier] += 1
        if self._stream.isatty():
            self._stream.write(f"\r{self.total:,} articles, {self._rate():,.0f}/s ")
            self._stream.flush()

    def summary(self) -> str:
        """The closing lines: how many, how fast, and counts by status, stage and tier."""
        seconds = time.perf_counter() - self._start
        lines = [f"{self.total:,} articles in {seconds:.1f} s ({self._rate():,.1f} articles/s)"]
        for kind in ("status", "stage", "tier"):
            found = [(value, n) for (k, value), n in sorted(self.counts.items()) if k == kind]
            if found:
                lines.append(f"  {kind:<7}" + ", ".join(f"{value} {n:,} ({n / self.total:.1%})" for value, n in found))
        return ("\r" if self._stream.isatty() else "") + "\n".join(lines)

    def _rate(self) -> float:
        return self.total / max(time.perf_counter() - self._start, 1e-9)


def abbreviate(name: str) -> str:
    """A dimension's initials: `technology_readiness_level` becomes `TRL`."""
    return "".join(part[0] for part in name.split("_") if part).upper()


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
