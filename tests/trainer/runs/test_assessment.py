"""`trainer evaluate`, `compare` and `gate` on finished runs."""

import html
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main
from distillery_trainer.cli.summary import summary
from distillery_trainer.evaluate import metrics
from distillery_trainer.evaluate.evaluation import Systems
from distillery_trainer.evaluate.metrics import Decisions
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run

QUICK = {
    "student.backend": "static",
    "student.static.training.epochs": 2,
    "cascade.probe.embedder": "static",
    "cascade.probe.training.epochs": 2,
    "cascade.probe.hidden": [4],
    "targets": {"mae": 9.0, "recall_operating": None, "better_than_tfidf_ridge_by": None},
}
WORDS = [f"word{i}" for i in range(400)]


def rows(count: int, seed: int, prefix: str = "a") -> list[dict[str, object]]:
    """Articles of random words, every other about `solar` and labelled high for it."""
    rng = np.random.default_rng(seed)
    made: list[dict[str, object]] = []
    for place in range(count):
        text = [str(word) for word in rng.choice(WORDS, size=40)] + ["solar"] * (5 if place % 2 else 0)
        labels = {"relevance": 8.0 if place % 2 else 2.0, "evidence_quality": 8.0}
        made.append({"id": f"{prefix}{place:03}", "title": "", "text": " ".join(text), "labels": labels})
    return made


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a filter and three runs of it on the same 80 articles: two of one seed, one of another."""
    folder = tmp_path_factory.mktemp("judge")
    labels = write(folder / "labels.jsonl", rows(80, 11))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        patch.setattr(metrics, "RESAMPLES", 100)
        topic = init_filter("topic")
        for name, seed, window in (("first", 0, 512), ("second", 0, 8), ("other-seed", 1, 512)):
            overrides = QUICK | {"student.window.max_tokens": window, "student.window.tail_share": 0.0}
            fit(FitRequest(topic, [labels], overrides, seed=seed, run_dir=folder / name), lambda _: None)
        yield folder


def test_a_run_evaluated_anew_is_as_good_as_its_fit_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(made / "first"), "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == json.loads((made / "first" / "eval.json").read_text())


def test_evaluate_prints_the_summary(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(made / "first")]) == 0

    out = capsys.readouterr().out
    assert "test MAE" in out
    assert "student minus tfidf_ridge" in out


def test_the_summary_ends_with_the_reports_answer_and_its_reasons(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", str(made / "second"), "--out", str(tmp_path / "report.html")])
    capsys.readouterr()
    main(["evaluate", str(made / "second")])

    sentence, *reasons = capsys.readouterr().out.partition("Should it be deployed? ")[2].splitlines()
    page = (
        html.unescape((tmp_path / "report.html").read_text()).replace("\u00a0", " ").replace("“", '"').replace("”", '"')
    )
    assert f"<h2>Should it be deployed? {sentence}</h2>" in page
    assert sentence.startswith("No: ")
    assert reasons
    assert all(f"<li>{reason.removeprefix('  - ')}</li>" in page for reason in reasons)


def test_the_summary_says_what_each_system_finds_and_how_much_of_what_it_announces_is_right(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(made / "second")])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    total = json.loads((made / "second" / "eval.json").read_text())["parts"]["total"]
    for system in ("constant", "tfidf_ridge", "static", "probe", "student", "cascade"):
        found = total[system]["finds"]
        hits = str(round(found["positives"] * (found["recall"] or 0)))
        row = next(line for line in lines if line[:1] == [system])
        assert row[1:4] == [hits, "of", str(found["positives"])]
        right = row.index("of", 4)
        assert [row[right - 1], row[right + 1]] == [hits, str(found["predicted"])]


def test_slices_that_are_left_out_are_named(made: Path, spec: FilterSpec) -> None:
    run = open_run(made / "first")
    slices = [{"name": "dutch", "field": "language", "includes": "NL"}]

    found = summary(run.evaluation, run.certificate, apply_overrides(spec, {"evaluation": {"slices": slices}}))

    assert "left out, with fewer than 10 test articles: dutch" in found
    assert "left out" not in summary(run.evaluation, run.certificate, spec)


def test_without_a_positive_the_summary_says_that_it_cannot_be_told(made: Path, spec: FilterSpec) -> None:
    run = open_run(made / "first")
    nothing = Decisions(positives=0, predicted=0, precision=None, recall=None, f1=None)
    systems = {
        name: replace(system, finds=nothing, intervals={**system.intervals, "recall": None})
        for name, system in run.evaluation.total.by_name().items()
    }

    found = summary(replace(run.evaluation, parts={"total": Systems(**systems)}), run.certificate, spec)

    assert "no test article is a positive by its labels" in found
    assert "Should it be deployed? Yes" not in found


def test_other_labelled_articles_can_be_scored(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(tmp_path / "other.jsonl", rows(30, 12, "new"))

    assert main(["evaluate", str(made / "first"), "--labels", str(other), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["split_sizes"] == {"train": 48, "val": 12, "test": 30, "folds": 0}
    assert found["parts"]["total"]["student"]["mae"] < 0.7 * found["parts"]["total"]["constant"]["mae"]


def test_articles_that_the_run_was_made_with_are_refused_by_id_and_by_text(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = [json.loads(line) for line in (made / "first" / "splits.jsonl").open()]
    own = {row["id"]: row for row in rows(80, 11)}
    trained, certified = (next(s["id"] for s in splits if s["split"] == name) for name in ("train", "calibration"))
    known = [own[trained] | {"id": "renamed"}, rows(1, 99)[0] | {"id": certified}]
    other = write(tmp_path / "other.jsonl", [*rows(20, 12, "new"), *known])

    code = main(["evaluate", str(made / "first"), "--labels", str(other)])

    assert code == 2
    assert f"articles: 2 that the run was made with, or near-duplicates of such (renamed, {certified})" in (
        capsys.readouterr().err
    )


def test_the_runs_own_test_articles_may_be_among_the_others(made: Path, tmp_path: Path) -> None:
    splits = [json.loads(line) for line in (made / "first" / "splits.jsonl").open()]
    tested = {row["id"] for row in splits if row["split"] == "test"}
    other = write(tmp_path / "other.jsonl", [row for row in rows(80, 11) if row["id"] in tested])

    assert main(["evaluate", str(made / "first"), "--labels", str(other)]) == 0


def test_too_few_other_articles_are_refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(tmp_path / "other.jsonl", rows(9, 12, "new"))

    assert main(["evaluate", str(made / "first"), "--labels", str(other)]) == 2
    assert "9 articles, expected at least 10" in capsys.readouterr().err


def test_a_student_that_reads_eight_tokens_is_worse(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(made / "second"), str(made / "first")]) == 0

    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("worse")
    assert any("window:truncated" in line and line.endswith("worse") for line in out.splitlines())


def test_the_comparison_is_given_as_json(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(made / "first"), str(made / "second"), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["system"], found["parts"]["total"]["n"]) == ("better", "student", 12)


def test_runs_of_other_splits_are_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(made / "first"), str(made / "other-seed")]) == 2
    assert "the same articles, with the same seed or" in capsys.readouterr().err


def test_the_gate_opens_where_all_targets_are_met(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["gate", str(made / "first"), "--incumbent", str(made / "second")])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0].startswith("met      mae: ")
    assert lines[1] == "met      not worse than the incumbent: better"


def test_the_gate_stays_closed_to_a_run_that_is_worse_than_the_incumbent(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["gate", str(made / "second"), "--incumbent", str(made / "first")])

    assert code == 1
    assert "\nNOT MET  not worse than the incumbent: worse\n" in capsys.readouterr().out


def test_the_gate_takes_the_targets_of_the_filter_as_it_is_now(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (made / "filters" / "topic" / "v1" / "config.yaml").read_text(encoding="utf-8").partition("targets:")[0]
    (tmp_path / "config.yaml").write_text(f"{config}targets: {{mae: 0.001}}\n", encoding="utf-8")

    code = main(["gate", str(made / "second"), "--filter", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 1
    assert out.startswith("NOT MET  mae: ")
    assert out.endswith("expected at most 0.001\n")


def test_a_gate_without_targets_or_incumbent_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (made / "filters" / "topic" / "v1" / "config.yaml").read_text(encoding="utf-8").partition("targets:")[0]
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")

    code = main(["gate", str(made / "first"), "--filter", str(tmp_path)])

    assert code == 2
    assert "targets: none stated" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "manifest.json: missing, expected a run's folder" in capsys.readouterr().err
