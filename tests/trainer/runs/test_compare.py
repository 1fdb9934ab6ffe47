"""Comparing two runs: outcomes, what they rest on, and which runs cannot be compared."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distillery_runtime.errors import InputError
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import ChanceModel
from distillery_trainer.certify.read_out import StageReadOut, write_read_out
from distillery_trainer.data.predictions import Answers, Decided, Predictions, write_predictions
from distillery_trainer.data.split import Assignment, Split, write_splits
from distillery_trainer.evaluate.paired import Oracle, finds_differ
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.runs.compare import combined, compare, outcome_of
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run
from distillery_trainer.store.files import digest, tree_digest, write_json

MakeRun = Callable[..., Run]
ARTICLES = 60


def answers(scores: np.ndarray) -> Answers:
    """One read-out for both, and a chance of a quarter for every article."""
    return Answers(scores, scores, np.full(len(scores), 0.25))


def chosen(scores: np.ndarray) -> Decided:
    """Decisions that select what scores 4 and above."""
    return Decided(answers(scores), scores.mean(axis=1) >= 4)


@pytest.fixture
def make_run(tmp_path: Path, spec: FilterSpec) -> MakeRun:
    """Writes as much of a finished run as a comparison reads: 60 test articles, their labels from a fixed seed.

    `error`: how far the student is from the labels, to one side; `split`: of each article; `labels_of`: a seed.
    """
    numbers = itertools.count()

    def make(error: float = 0.0, spread: float = 0.3, seed: int = 0, labels_of: int = 0, probe: float = 1.0,
             split: Callable[[int], Split] = lambda i: "test", spec: FilterSpec = spec,
             threshold: float | None = None, groups: int = ARTICLES) -> Run:  # fmt: skip
        folder = tmp_path / f"run-{next(numbers)}"
        places = [i for i in range(ARTICLES) if split(i) == "test"]
        labels = np.random.default_rng(labels_of).uniform(2, 8, (ARTICLES, 2)).round(1)
        noise = np.random.default_rng(seed).normal(0, spread, labels.shape)
        student = np.clip(labels + error + noise, 0, 10).round(4)
        made = Predictions(
            ids=[f"a{i}" for i in range(ARTICLES)],
            groups=[f"a{i // 2 * 2 % groups}" for i in range(ARTICLES)],
            tokens=[9] * ARTICLES,
            truncated=[i % 3 == 0 for i in range(ARTICLES)],
            characters=[100 + 40 * i for i in range(ARTICLES)],
            labels=labels,
            probe=answers(np.clip(labels + probe, 0, 10)),
            student=answers(student),
            student_raw=student,
            selects_from=np.full(ARTICLES, np.nan),  # by the tier
        )
        write_predictions(folder / "predictions.jsonl", made.select(places), spec.dimension_names)
        write_splits(folder / "splits.jsonl", [Assignment(f"a{i}", split(i), made.groups[i]) for i in range(ARTICLES)])
        no_maps = ReadOut(identity(spec.dimension_names), identity(spec.dimension_names))
        write_read_out(folder / "probe" / "calibration.json", StageReadOut(no_maps, ChanceModel((0.0, 0.0), -1.0)))
        write_json(folder / "certificate.json", {"threshold": threshold})
        return _finish(folder, spec)

    return make


def _finish(folder: Path, spec: FilterSpec) -> Run:
    outputs = {"split": "splits.jsonl", "certify": "certificate.json", "predict": "predictions.jsonl"}
    for name, output in outputs.items():
        record = {"schema_version": 1, "key": name, "output": output, "sha256": tree_digest(folder / output)}
        write_json(folder / "stages" / f"{name}.json", record)
    data = spec.model_dump(mode="json")
    (folder / "config.resolved.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    manifest = {"stages": {name: name for name in outputs}, "spec_sha256": digest(data), "seed": 0, "limit": None}
    write_json(folder / "manifest.json", manifest | {"labels": [{"path": str(folder / "gone.jsonl"), "sha256": ""}]})
    return open_run(folder)


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ([-0.3, -0.01], "better"),
        ([0.01, 0.3], "worse"),
        ([-0.02, 0.02], "no difference"),
        ([-0.015, -0.005], "no difference"),
        ([0.005, 0.015], "no difference"),
        ([-0.021, 0.01], "inconclusive"),
        ([-0.01, 0.03], "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_an_outcome_follows_from_the_interval(interval: list[float] | None, outcome: str) -> None:
    assert outcome_of(interval) == outcome


@pytest.mark.parametrize(
    ("mae", "recall", "expected"),
    [
        ("better", "worse", "worse"),
        ("worse", "better", "worse"),
        ("inconclusive", "better", "better"),
        ("better", "inconclusive", "better"),
        ("no difference", "inconclusive", "no difference"),
        ("inconclusive", "inconclusive", "inconclusive"),
    ],
)
def test_one_worse_measure_makes_a_part_worse(mae: Any, recall: Any, expected: str) -> None:  # Any: of a Literal
    assert combined(mae, recall) == expected


def test_runs_with_the_same_scores_do_not_differ_in_any_measure(make_run: MakeRun) -> None:
    report = compare(make_run(), make_run())

    assert (report["outcome"], report["reason"]) == ("no difference", "the same scores for every article")
    for part in report["parts"].values():
        assert [part[name]["outcome"] for name in ("mae", "recall")] == ["no difference"] * 2


def test_a_run_against_itself_is_said_to_be(make_run: MakeRun) -> None:
    run = make_run()

    assert compare(run, open_run(run.folder / ".." / run.folder.name))["reason"] == "the same run"


def test_runs_that_find_the_same_few_articles_are_not_proved_equal(make_run: MakeRun) -> None:
    keen, keener = make_run(0.6, spread=0.0), make_run(0.7, spread=0.0)  # both find all there is

    total = compare(keen, keener)["parts"]["total"]

    low, high = total["recall"]["interval"]
    assert (total["recall"]["difference"], total["recall"]["outcome"]) == (0.0, "inconclusive")
    assert "both find the same" in total["recall"]["reason"]
    assert 0.05 < high == -low < 0.3


def test_where_nothing_is_to_be_found_recall_is_not_told(make_run: MakeRun, spec: FilterSpec) -> None:
    strict = apply_overrides(spec, {"tiers": [{"name": "high", "min_overall": 9.9}, *spec_tiers(spec)[1:]],
                                    "operating_tier": "high"})  # fmt: skip

    total = compare(make_run(spec=strict), make_run(0.1, spec=strict))["parts"]["total"]

    assert (total["recall"]["difference"], total["recall"]["outcome"]) == (None, "inconclusive")
    assert total["recall"]["reason"] == "no article is to be found"


@pytest.mark.parametrize(("groups", "outcome"), [(1, "inconclusive"), (10, "inconclusive"), (12, "better")])
def test_copies_of_a_few_articles_prove_no_difference_of_errors(make_run: MakeRun, groups: int, outcome: str) -> None:
    pair = make_run(0.5, spread=0.0, groups=groups), make_run(0.9, spread=0.0, groups=groups)

    assert compare(*pair)["parts"]["total"]["mae"]["outcome"] == outcome


def spec_tiers(spec: FilterSpec) -> list[dict[str, Any]]:
    return [tier.model_dump(mode="json") for tier in spec.tiers]


def test_a_smaller_error_is_better_and_the_other_way_round_worse(make_run: MakeRun) -> None:
    good, bad = make_run(0.0), make_run(1.5, seed=1)

    there, back = compare(good, bad), compare(bad, good)

    assert [(r["outcome"], r["parts"]["total"]["mae"]["outcome"]) for r in (there, back)] == [
        ("better", "better"), ("worse", "worse")
    ]  # fmt: skip
    ours, theirs = (r["parts"]["total"]["mae"] for r in (there, back))
    assert ours["difference"] == pytest.approx(ours["a"] - ours["b"], abs=2e-6)
    assert (theirs["difference"], theirs["interval"]) == (
        -ours["difference"], pytest.approx([-ours["interval"][1], -ours["interval"][0]])
    )  # fmt: skip


def test_a_run_against_itself_is_no_difference_in_any_part(make_run: MakeRun) -> None:
    run = make_run(0.4)

    report = compare(run, run)

    assert {part["outcome"] for part in report["parts"].values()} == {"no difference"}
    assert set(report["parts"]) == {
        "total", "length:300_to_1500", "length:over_1500", "window:whole", "window:truncated"
    }  # fmt: skip


def test_noise_alone_is_inconclusive(make_run: MakeRun) -> None:
    report = compare(make_run(spread=1.0, seed=3), make_run(spread=1.0, seed=4))

    assert report["parts"]["total"]["mae"]["outcome"] == "inconclusive"


def test_finding_less_is_worse_however_small_the_error(make_run: MakeRun) -> None:
    keen, shy = make_run(0.6, spread=0.0), make_run(-0.6, spread=0.0)  # the same error, to the other side

    total = compare(shy, keen)["parts"]["total"]

    assert total["mae"]["outcome"] == "no difference"
    assert (total["recall"]["b"], total["recall"]["outcome"], total["outcome"]) == (1.0, "worse", "worse")


@pytest.mark.parametrize(("lost", "sure"), [(1, False), (5, False), (6, True)])
def test_a_handful_of_finds_proves_nothing(lost: int, sure: bool) -> None:
    labels = np.full((60, 2), 2.0)
    labels[:lost] = 8.0
    missed = np.full((60, 2), 2.0)

    oracle = Oracle(labels, labels[:, 0] >= 4, [str(i) for i in range(60)])
    assert finds_differ(chosen(missed), chosen(labels), oracle) is sure


def test_copies_of_one_find_count_once() -> None:
    labels = np.full((60, 2), 8.0)

    oracle = Oracle(labels, np.ones(60, bool), ["one"] * 60)
    assert not finds_differ(chosen(np.full((60, 2), 2.0)), chosen(labels), oracle)


def test_only_articles_of_both_test_splits_count(make_run: MakeRun) -> None:
    first = make_run(split=lambda i: "test" if i < 40 else "calibration")
    second = make_run(split=lambda i: "test" if i >= 20 else "calibration")

    assert compare(first, second)["parts"]["total"]["n"] == 20


def test_probe_and_cascade_can_be_compared_too(make_run: MakeRun) -> None:
    through_the_probe, to_the_student = make_run(probe=-2.0, threshold=0.5), make_run(probe=-2.0, threshold=None)

    found = {s: compare(through_the_probe, to_the_student, s)["outcome"] for s in ("probe", "student", "cascade")}

    assert found == {"probe": "no difference", "student": "no difference", "cascade": "worse"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_made_with_test_articles_of_the_other_is_refused(make_run: MakeRun, split: str) -> None:
    knowing = make_run(split=lambda i: split if i < 3 else "test")

    for pair in ((knowing, make_run()), (make_run(), knowing)):
        with pytest.raises(InputError, match="made with 3 of the 60 test articles of"):
            compare(*pair)


def test_a_threshold_chosen_on_test_articles_of_the_other_is_refused_for_the_cascade_alone(make_run: MakeRun) -> None:
    knowing, other = make_run(split=lambda i: "calibration" if i < 3 else "test"), make_run()

    compare(knowing, other, "student")
    with pytest.raises(InputError, match="made with 3 of"):
        compare(knowing, other, "cascade")


def test_too_few_articles_in_common_are_refused(make_run: MakeRun) -> None:
    first = make_run(split=lambda i: "test" if i < 34 else "calibration")
    second = make_run(split=lambda i: "test" if i >= 25 else "calibration")

    with pytest.raises(InputError, match="9 articles, expected at least 10"):
        compare(first, second)


def test_other_labels_of_the_same_articles_are_refused(make_run: MakeRun) -> None:
    with pytest.raises(InputError, match="those of 60 articles differ"):
        compare(make_run(), make_run(labels_of=1))


def test_runs_that_judge_differently_are_refused_with_what_differs(make_run: MakeRun, spec: FilterSpec) -> None:
    other = apply_overrides(spec, {"operating_tier": "high", "gatekeepers": []})

    with pytest.raises(InputError) as caught:
        compare(make_run(), make_run(spec=other))

    assert [problem.path for problem in caught.value.problems] == ["operating_tier", "gatekeepers"]


def test_changed_predictions_are_refused(make_run: MakeRun) -> None:
    folder = make_run().folder
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text("".join(lines[1:]), encoding="utf-8")

    with pytest.raises(InputError, match="stage predict: changed"):
        open_run(folder)


def test_a_run_that_kept_no_predictions_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    (run.folder / "predictions.jsonl").unlink()

    with pytest.raises(InputError, match=r"predictions\.jsonl: missing"):
        compare(run, make_run())


def test_a_comparison_is_json_and_the_same_each_time(make_run: MakeRun) -> None:
    runs = make_run(0.1), make_run(0.2, seed=2)

    first, second = (json.dumps(compare(*runs), allow_nan=False) for _ in range(2))

    assert first == second
