"""The human check: a sheet that hides the scores, and estimates whose intervals hold what they promise."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.curate.inference import classical_mean, powered_mean
from distillery_trainer.curate.review import export_sheet, import_sheet, read_sheet
from distillery_trainer.finished_run import open_finished_run
from distillery_trainer.fit import FitRequest, fit


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


def test_a_sheet_goes_out_without_scores_and_comes_back_as_agreement(
    tmp_path: Path, new_filter: Path, write_rows: Callable[..., Path], topic_rows: Callable[[int], list[dict[str, Any]]]
) -> None:
    rows = topic_rows(120)
    rows[3]["title"] = "=1+1"
    quick = {"student.backend": "static", "cascade.probe.embedder": "static"}
    run = open_finished_run(
        fit(FitRequest(new_filter, [write_rows("l.jsonl", rows)], quick, run_dir=tmp_path / "run"), str)
    )

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
    assert found["student_agreement"]["n_machine"] == len(run.predictions().ids) - 12


def test_wrong_ids_and_scores_are_listed_and_too_few_refused(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("id,score\na,11\nz,5\nb,\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"row 2: score: '11'[^\0]*row 3: id: 'z'"):
        read_sheet(sheet, ["a", "b"])

    sheet.write_text('id,score\na,\nb,"7,5"\n', encoding="utf-8")
    with pytest.raises(InputError, match="1 filled in"):
        read_sheet(sheet, ["a", "b"])
