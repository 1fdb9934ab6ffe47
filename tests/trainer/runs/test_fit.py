"""`trainer fit`: what a run records, when it does nothing, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import lock_descriptor

from distillery_runtime.errors import InputError
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.cli.summary import summarise
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.runs.fit import MIN_ARTICLES, FitRequest, fit

OUTPUTS = ("splits.jsonl", "student", "calibration.json", "probe", "selection.json", "certificate.json",
           "predictions.jsonl", "eval.json", "report.html")  # fmt: skip

Overrides = dict[str, object]
Rows = Callable[[int], list[dict[str, Any]]]
Write = Callable[..., Path]


def silent(line: str) -> None:
    """Takes a fit's progress messages and drops them."""


def files_of(run: Path) -> dict[Path, int]:
    """When each file of the tasks' outputs was written."""
    inside = [path for name in OUTPUTS for path in (run / name, *(run / name).rglob("*"))]
    return {path: path.stat().st_mtime_ns for path in inside}


@pytest.fixture(scope="module")
def request_of_topic(quick: Overrides, tmp_path_factory: pytest.TempPathFactory) -> FitRequest:
    """A fit of 60 articles on the filter of `trainer init`, its run done."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        filter_folder = init_filter("topic")
    return FitRequest(filter_folder, [folder / "labels.jsonl"], quick, run_dir=folder / "run")


@pytest.fixture
def finished(request_of_topic: FitRequest, topic_rows: Rows) -> FitRequest:
    """The same, with its run brought up to date."""
    labels = request_of_topic.labels[0]
    if not labels.exists():
        labels.write_text("".join(json.dumps(row) + "\n" for row in topic_rows(60)))
    fit(request_of_topic, silent)
    return request_of_topic


@pytest.fixture
def request_for(
    quick: Overrides, new_filter: Path, topic_rows: Rows, write_rows: Write, tmp_path: Path
) -> Callable[..., FitRequest]:
    """Makes a request for the first so many of the topic's articles."""

    def make(count: int = 60, **changes: Any) -> FitRequest:  # Any: the request's fields
        labels = write_rows("labels.jsonl", topic_rows(count))
        return FitRequest(**({"filter_folder": new_filter, "labels": [labels], "overrides": quick,
                              "run_dir": tmp_path / "run"} | changes))  # fmt: skip

    return make


def test_a_run_holds_the_output_of_every_task(finished: FitRequest) -> None:
    assert {path.name for path in finished.run_dir.iterdir()} == {
        ".lock", "cache", "config.resolved.yaml", "manifest.json", "stages", "training_metadata.json", *OUTPUTS
    }  # fmt: skip


def test_the_splits_name_every_article_in_file_order(finished: FitRequest, topic_rows: Rows) -> None:
    rows = [json.loads(line) for line in (finished.run_dir / "splits.jsonl").open()]

    assert [row["id"] for row in rows] == [row["id"] for row in topic_rows(60)]
    assert {row["split"] for row in rows} == {"train", "val", "calibration", "test"}


def test_a_student_of_a_word_that_tells_the_label_beats_the_constant(finished: FitRequest) -> None:
    systems = json.loads((finished.run_dir / "eval.json").read_text())["parts"]["total"]

    assert systems["student"]["mae"] < 0.7 * systems["constant"]["mae"]


def test_an_identical_call_changes_no_output(finished: FitRequest) -> None:
    before = files_of(finished.run_dir)

    fit(finished, silent)

    assert files_of(finished.run_dir) == before


def test_an_identical_call_says_that_every_task_was_done_before(finished: FitRequest) -> None:
    said: list[str] = []

    fit(finished, said.append)

    assert said[-9:] == [
        f"{name}: done before"
        for name in ("split", "fit", "calibrate", "probe", "select", "certify", "predict", "evaluate", "report")
    ]


