"""Two kinds of chart: groups of horizontal bars with their spread, and lines over a common axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.render_svg import CHARACTER, COLOURS, OTHERS, Drawing, ticks
from benchmarks.render_text import figure

WIDTH = 760
BAR, GAP, TOP = 16, 8, 36
LEFT, RIGHT, LINE_HEIGHT, LINE_BOTTOM = 70, 190, 300, 48


@dataclass(frozen=True, slots=True)
class Bar:
    """A median and what 80 % of its runs lie between. `ours` stands out."""

    label: str
    value: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that are compared with one another."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Series:
    """A line: (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def bar_chart(title: str, unit: str, groups: Sequence[Group]) -> str:
    """Horizontal bars, each group with a scale of its own, the fastest first."""
    left = 16 + CHARACTER * max(len(bar.label) for group in groups for bar in group.bars)
    rows = sum(len(group.bars) for group in groups)
    drawing = Drawing(WIDTH, TOP + rows * (BAR + GAP) + len(groups) * 3 * (GAP + 6), title)
    drawing.text(8, 20, f"{title} ({unit}, less is better)", style="title")
    y = float(TOP)
    for group in groups:
        y = _bars(drawing, group, left, y)
    return drawing.document()


def _bars(drawing: Drawing, group: Group, left: float, top: float) -> float:
    """Draws a group and gives where the next one begins."""
    room = WIDTH - left - 70
    scale = room / max(bar.high for bar in group.bars)
    y = top + GAP + 12
    drawing.text(8, y, group.name, style="strong")
    y += GAP
    for bar in sorted(group.bars, key=lambda bar: (bar.value, bar.label)):
        middle = y + BAR / 2
        drawing.text(left - 8, middle + 4, bar.label, anchor="end", style="strong" if bar.ours else "")
        drawing.bar(left, y, bar.value * scale, BAR, COLOURS[0] if bar.ours else OTHERS)
        drawing.line(left + bar.low * scale, middle, left + bar.high * scale, middle, "whisker")
        drawing.text(left + max(bar.value, bar.high) * scale + 6, middle + 4, figure(bar.value))
        y += BAR + GAP
    return y + GAP


def line_chart(title: str, x_name: str, y_name: str, series: Sequence[Series]) -> str:
    """Lines from a y axis that begins at 0, named at their ends."""
    drawing = Drawing(WIDTH, TOP + LINE_HEIGHT + LINE_BOTTOM, title)
    drawing.text(8, 20, title, style="title")
    xs = sorted({x for line in series for x, _ in line.points})
    marks = ticks(max(y for line in series for _, y in line.points))
    across, bottom = WIDTH - LEFT - RIGHT, float(TOP + LINE_HEIGHT)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5
        return LEFT + share * across, bottom - y / marks[-1] * (LINE_HEIGHT - 12)

    for mark in marks:
        _, y = place(xs[0], mark)
        drawing.line(LEFT, y, LEFT + across, y, "axis" if mark == 0 else "grid")
        drawing.text(LEFT - 8, y + 4, f"{mark:,g}", anchor="end")
    for x in xs:
        drawing.text(place(x, 0)[0], bottom + 18, f"{x:g}", anchor="middle")
    drawing.text(LEFT + across / 2, bottom + 38, x_name, anchor="middle")
    drawing.text(8, TOP, y_name)
    _lines(drawing, [(line.name, [place(x, y) for x, y in line.points]) for line in series])
    return drawing.document()


def _lines(drawing: Drawing, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> None:
    """Draws lines; names that would meet are moved apart."""
    taken = -1e9
    for number, (name, points) in sorted(enumerate(lines), key=lambda item: item[1][1][-1][1]):
        colour = COLOURS[number % len(COLOURS)]
        drawing.path(points, colour)
        y = max(points[-1][1] + 4, taken + 15)
        x = WIDTH - RIGHT + 10
        drawing.bar(x, y - 9, 10, 10, colour)
        drawing.text(x + 15, y, name)
        taken = y
