"""Small multiples, legends, bins: what the report's figures have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.evaluate import metrics
from distillery_trainer.report.svg import CHARACTER, HOLLOW, Axis, Drawing, Plot

WIDTH = 720.0
LEFT, TOP, BOTTOM, GAP = 38.0, 38.0, 40.0, 22.0
HEAD = 22.0
LEGEND = 24.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Articles of one kind: how many, and the mean of some value with its 95 % interval by group bootstrap."""

    count: int
    mean: float
    low: float
    high: float


def mean_of(values: Array, groups: Sequence[str], seed: int) -> Bin:
    """The mean of (N,) values, N at least 1."""
    found = metrics.group_interval(metrics.weighted_mean(values), groups, seed)
    low, high = found or (float(values.mean()), float(values.mean()))
    return Bin(len(values), float(values.mean()), low, high)


def multiples(
    alt: str, titles: Sequence[str], x: Axis, y: Axis, *, columns: int = 3, height: float = 150, legend: bool = False
) -> tuple[Drawing, list[Plot]]:
    """Plots with the same axes, row by row, each under its title, with room for a legend above."""
    rows, across = -(-len(titles) // columns), min(columns, max(len(titles), 2))
    width = WIDTH / across - LEFT - GAP
    begin = LEGEND if legend else 0.0
    drawing = Drawing(WIDTH, begin + rows * (TOP + height + BOTTOM), alt)
    plots = []
    for place, title in enumerate(titles):
        row, column = divmod(place, columns)
        left = column * (WIDTH / across) + LEFT
        plot = Plot(drawing, left, begin + row * (TOP + height + BOTTOM) + TOP, width, height, x, y)
        plot.axes(title)
        plots.append(plot)
    return drawing, plots


def single(alt: str, x: Axis, y: Axis, *, height: float = 210, legend: bool = False) -> Plot:
    """One plot as wide as the page."""
    begin = (LEGEND if legend else 0.0) + HEAD
    drawing = Drawing(WIDTH, begin + height + BOTTOM, alt)
    plot = Plot(drawing, LEFT + 12, begin, WIDTH - LEFT - 14 - GAP, height, x, y)
    plot.axes()
    return plot


def legend(drawing: Drawing, entries: Sequence[tuple[str, str, str]]) -> None:
    """Style, its signs (`line`, `dot` or `both`) and what it stands for, in one line at the top."""
    x = 8.0
    for style, signs, words in entries:
        if signs != "dot" and style == "guide":
            drawing.line((x, 11), (x + 22, 11), style)
        elif signs != "dot":
            drawing.path([(x, 11), (x + 22, 11)], style)
        if signs != "line":
            drawing.circle(x + 11, 11, 3.2, f"{style} hollow" if style in HOLLOW else style)
        drawing.text(x + 28, 15, words)
        x += 28 + CHARACTER * len(words) + 22


def binned(values: Array, edges: Array) -> NDArray[np.int64]:
    """Which bin each of (N,) values lies in: 0 to len(edges) - 2, values beyond the ends in the outermost ones."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
