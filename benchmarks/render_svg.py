"""Drawings as SVG: a few shapes on a transparent ground, readable on a light page and on a dark one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

# Mid tones, which stand out from white and from black; text and lines change with the reader's preference.
COLOURS = ("#2f81f7", "#d4772c", "#2da44e", "#a371f7", "#d1456b", "#8a8f98")
OTHERS = COLOURS[-1]
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-size:14px;font-weight:600}.strong{font-weight:600}"
    ".axis{stroke:#8a8f98;stroke-width:1}.grid{stroke:#8a8f98;stroke-opacity:.25}.whisker{stroke:#57606a;"
    "stroke-width:1.5}@media(prefers-color-scheme:dark){text{fill:#adbac7}.whisker{stroke:#adbac7}}"
)
CHARACTER = 6.6  # about the width of one, so that labels get room


@dataclass(slots=True)
class Drawing:
    """A picture that grows shape by shape. `title` is what is read out in its place."""

    width: float
    height: float
    title: str
    _shapes: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, anchor: str = "start", style: str = "") -> None:
        """Words, their baseline at y; `anchor` is start, middle or end."""
        kind = f" class={quoteattr(style)}" if style else ""
        self._shapes.append(f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{kind}>{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line of a style."""
        ends = f'x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"'
        self._shapes.append(f"<line {ends} class={quoteattr(style)}/>")

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle."""
        size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(height)}"'
        self._shapes.append(f'<rect {size} rx="2" fill="{colour}"/>')

    def path(self, points: Sequence[tuple[float, float]], colour: str) -> None:
        """A line through points, with a dot on each."""
        joined = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._shapes.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self._shapes += [f'<circle cx="{_n(x)}" cy="{_n(y)}" r="3" fill="{colour}"/>' for x, y in points]

    def document(self) -> str:
        """The file's content."""
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{escape(self.title)}</title>'
        return "\n".join([head, f"<style>{STYLE}</style>", *self._shapes, "</svg>"]) + "\n"


def _n(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough, and the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def ticks(most: float, count: int = 5) -> list[float]:
    """Round values from 0 up to at least `most`, at most `count` steps of 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if most / (factor * power) <= count)
    return [number * step for number in range(math.ceil(most / step - 1e-9) + 1)]
