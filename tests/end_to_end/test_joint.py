"""`trainer fit --joint`: two filters, one training, a run and a bundle each, and one pass for both in a panel."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from distillery_exporter.cli import main as exporter
from distillery_runtime import load, load_panel
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.errors import InputError
from distillery_runtime.scoring.timings import Timings
from distillery_trainer.cli.main import main as trainer
from distillery_trainer.data.articles import Pool
from distillery_trainer.data.labels import read_labels
from distillery_trainer.filters.scaffold import CONFIG
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.opening import open_run

pytest.importorskip("torch")

DRAWN = 50  # of the first filter's articles, which the second has labels for too
OWN = 12  # articles that the second alone has labels for


@pytest.fixture(scope="module")
def filters(tmp_path_factory: pytest.TempPathFactory, filter_folder: Path) -> list[Path]:
    """Two filters' folders: `tiny`, and `turned`, which asks the same questions the other way round."""
    turned = Path(shutil.copytree(filter_folder, tmp_path_factory.mktemp("filters") / "turned"))
    (turned / "config.yaml").write_text(CONFIG.format(name="turned"), encoding="utf-8")
    return [filter_folder, turned]


@pytest.fixture(scope="module")
def turned_labels(tmp_path_factory: pytest.TempPathFactory, labels: Path) -> Path:
    """Labels of `turned` for most of the same articles, under other ids, and for some of its own."""
    lines = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()][:DRAWN]
    lines += [
        {**line, "id": f"own-{i}", "text": f"{line['text'][::-1]} city tree"} for i, line in enumerate(lines[:OWN])
    ]
    for line in lines:
        relevance, quality = line["labels"].values()
        line |= {"id": f"t-{line['id']}", "labels": {"relevance": quality, "evidence_quality": relevance}}
    path = tmp_path_factory.mktemp("labels") / "turned.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def command(filters: list[Path], labels: Path, turned_labels: Path, *options: str) -> list[str]:
    one, two = map(str, filters)
    return ["fit", "--joint", "--filter", one, "--filter", two, "--labels", f"{one}={labels}", f"{two}={turned_labels}",
            *options]  # fmt: skip