@pytest.fixture
def automatic(
    request_for: Callable[..., FitRequest], quick: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FitRequest:
    """A fit with the backend `auto`, in the default folder, of a filter whose models are not on this machine."""
    monkeypatch.chdir(tmp_path)
    models = {f"student.{name}.base_model": "no/such" for name in ("decoder", "encoder")}
    return request_for(overrides=quick | {"student.backend": "auto"} | models, run_dir=None)


def test_a_run_says_which_backend_auto_became_and_why(automatic: FitRequest) -> None:
    run = fit(automatic, silent)

    resolved = yaml.safe_load((run / "config.resolved.yaml").read_text())
    auto = json.loads((run / "manifest.json").read_text())["auto"]
    assert resolved["student"]["backend"] == "static"
    assert auto["settings"]["student.backend"] == "static"
    assert "hf download no/such" in " ".join(auto["better"])


def test_the_same_call_with_auto_goes_on_with_the_same_run(automatic: FitRequest) -> None:
    run, said = fit(automatic, silent), list[str]()

    assert fit(automatic, said.append) == run
    assert said[-1] == "report: done before"


def test_the_examples_of_a_filter_are_labels_for_a_first_try(
    quick: Overrides, new_filter: Path, topic_rows: Rows, tmp_path: Path
) -> None:
    said: list[str] = []
    examples = new_filter / "examples" / "some.jsonl"
    examples.write_text("".join(json.dumps(row) + "\n" for row in topic_rows(30)))

    fit(FitRequest(new_filter, [examples], quick, run_dir=tmp_path / "run"), said.append)

    assert any("30 examples" in line and "trainer label --filter topic/v1" in line for line in said)


def test_overrides_limit_and_seed_are_recorded_in_the_manifest(quick: Overrides, finished: FitRequest) -> None:
    manifest = json.loads((finished.run_dir / "manifest.json").read_text())

    assert (manifest["overrides"], manifest["limit"], manifest["seed"]) == (quick, None, 0)


def test_the_manifest_names_labels_with_their_digest_and_who_made_them(finished: FitRequest) -> None:
    manifest = json.loads((finished.run_dir / "manifest.json").read_text())

    (labels,) = manifest["labels"]
    assert (labels["name"], len(labels["sha256"]), manifest["oracles"]) == ("labels.jsonl", 64, "not stated")


def test_the_resolved_config_is_the_filters_with_the_overrides_applied_and_the_step_of_the_labels(
    quick: Overrides, finished: FitRequest
) -> None:
    resolved = parse_spec(yaml.safe_load((finished.run_dir / "config.resolved.yaml").read_text()), "resolved")

    original = parse_spec(yaml.safe_load((finished.filter_folder / "config.yaml").read_text()), "original")
    assert resolved == apply_overrides(original, quick | {"oracle.step": 1.0})


def test_the_certificate_is_for_the_filters_target_and_confidence(finished: FitRequest) -> None:
    certificate = json.loads((finished.run_dir / "certificate.json").read_text())

    assert (certificate["target_miss_rate"], certificate["confidence"]) == (0.05, 0.95)


def test_the_summary_shows_every_system_and_the_certificate(finished: FitRequest) -> None:
    summary = summarise(finished.run_dir)

    certificate = json.loads((finished.run_dir / "certificate.json").read_text())
    assert any(line.startswith(certificate["statement"]) for line in summary.splitlines())
    total = json.loads((finished.run_dir / "eval.json").read_text())["parts"]["total"]
    rows = [line.split() for line in summary.splitlines()]
    assert any(row[-len(total) :] == [*total] for row in rows)
    assert ["total", "9", *(f"{part['mae']:.3f}" for part in total.values())] in rows


def test_the_metadata_repeats_sizes_and_error_of_the_evaluation(finished: FitRequest) -> None:
    metadata = json.loads((finished.run_dir / "training_metadata.json").read_text())

    evaluation = json.loads((finished.run_dir / "eval.json").read_text())
    assert {name: metadata[name] for name in ("train", "val", "test", "folds")} == evaluation["split_sizes"]
    assert metadata["test_mae"] == evaluation["parts"]["total"]["student"]["mae"]


def test_the_predictions_are_what_the_models_say_of_the_test_articles(finished: FitRequest, topic_rows: Rows) -> None:
    rows = [json.loads(line) for line in (finished.run_dir / "predictions.jsonl").open()]

    splits = [json.loads(line) for line in (finished.run_dir / "splits.jsonl").open()]
    inputs = {row["id"]: row for row in map(json.loads, (finished.run_dir / "student" / "inputs.jsonl").open())}
    given = {row["id"]: row for row in topic_rows(60)}
    assert [(row["id"], row["split"], row["group"]) for row in rows] == [
        (row["id"], "test", row["group"]) for row in splits if row["split"] == "test"
    ]
    for row in rows:
        assert [row[key] for key in ("tokens", "truncated")] == [inputs[row["id"]][k] for k in ("tokens", "truncated")]
        assert (row["characters"], row["labels"]) == (len(given[row["id"]]["text"]), given[row["id"]]["labels"])
    assert "solar" not in (finished.run_dir / "predictions.jsonl").read_text()


def test_the_evaluation_is_that_of_the_predictions(finished: FitRequest) -> None:
    rows = [json.loads(line) for line in (finished.run_dir / "predictions.jsonl").open()]

    total = json.loads((finished.run_dir / "eval.json").read_text())["parts"]["total"]
    for system in ("probe", "student"):
        errors = [abs(row[system]["scores"][name] - true) for row in rows for name, true in row["labels"].items()]
        assert total[system]["mae"] == pytest.approx(sum(errors) / len(errors), abs=1e-6)
    assert rows[0]["student"]["expected"] != rows[0]["student_raw"]


def test_without_a_folder_named_the_same_request_finds_its_run_again(
    request_for: Callable[..., FitRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = request_for(run_dir=None)

    first, second = fit(request, silent), fit(request, silent)

    assert first == second
    assert first.parent == Path("runs/topic/v1")


def test_a_limit_takes_so_many_articles(request_for: Callable[..., FitRequest]) -> None:
    run = fit(request_for(limit=40), silent)

    assert len((run / "splits.jsonl").read_text().splitlines()) == 40
    assert json.loads((run / "manifest.json").read_text())["limit"] == 40


@pytest.mark.parametrize("changes", [{"count": MIN_ARTICLES - 1}, {"limit": MIN_ARTICLES - 1}], ids=["file", "limit"])
def test_too_few_articles_are_refused(request_for: Callable[..., FitRequest], changes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{MIN_ARTICLES - 1} articles, expected at least {MIN_ARTICLES}"):
        fit(request_for(**changes), silent)


def test_a_refused_fit_leaves_no_folder(request_for: Callable[..., FitRequest]) -> None:
    request = request_for(count=5)

    with pytest.raises(InputError):
        fit(request, silent)

    assert not request.run_dir.exists()


def test_articles_that_are_all_the_same_news_are_refused(
    request_for: Callable[..., FitRequest], write_rows: Write, topic_rows: Rows
) -> None:
    same = [row | {"text": "The same news in the same words."} for row in topic_rows(30)]

    with pytest.raises(InputError, match="30 articles in 1 near-duplicate groups"):
        fit(request_for(labels=[write_rows("same.jsonl", same)]), silent)


def test_the_fewest_articles_that_are_taken_can_be_fitted(request_for: Callable[..., FitRequest]) -> None:
    run = fit(request_for(count=MIN_ARTICLES), silent)

    assert (run / "eval.json").is_file()


def _a_file(run: Path) -> None:
    run.write_text("mine")


def _notes(run: Path) -> None:
    run.mkdir()
    (run / "notes.txt").write_text("mine")


def _another_filters_run(run: Path) -> None:
    run.mkdir()
    (run / "manifest.json").write_text('{"filter": "other-2"}')


def _a_manifest_of_something_else(run: Path) -> None:
    run.mkdir()
    (run / "manifest.json").write_text('{"manifest_version": 3}')


def _a_manifest_that_is_a_list(run: Path) -> None:
    run.mkdir()
    (run / "manifest.json").write_text("[]")


def _a_manifest_that_is_no_json(run: Path) -> None:
    run.mkdir()
    (run / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    "put",
    [_a_file, _notes, _another_filters_run, _a_manifest_of_something_else, _a_manifest_that_is_a_list,
     _a_manifest_that_is_no_json],
)  # fmt: skip
def test_a_run_folder_that_holds_something_else_is_refused_and_left_alone(
    request_for: Callable[..., FitRequest], put: Callable[[Path], None]
) -> None:
    request = request_for()
    put(request.run_dir)
    before = [(path, path.read_bytes()) for path in [request.run_dir, *request.run_dir.rglob("*")] if path.is_file()]

    with pytest.raises(InputError, match="expected a new folder, or a run of topic-1"):
        fit(request, silent)

    after = [(path, path.read_bytes()) for path in [request.run_dir, *request.run_dir.rglob("*")] if path.is_file()]
    assert after == before


def test_a_run_that_another_process_works_on_is_left_as_it_is(
    quick: Overrides, finished: FitRequest, held: Callable[[Path], object]
) -> None:
    held(finished.run_dir)
    before = {p: p.read_bytes() for p in finished.run_dir.rglob("*") if p.is_file()}
    other = FitRequest(finished.filter_folder, finished.labels, quick, seed=7, run_dir=finished.run_dir)

    with pytest.raises(InputError, match="another trainer is at work"):
        fit(other, silent)

    assert [p.name for p, content in before.items() if p.read_bytes() != content] == []


@pytest.fixture
def held() -> Iterator[Callable[[Path], object]]:
    """Holds the lock of a run, as another process that works on it does."""
    streams = []

    def hold(run: Path) -> None:
        streams.append((run / ".lock").open("w"))
        assert lock_descriptor(streams[-1].fileno(), blocking=False)

    yield hold
    for stream in streams:
        stream.close()
