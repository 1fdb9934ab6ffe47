"""A panel of filters beside their scorers one after the other."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite import accuracy
from benchmarks.suite.lab import Lab
from benchmarks.suite.settings import Settings
from benchmarks.suite.turns import Turns
from distillery_runtime import load, load_panel


def test_panel(panel_folders: Sequence[Path], settings: Settings, turns: Turns) -> None:
    """The sample at once, for all filters."""
    threads = settings.threads
    panel = load_panel(panel_folders, provider="cpu", threads=threads)
    scorers = [load(folder, provider="cpu", threads=threads) for folder in panel_folders]
    records = Lab(panel_folders[0], settings).records

    def one_after_the_other() -> list[object]:
        return [scorer.score_batch(records) for scorer in scorers]

    expected = [result for scorer in scorers for result in scorer.score_batch(records)]
    together = panel.score_batch(records)
    found = [results[place] for place in range(len(scorers)) for results in together]
    compared = accuracy.of_results(expected, found)
    facts = {
        "filters": len(scorers),
        "articles": len(records),
        "against": "each filter's own scorer",
        "largest_difference": compared["largest_abs_to_fp32"],
        "tier_flips": compared["tier_flips"],
        "route_flips": compared["route_flips"],
    }
    turns.measure("panel", lambda: panel.score_batch(records), facts, one_after_the_other, "single_scorers")
