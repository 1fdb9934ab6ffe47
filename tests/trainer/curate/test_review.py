"""The human check: a sheet that hides the scores, and estimates whose intervals hold what they promise."""

import csv
import html
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import BANDS
from distillery_trainer.curate.review import export_sheet, import_sheet, read_sheet
from distillery_trainer.curate.sheet import is_filled_in, read_scores
from distillery_trainer.evaluate.inference import classical_mean, powered_mean
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

HOSTILE = "<script>alert('&')</script>"


def test_the_powered_interval_covers_the_truth_and_is_narrower_than_peoples_alone() -> None:
    generator, covered, widths = np.random.default_rng(3), 0, []
    for _ in range(300):
        truth = generator.normal(2, 1, 1000)
        machine = truth + 0.5 + generator.normal(0, 0.4, 1000)  # biased, but close
        found = powered_mean(truth[:80], machine[:80], machine[80:])
        covered += found.low <= 2 <= found.high
        widths.append((found.high - found.low) / (found.alone_high - found.alone_low))

    assert 0.91 <= covered / 300 <= 0.985
    assert np.mean(widths) < 0.65


def test_people_alone_give_the_plain_mean() -> None:
    found = classical_mean(np.array([1.0, 3.0]))

    assert found.value == 2
    assert found.high - found.value == pytest.approx(1.96, abs=0.001)


