"""How good each system is: the errors with their intervals, and the decisions at the operating tier."""

from collections.abc import Iterator, Mapping
from typing import Any

from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.evaluate.parts import LONG, SHORT, TOTAL
from distillery_trainer.report import page
from distillery_trainer.report.advice import hits, recall_interval
from distillery_trainer.report.charts import LEFT, WIDTH
from distillery_trainer.report.facts import Facts, in_words, percent
from distillery_trainer.report.page import Cell
from distillery_trainer.report.svg import Drawing, Panel, from_zero

Json = Mapping[str, Any]  # Any: nested JSON of known shape

NAMES = {
    "constant": "Always the average",
    "tfidf_ridge": "Counting words",
    "static": "Word table",
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
    f"words occur. “{NAMES['constant']}” answers every article with the mean of the training labels."
)


def section(facts: Facts) -> str:
    """Tables of errors and decisions by system, and the errors as a figure."""
    parts = facts.evaluation["parts"]
    return page.section(
        "How good are the models?",
        page.paragraph(
            "All systems answered the same articles, which none of them had seen. The error (MAE) is the mean "
            "distance between a system's score and the oracle's, over all dimensions, on the scale of 0 to 10: "
            "smaller is better. Below each error stands its 95 % interval: with other articles of the same kind it "
            "would lie in there."
        ),
        _errors(parts),
        page.figure(_drawing(parts["total"]), CAPTION),
        page.paragraph(
            f"And the decisions. A find is an article placed at the tier “{in_words(facts.spec.operating_tier)}” or "
            "above. Found: the share of the oracle's finds that the system finds too (recall). Right: the share of "
            "the system's finds that the oracle shares (precision)."
        ),
        _decisions(parts["total"], facts.spec.operating_tier),
    )


def _errors(parts: Json) -> str:
    names = systems(parts["total"])
    rows = [
        [Cell(part_name(name)), Cell(str(part[names[0]]["n"])), *(_error(part[system]) for system in names)]
        for name, part in parts.items()
    ]
    return page.table(["Error (MAE)", "Articles", *map(name_of, names)], rows, strong=[0])


def _error(system: Json) -> Cell:
    interval = system["intervals"]["mae"]
    return Cell(f"{system['mae']:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "")


def _decisions(total: Json, tier: str) -> str:
    head = ["Decision", "Oracle's finds", "System's finds", "Found (recall)", "Right (precision)"]
    rows = [list(_decision(name, total[name], tier)) for name in systems(total)]
    return page.table(head, rows, strong=[len(rows) - 1])


def _decision(name: str, system: Json, tier: str) -> Iterator[Cell]:
    found = system["tiers"].get(tier)
    yield Cell(name_of(name))
    if found is None:  # the operating tier is the lowest: everything is a find
        yield from [Cell("all")] * 4
        return
    yield Cell(str(found["positives"]))
    yield Cell(str(found["predicted"]))
    yield Cell(_share(found["recall"]), _between(recall_interval(system, tier)))
    yield Cell(_share(found["precision"]), _between(share_interval(hits(found), found["predicted"])))


def _between(interval: tuple[float, float] | None) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def _drawing(total: Json) -> Drawing:
    names = systems(total)
    most = max((total[name]["intervals"]["mae"] or [0, total[name]["mae"]])[1] for name in names)
    alt = "Error of each system with its interval: " + ", ".join(f"{name_of(n)} {total[n]['mae']:.2f}" for n in names)
    drawing = Drawing(WIDTH, len(names) * ROW + 56, alt)
    axis = from_zero(most, "mean error in score points (MAE)")
    panel = Panel(drawing, NAME_WIDTH, 8, WIDTH - NAME_WIDTH - LEFT, len(names) * ROW, axis, from_zero(1, ""))
    for mark in axis.marks:
        x, bottom = panel.place(mark, 0)
        drawing.line((x, 8), (x, bottom), "axis" if mark == 0 else "grid")
        drawing.text(x, bottom + 15, axis.label(mark), "middle", "small")
    drawing.text(panel.left + panel.width / 2, 8 + len(names) * ROW + 32, axis.name, "middle", "small")
    for place, name in enumerate(names):
        _row(panel, place, name, total[name])
    return drawing


def _row(panel: Panel, place: int, name: str, system: Json) -> None:
    y = panel.top + (place + 0.5) * ROW
    style = {"probe": "probe", "student": "student", "cascade": "student"}.get(name, "plain")
    interval, middle = system["intervals"]["mae"], panel.place(system["mae"], 0)[0]
    panel.drawing.text(panel.left - 10, y + 4, name_of(name), "end", "title" if name == "cascade" else "")
    if interval:
        low, high = (panel.place(value, 0)[0] for value in interval)
        panel.drawing.line((low, y), (high, y), "whisker")
    panel.drawing.circle(middle, y, 5, f"{style} hollow" if style == "probe" else style)


def systems(part: Json) -> list[str]:
    """The systems of a part, those deployed last."""
    known = [name for name in NAMES if name in part]
    return [*(name for name in part if name not in NAMES), *known]


def name_of(system: str) -> str:
    """A system's name as an editor reads it."""
    return NAMES.get(system, in_words(system))


def part_name(part: str) -> str:
    """What articles a part of the evaluation holds, as an editor reads it."""
    return PARTS.get(part, in_words(part))


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share)