@pytest.fixture(scope="module", params=["encoder", pytest.param("decoder", marks=pytest.mark.slow)])
def arguments(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    filters: list[Path],
    labels: Path,
    turned_labels: Path,
    encoder_base: Path,
    decoder_base: Path,
) -> list[str]:
    """The command that fits both filters; the decoder's heads are of bins."""
    folder, backend = tmp_path_factory.mktemp("joint"), request.param
    base = {"encoder": encoder_base, "decoder": decoder_base}[backend]
    loss = {"encoder": "mse", "decoder": "hl_gauss"}[backend]
    return command(
        filters, labels, turned_labels, "--backend", backend, "--base-model", str(base),
        "--embedder", str(encoder_base), "--max-tokens", "40", "--epochs", "4",
        "--set", f"student.{backend}.training.batch_tokens=256", "--set", f"student.{backend}.loss={loss}",
        "--set", f"student.{backend}.training.learning_rate=0.01", "--set", "cascade.target_miss_rate=0.8",
        "--run-dir", str(folder / "runs"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(arguments: list[str]) -> Path:
    """A folder with `runs` and a bundle of each filter."""
    assert trainer(arguments) == 0
    folder = Path(arguments[-1]).parent
    for name in ("tiny", "turned"):
        build = [
            "build",
            str(folder / "runs" / f"{name}-1"),
            "--out",
            str(folder / name),
            "--variants",
            "cpu-fp32,cpu-int8",
        ]
        assert exporter(build) == 0
    return folder


def read(path: Path) -> Any:  # Any: nested JSON of known shape
    return json.loads(path.read_text(encoding="utf-8"))


def test_each_filter_gets_a_run_whose_student_learnt_its_own_labels(made: Path) -> None:
    for name in ("tiny", "turned"):
        total = read(made / "runs" / f"{name}-1" / "eval.json")["parts"]["total"]
        assert total["student"]["mae"] < 0.9 * total["constant"]["mae"]
        assert read(made / "runs" / f"{name}-1" / "manifest.json")["joint"]["filters"] == ["tiny-1", "turned-1"]


def test_an_article_of_both_filters_is_in_the_same_split_of_both(made: Path) -> None:
    one, two = (
        {row["id"].removeprefix("t-"): row["split"] for row in map(json.loads, lines) if "own" not in row["id"]}
        for lines in (
            (made / "runs" / f"{name}-1" / "splits.jsonl").read_text().splitlines() for name in ("tiny", "turned")
        )
    )

    assert len(two) == DRAWN
    assert {article: one[article] for article in two} == two


@pytest.mark.parametrize("variant", ["cpu-fp32", "cpu-int8"])
def test_the_bundles_backbones_are_the_same_files_and_their_heads_are_not(made: Path, variant: str) -> None:
    one, two = (
        {path.name: path.read_bytes() for path in (made / name / "student").glob(f"{variant}*")}
        for name in ("tiny", "turned")
    )

    assert one.keys() == two.keys()
    assert len(one) > 1
    assert [name for name in one if one[name] != two[name]] == [f"{variant}-head.onnx"]


def test_a_panel_passes_an_article_once_and_gives_what_each_scorer_gives(made: Path, labels: Path) -> None:
    articles = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    timings = Timings()

    together = load_panel([made / "tiny", made / "turned"], threads=1).score_batch(articles, timings=timings)

    alone = [load(made / name, threads=1).score_batch(articles) for name in ("tiny", "turned")]
    asked = sum(any(score.stage == "student" for score in scores) for scores in together)
    assert timings.steps["student model"].articles == asked > 0
    for scores, expected in zip(together, zip(*alone, strict=True), strict=True):
        for found, own in zip(scores, expected, strict=True):
            assert (found.stage, found.tier) == (own.stage, own.tier)
            assert found.scores == pytest.approx(own.scores, abs=0.011)


@pytest.mark.usefixtures("made")
def test_the_same_command_finds_everything_done(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer(arguments) == 0

    said = capsys.readouterr().err
    assert said.count("fit: done before") == 3  # the joint training and each filter's taking from it
    assert "..." not in said


@pytest.fixture
def again(turned_labels: Path, tmp_path: Path) -> Path:
    """Labels for those articles that only `turned` learnt from, under new ids."""
    lines = [json.loads(line) for line in turned_labels.read_text(encoding="utf-8").splitlines()]
    named = [json.dumps({**line, "id": f"again-{i}"}) for i, line in enumerate(lines) if "own" in line["id"]]
    path = tmp_path / "again.jsonl"
    path.write_text("\n".join(named), encoding="utf-8")
    return path


def test_a_joint_student_teaches_none_that_is_judged_on_another_filters_articles(made: Path, again: Path) -> None:
    run = open_run(made / "runs" / "tiny-1")
    labelled = read_labels([again], run.spec)
    splits = {article.id: "test" for article in labelled.articles}

    with pytest.raises(InputError, match=f"near-duplicates: {OWN} articles that are held out here"):
        Distillation([run.folder], Pool((), (), 0), 0.5).check(run.spec, splits, labelled)


def test_a_joint_student_is_not_compared_on_another_filters_articles(
    made: Path, filters: list[Path], labels: Path, again: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = (made / "runs" / "tiny-1" / "splits.jsonl").read_text(encoding="utf-8").splitlines()
    more = [json.dumps({"id": f"again-{i}", "split": "test", "group": f"again-{i}"}) for i in range(DRAWN, DRAWN + OWN)]
    (tmp_path / "splits.jsonl").write_text("\n".join([*own, *more]) + "\n", encoding="utf-8")
    fit = ["fit", "--filter", str(filters[0]), "--labels", str(labels), str(again), "--backend", "static"]
    settings = ["--splits", str(tmp_path / "splits.jsonl"), "--run-dir", str(tmp_path / "run"), "--epochs", "2",
                "--set", "cascade.probe.training.epochs=2"]  # fmt: skip
    assert trainer([*fit, *settings]) == 0

    code = trainer(["compare", str(made / "runs" / "tiny-1"), str(tmp_path / "run")])

    assert code == 2
    assert f"made with {OWN} of the" in capsys.readouterr().err


def test_articles_of_the_other_filter_are_no_test_of_a_joint_student(
    made: Path, again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = trainer(["evaluate", str(made / "runs" / "tiny-1"), "--labels", str(again)])

    assert code == 2
    assert f"{OWN} that the run was made with" in capsys.readouterr().err


def test_nor_do_they_certify_it(
    made: Path, arguments: list[str], again: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    moved = ["--run-dir", str(tmp_path / "runs"), "--certify-on", str(again)]

    code = trainer([*arguments, *moved])

    assert code == 2
    assert "are near-duplicates of known ones" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_refused_before_anything_is_trained(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("joint", "turned-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine", encoding="utf-8")

        assert trainer([*arguments, "--run-dir", str(tmp_path)]) == 2

        assert f"{tmp_path / name}: no run" in capsys.readouterr().err
        shutil.rmtree(tmp_path / name)
        assert not (tmp_path / "tiny-1").exists()


@pytest.mark.usefixtures("no_child")
def test_the_bundles_verify_and_name_each_other(made: Path) -> None:
    for name, other in (("tiny", "turned-1"), ("turned", "tiny-1")):
        assert distillery(["verify", str(made / name)]) == 0
        assert f"shares its backbone with those of {other}," in (made / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (["--seeds", "1", "2"], "--seeds: given with --joint"),
        (["--splits", "splits.jsonl"], "--splits: given with --joint"),
        (["--folds", "3"], "--folds: given with --joint"),
        (["--labels", "labels.jsonl"], "'labels.jsonl', expected FILTER=FILE"),
        (["--filter", "sustainability_technology"], "none for sustainability_technology"),
        (["--backend", "static"], "student.backend: static"),
        (["--folds", "5"], "--folds: given with --joint"),
        (["--backend", "frozen", "--set", "student.frozen.training.epochs=9"], "training.epochs: given with --joint"),
        (["--backend", "frozen", "--folds", "1"], "--folds: 1, expected at least 2"),
    ],
)
def test_what_does_not_go_with_joint_is_refused(
    filters: list[Path], labels: Path, turned_labels: Path, tmp_path: Path, change: list[str], found: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = trainer([*command(filters, labels, turned_labels, "--run-dir", str(tmp_path / "runs")), *change])

    assert code == 2
    assert found in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_several_filters_without_joint_are_refused(
    filters: list[Path], labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = map(str, filters)

    assert trainer(["fit", "--filter", one, "--filter", two, "--labels", str(labels)]) == 2
    assert "2 filters without --joint" in capsys.readouterr().err
