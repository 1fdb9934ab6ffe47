"""Drawings as SVG inside a page: shapes with a style's name, plots with axes, the same bytes on every machine."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers, and by grey value on paper.
STYLE = """
svg text{font:11px Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#000;stroke:#fff;stroke-width:3px;
paint-order:stroke;stroke-linejoin:round}
svg .title{font-weight:bold}svg .small{font-size:10px;fill:#333}
svg .axis{stroke:#000;stroke-width:1}svg .grid{stroke:#ddd;stroke-width:1}
svg .tier{stroke:#000;stroke-width:.8}svg .guide{stroke:#555;stroke-width:1;stroke-dasharray:4 3}
svg .student,svg .after{stroke:#0072b2;fill:#0072b2}svg .probe{stroke:#d55e00;fill:#d55e00}
svg .plain,svg .before{stroke:#555;fill:#555}svg .light{stroke:#888;fill:#c8c8c8}
svg polyline{stroke-width:1.8;stroke-linejoin:round}svg polyline.student,svg polyline.after,svg polyline.probe,
svg polyline.before,svg polyline.plain{fill:none}svg polyline.probe,svg polyline.before{stroke-dasharray:6 3}
svg .hollow{fill:#fff;stroke-width:1.6}svg .whisker{stroke:#000;stroke-width:1.3}
svg .bubble{fill-opacity:.75;stroke:none}
"""
CHARACTER = 6.2  # about the width of one, so that labels get room
HOLLOW = {"probe", "before"}

Point = tuple[float, float]


@dataclass(slots=True)
class Drawing:
    """A picture that grows shape by shape. `alt` is what is read out in its place."""

    width: float
    height: float
    alt: str
    _shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, anchor: str = "start", style: str = "") -> None:
        """Words, their baseline at y; `anchor` is start, middle or end."""
        self._add("text", style, f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"', html.escape(words))

    def line(self, start: Point, end: Point, style: str) -> None:
        """A straight line."""
        self._add("line", style, f'x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"')

    def rectangle(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A filled rectangle."""
        size = f'width="{_n(max(width, 0))}" height="{_n(max(height, 0))}"'
        self._add("rect", style, f'x="{_n(x)}" y="{_n(y)}" {size}')

    def circle(self, x: float, y: float, radius: float, style: str) -> None:
        """A filled circle."""
        self._add("circle", style, f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"')

    def path(self, points: Iterable[Point], style: str) -> None:
        """A line through points."""
        self._add("polyline", style, f'points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in points)}"')

    def document(self) -> str:
        """The SVG element, as wide as the page lets it be."""
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        alt = html.escape(self.alt)
        return "\n".join([f'<svg {size} role="img" aria-label="{alt}"><title>{alt}</title>', *self._shapes, "</svg>"])

    def _add(self, name: str, style: str, attributes: str, content: str = "") -> None:
        kind = f' class="{style}"' if style else ""
        self._shapes.append(
            f"<{name}{kind} {attributes}>{content}</{name}>" if content else f"<{name}{kind} {attributes}/>"
        )


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from `low` to `high`, with its marks and what it measures."""

    low: float
    high: float
    marks: Sequence[float]
    name: str = ""
    percent: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, in [0, 1]; values beyond an end lie on it."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def label(self, mark: float) -> str:
        """A mark in figures."""
        return f"{mark:.0%}" if self.percent else f"{mark:,g}"


SCORES = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)


def scores(name: str) -> Axis:
    """The axis of scores, 0 to 10."""
    return Axis(0, 10, SCORES, name)


def shares(name: str) -> Axis:
    """The axis of shares, 0 to 100 %."""
    return Axis(0, 1, (0, 0.25, 0.5, 0.75, 1), name, percent=True)


def from_zero(most: float, name: str) -> Axis:
    """An axis from 0 to a round value that is at least `most`."""
    marks = ticks(most)
    return Axis(0, marks[-1], marks, name)


def ticks(most: float, count: int = 4) -> list[float]:
    """Round values from 0 up to at least `most`, at most `count` steps of 1, 2, 2.5 or 5 times a power of ten."""
    if most <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most / count))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if most / (factor * power) <= count + 1e-9)
    return [round(number * step, 12) for number in range(math.ceil(most / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Plot:
    """An area with axes within a drawing: what is drawn is given in the units of its axes."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> Point:
        """Where a point lies in the drawing."""
        return self.left + self.x.share(x) * self.width, self.top + (1 - self.y.share(y)) * self.height

    def axes(self, title: str = "") -> None:
        """The grid, both axes, their marks and names, and a title above."""
        bottom, right = self.top + self.height, self.left + self.width
        for mark in self.y.marks:
            _, y = self.place(self.x.low, mark)
            self.drawing.line((self.left, y), (right, y), "grid")
            self.drawing.text(self.left - 5, y + 4, self.y.label(mark), "end", "small")
        self.drawing.line((self.left, bottom), (right, bottom), "axis")
        for mark in self.x.marks:
            x, _ = self.place(mark, self.y.low)
            self.drawing.line((x, bottom), (x, bottom + 4), "axis")
            self.drawing.text(x, bottom + 15, self.x.label(mark), "middle", "small")
        self.drawing.line((self.left, self.top), (self.left, bottom), "axis")
        self.drawing.text(self.left + self.width / 2, bottom + 29, self.x.name, "middle", "small")
        offset = 8 if title else 22
        self.drawing.text(self.left - 34, self.top - offset + (0 if title else 14), self.y.name, "start", "small")
        if title:
            self.drawing.text(self.left - 34, self.top - 22, title, "start", "title")

    def line(self, points: Iterable[Point], style: str) -> None:
        """A line through points."""
        self.drawing.path([self.place(x, y) for x, y in points], style)

    def dots(self, points: Iterable[Point], style: str, radius: float = 3.2) -> None:
        """A dot on each point; hollow for the styles that are drawn as broken lines."""
        kind = f"{style} hollow" if style in HOLLOW else style
        for x, y in points:
            self.drawing.circle(*self.place(x, y), radius, kind)

    def bar(self, start: float, end: float, value: float, style: str) -> None:
        """A bar from 0 up to a value, between two places of the x axis."""
        (left, top), (right, bottom) = self.place(start, value), self.place(end, self.y.low)
        self.drawing.rectangle(left, top, right - left, bottom - top, style)

    def whisker(self, x: float, low: float, high: float) -> None:
        """An interval, upright."""
        (middle, bottom), (_, top) = self.place(x, low), self.place(x, high)
        for start, end in (
            ((middle, top), (middle, bottom)),
            ((middle - 4, top), (middle + 4, top)),
            ((middle - 4, bottom), (middle + 4, bottom)),
        ):
            self.drawing.line(start, end, "whisker")

    def guide(self, start: Point, end: Point) -> None:
        """A broken grey line to compare with."""
        self.drawing.line(self.place(*start), self.place(*end), "guide")

    def label(self, x: float, y: float, words: str, anchor: str = "start", shift: Point = (6, -6)) -> None:
        """Words beside a point, moved by `shift`."""
        left, top = self.place(x, y)
        self.drawing.text(left + shift[0], top + shift[1], words, anchor, "small")


def _n(value: float) -> str:
    """A coordinate: a tenth of a unit is enough, and the same on every machine."""
    return f"{value + 0.0:.1f}".removesuffix(".0").replace("-0.0", "0")
