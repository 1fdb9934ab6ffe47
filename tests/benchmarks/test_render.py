"""docs/benchmarks.md says what the results say: the page and its charts are those that the results give."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import render_finds, render_runs
from benchmarks.render import PAGE, PICTURES, render, write_page
from benchmarks.render_charts import Bar, Group, Series, bar_chart, line_chart
from benchmarks.render_results import KINDS, Result, Results, read_results
from benchmarks.render_svg import Drawing, ticks
from benchmarks.render_targets import targets_table
from benchmarks.render_text import figure
from benchmarks.render_training import sections
from distillery_runtime import InputError

SVG = "{http://www.w3.org/2000/svg}"
NOTHING: Results = {kind: [] for kind in KINDS}


def peers(model: str, *rows: Mapping[str, Any]) -> Results:  # Any: JSON
    """Results of one comparison."""
    return {**NOTHING, "peers": [Result(f"peers-{model}", {"rows": rows})]}


def peer(name: str, tokens: int, ratio: float) -> Mapping[str, Any]:  # Any: JSON
    """A program that is so many times as fast as PyTorch."""
    return {"peer": name, "tokens": tokens, "ms": {"p50": 100 / ratio}, "ratio": {"p50": ratio}, "share_of_gemm": None}


def line_of(page: str, words: str) -> str:
    """The table row with these words."""
    return next(line for line in page.splitlines() if words in line)


def test_the_page_and_its_charts_are_what_the_results_give(repository: Path) -> None:
    docs = repository / "docs"

    files = render(read_results(repository / "benchmarks" / "results"))

    # If this fails: python benchmarks/run.py --render-only
    assert {name: (docs / name).read_text(encoding="utf-8") for name in files if (docs / name).exists()} == files
    pages = {PAGE, render_runs.PAGE, render_finds.PAGE}
    assert {f"{PICTURES}/{path.name}" for path in (docs / PICTURES).glob("*")} == files.keys() - pages


def test_without_results_every_section_says_what_would_measure_it() -> None:
    page = render(NOTHING)[PAGE]

    assert page.count("\nNot measured. `") == page.count("\n## ") - 2  # the targets, and how to measure


@pytest.mark.parametrize(("record", "label"), [({}, "small (old split)"), ({"split_version": 2}, "small")])
def test_a_result_of_the_old_split_is_marked(record: Mapping[str, object], label: str) -> None:
    assert Result("quality-small", record).label == label


def test_without_results_no_target_is_met() -> None:
    rows = targets_table(NOTHING).splitlines()[2:]

    assert [row.split("|")[2].strip() for row in rows] == ["not measured"] * len(rows)


def test_a_target_is_met_where_all_its_cases_are() -> None:
    fast = [peer("ours-cpu-int8", tokens, 2.0) for tokens in (128, 512)]
    results = {
        **NOTHING,
        "peers": [Result(f"peers-{model}", {"rows": fast}) for model in ("gemma-3-270m", "gemma-3-1b-shape")],
    }

    assert "| met | gemma-3-270m at 128 2.00x;" in line_of(targets_table(results), "PyTorch (sdpa, fp32): 270M")


def test_a_target_is_not_met_where_one_case_is_not() -> None:
    results = peers("gemma-3-270m", peer("ours-cpu-int8", 128, 1.99), peer("ours-cpu-int8", 512, 5.0))

    assert "| **not met** |" in line_of(targets_table(results), "PyTorch (sdpa, fp32): 270M")


def test_the_best_of_two_programs_is_open_while_one_was_not_measured() -> None:
    results = peers("gemma-3-270m", peer("ours-cpu-int8", 512, 4.0), peer("openvino-fp32", 512, 1.0))

    assert "| not measured | 4.00x openvino-fp32, llama.cpp not measured |" in line_of(
        targets_table(results), "OpenVINO and llama.cpp"
    )


def test_the_best_of_two_programs_is_the_faster_of_their_fastest_forms() -> None:
    others = [peer("openvino-fp32", 512, 1.0), peer("openvino-bf16", 512, 2.5), peer("llama.cpp-q8_0", 512, 2.0)]

    found = targets_table(peers("gemma-3-270m", peer("ours-cpu-int8", 512, 4.0), *others))

    assert "| **not met** | 1.60x openvino-bf16, 2.00x llama.cpp-q8_0 |" in line_of(found, "OpenVINO and llama.cpp")


@pytest.mark.parametrize("record", [{"benchmark": "another"}, {"benchmark": "peers", "schema_version": 2}, {}])
def test_a_file_that_is_no_result_is_refused_by_name(record: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(InputError, match=r"odd\.json: (benchmark|schema_version): .*, expected"):
        read_results(tmp_path)


def test_charts_that_no_result_gives_any_more_are_taken_away(tmp_path: Path) -> None:
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    (docs / PICTURES).mkdir(parents=True)
    (docs / PICTURES / "old.svg").write_text("<svg/>", encoding="utf-8")

    write_page(results, docs)

    assert [path.name for path in docs.rglob("*") if path.is_file()] == [PAGE]


def test_a_drawing_is_xml_whatever_its_words_are() -> None:
    drawing = Drawing(100, 50, 'a < b & "c"')
    drawing.text(1, 2, "<script>&'\"", style='x" y="')
    drawing.bar(0, 0, -3, 5, "#000000")

    root = ElementTree.fromstring(drawing.document())

    assert root.find(f"{SVG}title").text == 'a < b & "c"'  # type: ignore[union-attr]
    assert root.find(f"{SVG}text").text == "<script>&'\""  # type: ignore[union-attr]
    assert root.find(f"{SVG}rect").get("width") == "0"  # type: ignore[union-attr]


def test_bars_stand_in_order_and_in_proportion_within_the_picture() -> None:
    bars = [Bar("slow", 40.0, 39.0, 60.0, False), Bar("fast", 10.0, 9.0, 11.0, True)]

    root = ElementTree.fromstring(bar_chart("title", "ms", [Group("128 tokens", bars)]))

    fast, slow = root.findall(f"{SVG}rect")
    assert float(slow.get("width", 0)) == pytest.approx(4 * float(fast.get("width", 0)), abs=0.5)
    assert float(fast.get("y", 0)) < float(slow.get("y", 0)) < float(root.get("height", 0))
    assert max(float(line.get("x2", 0)) for line in root.findall(f"{SVG}line")) < float(root.get("width", 0))


def test_a_line_of_one_point_can_be_drawn() -> None:
    root = ElementTree.fromstring(line_chart("title", "pass", "MiB", [Series("one", [(1.0, 0.0)])]))

    assert len(root.findall(f"{SVG}circle")) == 1


@given(st.floats(1e-3, 1e9))
def test_ticks_begin_at_nought_and_reach_the_most_in_few_steps(most: float) -> None:
    found = ticks(most)

    assert found[0] == 0
    assert found[-1] >= most * (1 - 1e-9)
    assert 2 <= len(found) <= 7


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (2.8e-05, "2.8e-05"),
        (0.01234, "0.0123"),
        (1.5, "1.50"),
        (99.9, "99.9"),
        (1234.5, "1,234"),
    ],
)
def test_a_figure_has_three_digits(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_the_losses_stand_with_their_differences_from_the_default() -> None:
    better = {"difference": -0.012, "interval": [-0.03, 0.001], "outcome": "inconclusive"}
    figures = {"learning_rate": 1e-4, "test_mae": [0.7, 0.8], "spearman": [0.6, 0.7], "recall": [0.5, 0.4]}
    record = {
        "note": "three layers", "seeds": [0, 1], "rates_tried": [1e-4, 2e-4], "reference": "huber",
        "losses": {"mse": {**figures, "against_reference": [better, better]},
                   "huber": {**figures, "against_reference": [None, None]}},
    }  # fmt: skip

    page = "\n".join(sections({**NOTHING, "losses": [Result("losses-small", {**record, "split_version": 2})]}))

    assert "*small*: three layers; 2 seeds" in page
    assert "| mse | 0.0001 | 0.750 (0.071) | 0.650 (0.071) | 45 % | -0.012 (-0.030 to +0.001), inconclusive |" in page
    assert line_of(page, "| huber |").count("–") == 2


def test_what_a_run_cost_is_told_beside_the_baselines() -> None:
    speed = {"articles": 200, "threads": 1, "answered_by_probe": 150,
             "articles_per_second": {"probe": 900.5, "student": 12.25, "cascade": 45.0}}  # fmt: skip
    record = {"machine": "a machine", "note": "nothing beside it", "training_s": {"fit": 1234.4, "probe": 20.0},
              "speed": speed, "baselines_s": {"tfidf_ridge": 6.2}}  # fmt: skip

    page = "\n".join(sections({**NOTHING, "cost": [Result("cost-small", {**record, "split_version": 2})]}))

    assert [line_of(page, f"| {system} |") for system in ("tfidf ridge", "student", "cascade")] == [
        "|  | tfidf ridge | 6 | – |  |",
        "| small | student | 1234 | 12.2 |  |",
        "| small | cascade | – | 45.0 | the probe answered 150 of 200 |",
    ]


def test_a_killed_training_stands_with_what_it_lost_and_where_it_ended() -> None:
    record = {"kills": 10, "trained_s": 500.2, "lost_share": 0.0312, "test_mae": {"whole": 0.7, "killed": 0.7}}

    page = "\n".join(sections({**NOTHING, "kills": [Result("kills-small", {**record, "split_version": 2})]}))

    assert "| small | 10 | 500 | 3.1 % | 0.700000 | 0.700000 |" in page


def test_filters_on_one_backbone_stand_beside_those_with_their_own() -> None:
    found = {"a": 0.71, "b": 0.75, "difference": -0.04, "interval": [-0.06, -0.02], "outcome": "better"}
    one = {"filter": "small-1", "train": 200, "test": 60, "mae": found, "recall": found, "outcome": "better"}
    panel = {"articles": 1000, "threads": 1, "together_s": [5.0], "apart_s": [9.0], "ratio": 1.8}
    record = {"note": "two filters", "filters": [one], "panel": panel}

    page = "\n".join(sections({**NOTHING, "joint": [Result("joint-two", record)]}))

    assert "| small-1 | 200 | 60 | 0.710 | 0.750 | -0.040 (-0.060 to -0.020), better |" in page
    assert "1.80x as fast" in page