@pytest.fixture(scope="module")
def rows(topic_rows: Callable[[int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Labelled articles, one with a title that a spreadsheet would run."""
    made = topic_rows(120)
    made[3]["title"] = "=1+1"
    return made


@pytest.fixture(scope="module")
def run(rows: list[dict[str, Any]], quick: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of a filter whose texts are hostile to a page."""
    folder = tmp_path_factory.mktemp("review")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        topic = init_filter("topic")
    config = yaml.safe_load((topic / "config.yaml").read_text())
    config["dimensions"][0] |= {"question": f"Q {HOSTILE}", "anchors": {band: f"{band} {HOSTILE}" for band in BANDS}}
    config["flags"] = [{"name": "advert", "question": f"F {HOSTILE}", "caps": {"relevance": 2.5}}]
    config["summary"] = f"S {HOSTILE}"
    (topic / "config.yaml").write_text(yaml.safe_dump(config))
    prompt = (topic / "prompt.md").read_text().replace("{{dimensions}}", "{{flags}} {{dimensions}}")
    (topic / "prompt.md").write_text(prompt)
    labels = folder / "labels.jsonl"
    labels.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return open_run(fit(FitRequest(topic, [labels], quick, run_dir=folder / "run"), str))


def test_a_sheet_goes_out_without_scores_and_comes_back_as_agreement(
    run: Run, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    count = export_sheet(run, 12, 0, tmp_path / "review")
    sheet = tmp_path / "review" / "sheet.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        asked = list(csv.DictReader(stream))
    overall = {row["id"]: 0.6 * row["labels"]["relevance"] + 0.4 * row["labels"]["evidence_quality"] for row in rows}
    filled = [f"{row['id']},{overall[row['id']] if number else 3.9}" for number, row in enumerate(asked)]
    sheet.write_text("\n".join(["id,score", *filled]), encoding="utf-8")
    found = import_sheet(run, sheet)

    assert count == len(asked) == 12
    assert list(asked[0]) == ["id", "score", "comment", "title"]
    assert all(row["score"] == "" and not row["title"].startswith("=") for row in asked)
    assert found["oracle_agreement"]["value"] == pytest.approx(11 / 12, abs=1e-4)  # but one
    assert found["student_agreement"]["n_people"] == 12
    assert found["student_agreement"]["n_machine"] == len(run.predictions.ids) - 12


def test_the_page_shows_what_the_filter_means_and_no_score(run: Run, tmp_path: Path) -> None:
    export_sheet(run, 3, 0, tmp_path / "review")

    page = (tmp_path / "review" / "sheet.html").read_text(encoding="utf-8")
    assert "<script" not in page
    shown = html.unescape(page)
    spec = run.spec
    for dimension in spec.dimensions:
        assert dimension.question in shown
        assert all(f"<td>{band}</td><td>{dimension.anchors[band]}</td>" in shown for band in BANDS)
    assert all(f"<td>{name}</td><td>{band}</td>" in shown for name, band in
               (("high", "7 to 10"), ("medium", "4 to 7"), ("low", "0 to 4")))  # fmt: skip
    assert "From medium on, an article is to be found." in shown
    assert "Where evidence quality is below 3, the overall is at most 3." in shown
    assert f"Advert: F {HOSTILE} Then at most 2.5 for relevance." in shown
    assert page.count("<details open>") == len(spec.dimensions)


def test_wrong_ids_and_scores_are_listed_and_too_few_refused(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("id,score\na,11\nz,5\nb,\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"row 2: score: '11'[^\0]*row 3: id: 'z'"):
        read_sheet(sheet, ["a", "b"])

    sheet.write_text('id,score\na,\nb,"7,5"\n', encoding="utf-8")
    with pytest.raises(InputError, match="1 filled in"):
        read_sheet(sheet, ["a", "b"])


IDS = ["a-1", "007", "=b", "na\u00efef", "12"]
SCORES = ["7.5", "", "10", "0", "6.25"]
EXPECTED = {"a-1": 7.5, "=b": 10, "na\u00efef": 0, "12": 6.25}


def saved(separator: str, encoding: str, line_end: str, decimal: str, litter: bool) -> bytes:
    """The sheet as a spreadsheet saves it: cells quoted where they must be, a comment over two lines."""
    rows = [["ID ", "Score", "comment", "title"] if litter else ["id", "score", "comment", "title"]]
    for place, (article, score) in enumerate(zip(IDS, SCORES, strict=True)):
        comment = f'"Zonne-energie",{line_end}ja; nee|\tmisschien' if place == 2 else ""
        rows.append(
            [f"'{article}" if article[0] == "=" else article, score.replace(".", decimal), comment, "T\u00eatel"]
        )
    if litter:
        rows = [[], *rows[:3], ["", "", "", ""], *rows[3:], ["", ""], []]
        rows = [[*row, "", ""] for row in rows]

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(c in text for c in f'{separator}"\r\n') else text

    return "".join(separator.join(map(cell, row)) + line_end for row in rows).encode(encoding)


@pytest.mark.parametrize(
    ("separator", "encoding"),
    list(itertools.product(",;\t|", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])),
)
def test_a_sheet_means_the_same_however_a_spreadsheet_saves_it(tmp_path: Path, separator: str, encoding: str) -> None:
    sheet = tmp_path / "sheet.csv"
    for line_end, decimal, litter in itertools.product(["\n", "\r\n", "\r"], ".,", [False, True]):
        sheet.write_bytes(saved(separator, encoding, line_end, decimal, litter))

        assert read_scores(sheet, IDS) == EXPECTED


def test_a_line_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sep=;\r\nid;score\r\n007;7,5\r\n")

    assert read_scores(sheet, IDS) == {"007": 7.5}


MANGLED = {
    "an id twice": ("id;score\n007;7\n12;5\n007;8\n", r"row 4: id: '007', expected an id once \(row 2"),
    "an id twice, without a score": ("id;score\n007;7\n007;\n", "row 3: id: '007'"),
    "zeros lost": ("id;score\n7;7\n", "row 2: id: '7'"),
    "an id as a power of ten": ("id;score\n1E+15;7\n", r"row 2: id: '1E\+15'"),
    "a score as a date": ("id;score\n007;5-jun\n", "row 2: score: '5-jun'"),
    "a score as a date, American": ("id,score\n007,6/5/2026\n", "row 2: score: '6/5/2026'"),
    "a score as a day's number": ("id;score\n007;45787\n", "row 2: score: '45787'"),
    "perhaps thousands": ("id;score\n007;7.500\n", "row 2: score: '7.500'"),
    "thousands": ("id;score\n007;1.007,50\n", "row 2: score: '1.007,50'"),
    "a spreadsheet's error": ("id;score\n007;#REF!\n", "row 2: score: '#REF!'"),
    "no number": ("id;score\n007;nan\n", "row 2: score: 'nan'"),
    "two numbers": ("id;score\n007;1_0\n", "row 2: score: '1_0'"),
    "below 0": ("id;score\n007;-1\n", "row 2: score: '-1'"),
    "above 10": ("id;score\n007;10,5\n", "row 2: score: '10,5'"),
    "a comma for two purposes": ("id,score,comment,title\n007,7,5,,Sun\n", "row 2"),
    "the same with empty cells": ("id,score,comment,title\n007,7,5,,\n", "row 2: score: '7,5'"),
    "the same without a title": ("id,score,comment,title\n007,7,5,\n", "row 2: score: '7,5'"),
    "a cell beside the table": ("id;score;\n007;7;8\n", "row 2: column 3: '8'"),
    "another separator in one row": ("id;score\n007,7\n", "row 2: id: '007,7'"),
    "a quote without an end": ('id;score;comment\n007;7;"so\n12;8;\n', "row 2, line 2"),
    "a score without an id": ("id;score\n;7\n", "row 2: id: ''"),
    "no header": ("007;7\n12;8\n", "'007;7' in the first row"),
    "two columns of scores": ("id;score;Score\n007;7;8\n", "id and score, each once"),
    "nothing": ("", "empty"),
    "a workbook": ("PK\x03\x04", "workbook"),
}


@pytest.mark.parametrize("kind", MANGLED)
def test_what_a_spreadsheet_mangled_is_refused_with_its_row_and_value(tmp_path: Path, kind: str) -> None:
    content, message = MANGLED[kind]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(content)

    with pytest.raises(InputError, match=message):
        read_scores(sheet, IDS)


def test_a_row_is_named_by_its_line_too_where_cells_hold_line_breaks(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text('id;score;comment\n007;7;"one\ntwo\nthree"\n12;x;\n')

    with pytest.raises(InputError, match=r"row 3 \(line 5\): score: 'x'"):
        read_scores(sheet, IDS)


@pytest.mark.parametrize(
    ("content", "is_filled"),
    [
        (b"id,score,comment,title\na,,,T\n", False),
        (b"id,score,comment,title\na,7,,T\n", True),
        ("\ufeffid;score;comment;title\na;7,5;;Zo\u00eb\n".encode("cp1252", "replace"), True),
        (b"id;score;comment;title\na; ;;T\n", False),
        (b"\x00\x01 another program's", True),
        (b"", False),
    ],
)
def test_a_sheet_with_scores_is_not_written_over(content: bytes, is_filled: bool, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_bytes(content)

    assert is_filled_in(tmp_path / "sheet.csv") == is_filled
    assert not is_filled_in(tmp_path / "nowhere.csv")
