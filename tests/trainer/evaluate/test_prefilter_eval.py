"""What prefilter rules block and miss, counted by rule and language."""

import json
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main
from distillery_trainer.evaluate.prefilter_eval import evaluate_prefilter, read_counted
from distillery_trainer.filters.overrides import apply_overrides

RULES = [
    {"name": "deals", "mode": "block", "words": ["bargain"]},
    {"name": "travel", "words": ["hotel"], "unless": ["museum"]},
]


def write(folder: Path, rows: list[tuple[str, str, float | None]], spec: FilterSpec) -> Path:
    lines = []
    for number, (text, language, score) in enumerate(rows):
        line: dict[str, object] = {"id": str(number), "title": "t", "text": text, "language": language}
        if score is not None:
            line["labels"] = dict.fromkeys(spec.dimension_names, score)
        lines.append(json.dumps(line))
    file = folder / "articles.jsonl"
    file.write_text("\n".join([*lines, "not json"]) + "\n")
    return file


@pytest.fixture
def ruled(spec: FilterSpec) -> FilterSpec:
    return apply_overrides(spec, {"prefilter": RULES})


ROWS = [("a bargain", "en", 9.0), ("a hotel", "nl", 9.0), ("a hotel and a museum", "nl", 9.0), ("a bargain", "en", 0.0),
        ("plain", "en", 9.0), ("a hotel", "de", None)]  # fmt: skip


def test_only_blocking_rules_count_in_the_total_and_shadow_rules_in_the_curve(
    tmp_path: Path, ruled: FilterSpec
) -> None:
    articles, unusable = read_counted([write(tmp_path, ROWS, ruled)], [], ruled)

    report = evaluate_prefilter(ruled, articles)

    assert unusable == 1
    assert report["total"] == {
        "n": 6, "blocked": 2, "block_rate": 2 / 6, "finds": 4, "missed": 1, "pass_rate": 0.75,
    }  # fmt: skip
    assert [(p["with"], p["blocked"], p["missed"]) for p in report["curve"]] == [("deals", 2, 1), ("travel", 4, 2)]
    assert [rule["missed_by_language"] for rule in report["rules"]] == [{"en": 1}, {"nl": 1}]
    assert {name: part["pass_rate"] for name, part in report["languages"].items()} == {"de": None, "en": 0.5, "nl": 1}


def test_every_article_of_the_finds_is_one(tmp_path: Path, ruled: FilterSpec) -> None:
    articles, _ = read_counted([], [write(tmp_path, ROWS, ruled)], ruled)

    assert [article.find for article in articles] == [True] * 6


def test_times_are_the_percentiles_of_each_rules_own(tmp_path: Path, ruled: FilterSpec) -> None:
    articles, _ = read_counted([write(tmp_path, ROWS, ruled)], [], ruled)
    ticks = iter(range(1000))

    report = evaluate_prefilter(ruled, articles, lambda: next(ticks) / 1000)

    assert [round(rule["p99_ms"]) for rule in report["rules"]] == [1, 1]


def test_labels_that_do_not_fit_are_refused(tmp_path: Path, ruled: FilterSpec) -> None:
    with pytest.raises(InputError, match="11, expected a number in"):
        read_counted([write(tmp_path, [("a", "en", 11)], ruled)], [], ruled)


def test_the_command_prints_the_same_figures_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "pool.jsonl"
    file.write_text(json.dumps({"id": "1", "title": "Black Friday", "text": "a bargain"}) + "\n")

    code = main(["prefilter-eval", "--filter", "sustainability_technology", "--articles", str(file), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["total"]["blocked"] == 1
