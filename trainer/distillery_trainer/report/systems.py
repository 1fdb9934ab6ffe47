"""How good each system is: the errors with their intervals, and the decisions at the operating tier."""

from collections.abc import Iterator, Mapping

from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.evaluate.evaluation import SystemFigures, Systems
from distillery_trainer.evaluate.parts import LONG, SHORT, TOTAL
from distillery_trainer.report import page
from distillery_trainer.report.advice import hits, recall_interval
from distillery_trainer.report.charts import LEFT, WIDTH
from distillery_trainer.report.facts import Facts, in_words, percent
from distillery_trainer.report.page import Cell
from distillery_trainer.report.svg import Drawing, Plot, from_zero

NAMES = {
    "constant": "One answer for all",
    "tfidf_ridge": "Counting words",
    "static": "Word weights",
    "probe": "Probe alone",
    "student": "Student alone",
    "cascade": "Cascade (as deployed)",
}
PARTS = {
    TOTAL: "All",
    f"length:under_{SHORT}": f"Under {SHORT:,} characters",
    f"length:{SHORT}_to_{LONG}": f"{SHORT:,} to {LONG:,} characters",
    f"length:over_{LONG}": f"Over {LONG:,} characters",
    "window:whole": "Read whole",
    "window:truncated": "Cut to the window",
}
ROW, NAME_WIDTH = 24.0, 168.0
CAPTION = (
    "Error of each system on all test articles. The dot is what was measured, the line its 95 % interval. A model "
    f"is worth its cost only if it lies clearly left of “{NAMES['tfidf_ridge']}”, which knows nothing but which "
    f"words occur. “{NAMES['constant']}” answers every article with the medians of the training labels."
)


def section(facts: Facts) -> str:
    """Tables of errors and decisions by system, and the errors as a figure."""
    parts = facts.evaluation.parts
    return page.section(
        "How good are the models?",
        page.paragraph(
            "All systems answered the same articles, which none of them had seen. The error (MAE) is the mean "
            "distance between a system's score and the oracle's, over all dimensions, on the scale of 0 to 10: "
            "smaller is better. Below each error stands its 95 % interval: with other articles of the same kind it "
            "would lie in there."
        ),
        _errors(parts),
        page.figure(_drawing(parts[TOTAL]), CAPTION),
        page.paragraph(
            f"And the decisions. The oracle's finds are the articles that it places at "
            f"“{in_words(facts.spec.operating_tier)}” or above; a system's are those that it selects. Found: the share "
            "of the oracle's finds that the system selects too (recall). Right: the share of the selected that the "
            "oracle shares (precision). F1 is the harmonic mean of the two. Ranking: the average precision over all "
            "places where a line could be drawn. Slope: how far the overalls spread, 1 as the oracle's."
        ),
        _decisions(parts[TOTAL]),
    )


def _errors(parts: Mapping[str, Systems]) -> str:
    rows = [
        [Cell(part_name(name)), Cell(str(part.constant.n)), *map(_error, part.by_name().values())]
        for name, part in parts.items()
    ]
    return page.table(["Error (MAE)", "Articles", *map(name_of, parts[TOTAL].by_name())], rows, strong=[0])


def _error(system: SystemFigures) -> Cell:
    interval = system.intervals["mae"]
    return Cell(f"{system.mae:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "")


def _decisions(total: Systems) -> str:
    head = ["Decision", "Oracle's finds", "Selected", "Found (recall)", "Right (precision)", "F1", "Ranking", "Slope"]
    rows = [list(_decision(name, system)) for name, system in total.by_name().items()]
    return page.table(head, rows, strong=[len(rows) - 1])


def _decision(name: str, system: SystemFigures) -> Iterator[Cell]:
    found = system.finds
    yield Cell(name_of(name))
    yield Cell(str(found.positives))
    yield Cell(str(found.predicted))
    yield Cell(_share(found.recall), _between(recall_interval(system)))
    yield Cell(_share(found.precision), _between(share_interval(hits(found), found.predicted)))
    yield Cell(_number(found.f1), _range(system.intervals["f1"]))
    yield Cell(_number(system.average_precision))
    yield Cell(_number(system.slope))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _range(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else ""


def _between(interval: tuple[float, float] | None) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def _drawing(total: Systems) -> Drawing:
    found = total.by_name()
    most = max((system.intervals["mae"] or (0, system.mae))[1] for system in found.values())
    alt = "Error of each system with its interval: " + ", ".join(
        f"{name_of(name)} {system.mae:.2f}" for name, system in found.items()
    )
    drawing = Drawing(WIDTH, len(found) * ROW + 56, alt)
    axis = from_zero(most, "mean error in score points (MAE)")
    plot = Plot(drawing, NAME_WIDTH, 8, WIDTH - NAME_WIDTH - LEFT, len(found) * ROW, axis, from_zero(1, ""))
    for mark in axis.marks:
        x, bottom = plot.place(mark, 0)
        drawing.line((x, 8), (x, bottom), "axis" if mark == 0 else "grid")
        drawing.text(x, bottom + 15, axis.label(mark), "middle", "small")
    drawing.text(plot.left + plot.width / 2, 8 + len(found) * ROW + 32, axis.name, "middle", "small")
    for place, (name, system) in enumerate(found.items()):
        _row(plot, place, name, system)
    return drawing


def _row(plot: Plot, place: int, name: str, system: SystemFigures) -> None:
    y = plot.top + (place + 0.5) * ROW
    style = {"probe": "probe", "student": "student", "cascade": "student"}.get(name, "plain")
    interval, middle = system.intervals["mae"], plot.place(system.mae, 0)[0]
    plot.drawing.text(plot.left - 10, y + 4, name_of(name), "end", "title" if name == "cascade" else "")
    if interval:
        low, high = (plot.place(value, 0)[0] for value in interval)
        plot.drawing.line((low, y), (high, y), "whisker")
    plot.drawing.circle(middle, y, 5, f"{style} hollow" if style == "probe" else style)


def name_of(system: str) -> str:
    """A system's name as an editor reads it."""
    return NAMES[system]


def part_name(part: str) -> str:
    """What articles a part of the evaluation holds, as an editor reads it."""
    return PARTS.get(part, in_words(part))


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share)
