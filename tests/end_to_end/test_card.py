"""The model card of a bundle: metadata that the Hub reads, and words and figures that are those of the run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from distillery_exporter.bundle.card import card_metadata
from distillery_exporter.cli import main as exporter
from distillery_trainer.cli.main import main as trainer
from distillery_trainer.models.records import BaseRecord, Origin, origin
from distillery_trainer.runs.opening import open_run
from distillery_trainer.store.files import digest

STATED = ["--set", "card.license=apache-2.0", "--set", "card.language=[en, nl]"]
QUICK = ["--folds", "0", "--epochs", "2", "--set", "cascade.probe.training.epochs=2"]


def make(filter_folder: Path, labels: Path, folder: Path, settings: list[str]) -> Path:
    """A run and its bundle beside it, made by the commands."""
    arguments = ["fit", "--filter", str(filter_folder), "--labels", str(labels), "--backend", "static"]
    assert trainer([*arguments, *QUICK, *settings, "--run-dir", str(folder / "run")]) == 0
    assert exporter(["build", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder


@pytest.fixture(scope="module")
def made(filter_folder: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(filter_folder, labels, tmp_path_factory.mktemp("made"), STATED)


@pytest.fixture(scope="module")
def card(made: Path) -> ModelCard:
    return ModelCard.load(made / "bundle" / "README.md")


@pytest.fixture(scope="module")
def evaluation(made: Path) -> Any:  # Any: nested JSON
    return json.loads((made / "run" / "eval.json").read_text(encoding="utf-8"))


def test_the_metadata_comes_back_from_the_hubs_own_reader_as_it_was_written(made: Path, card: ModelCard) -> None:
    run = open_run(made / "run")
    written = card_metadata(run, [origin(run.folder / stage) for stage in ("probe", "student")])

    read = card.data

    assert isinstance(read, ModelCardData)
    assert read.to_dict() == written.to_dict()
    assert read.eval_results == written.eval_results


def test_the_metadata_says_what_the_config_and_the_weights_say(card: ModelCard) -> None:
    data = card.data.to_dict()

    assert {key: data[key] for key in ("license", "language", "base_model", "library_name", "pipeline_tag")} == {
        "license": "apache-2.0",
        "language": ["en", "nl"],
        "base_model": ["intfloat/multilingual-e5-small"],
        "library_name": "distillery",
        "pipeline_tag": "text-classification",
    }
    assert data["tags"] == ["regression", "onnx", "tiny"]


def test_the_metrics_are_those_of_the_evaluation_with_their_intervals(card: ModelCard, evaluation: Any) -> None:
    found = {(r.dataset_config, r.metric_type): (r.metric_value, r.metric_args) for r in card.data.eval_results}

    cascade = evaluation["parts"]["total"]["cascade"]
    assert found["total", "mae"] == (cascade["mae"], {"interval_95": cascade["intervals"]["mae"]})
    assert {part for part, _ in found} == set(evaluation["parts"])
    assert None not in [value for value, _ in found.values()]


def test_the_words_carry_figures_certificate_and_limits(made: Path, card: ModelCard, evaluation: Any) -> None:
    certificate = json.loads((made / "run" / "certificate.json").read_text(encoding="utf-8"))
    manifest = json.loads((made / "run" / "manifest.json").read_text(encoding="utf-8"))
    cascade = evaluation["parts"]["total"]["cascade"]

    low, high = cascade["intervals"]["mae"]
    wanted = [
        f"| cascade | {cascade['n']} | {cascade['mae']:.3f} [{low:.3f}, {high:.3f}] |",
        certificate["statement"],
        f"From {manifest['articles']} articles and",
        f"(oracle of these labels: {manifest['oracles']}; ",
        "articles in en, nl",
        "Of this bundle: apache-2.0.",
        "static token table of distillery-trainer (intfloat/multilingual-e5-small), licence mit",
    ]
    assert [words for words in wanted if words not in card.text] == []


def test_the_three_lines_of_use_work_as_they_stand(
    made: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)[0]

    exec(lines.replace("path/of/this/folder", str(made / "bundle")))

    assert "status='scored'" in capsys.readouterr().out
    assert len(lines.splitlines()) == 3


def test_the_sizes_are_those_of_the_files(made: Path, card: ModelCard) -> None:
    size = sum(path.stat().st_size for path in (made / "bundle" / "student").glob("cpu-fp32*"))

    assert f"| cpu-fp32 | student | {size / 1e6:.1f} |" in card.text


def test_what_nothing_states_is_called_unknown(made: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", tmp_path / "run" / "config.resolved.yaml"
    shutil.copytree(made / "run", run)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    seal(run, {key: value for key, value in content.items() if key != "card"})

    data = card_metadata(open_run(run), [Origin("student", "a-folder", (), None)]).to_dict()

    assert data["license"] == "unknown"
    assert {"language", "base_model"} & set(data) == set()


def test_a_run_of_an_earlier_version_without_the_newest_keys_is_still_taken(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    content = yaml.safe_load((run / "config.resolved.yaml").read_text(encoding="utf-8"))
    del content["card"]
    seal(run, content)

    assert open_run(run).spec.card.license is None


def seal(run: Path, config: dict[str, object]) -> None:
    """Gives a run another config, as if it had been made with it."""
    (run / "config.resolved.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (run / "manifest.json").write_text(json.dumps(manifest | {"spec_sha256": digest(config)}), encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "commit", "expected"),
    [
        (None, None, ((), None)),
        ("no metadata", None, ((), None)),
        ("---\nlicense: [\n---\n", None, ((), None)),
        ("---\nlicense: mit\n---\n", "0123abcd", (("owner/base",), "mit")),
        ("---\nlicense: gemma\nbase_model: owner/larger\n---\n", None, (("owner/larger",), "gemma")),
        ("---\nlicense: mit\nbase_model: [a/b, c/d]\n---\n", None, (("a/b", "c/d"), "mit")),
    ],
)
def test_an_origin_is_what_the_base_models_card_states(
    tmp_path: Path, text: str | None, commit: str | None, expected: tuple[object, object]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if text is not None:
        (base / "README.md").write_text(text, encoding="utf-8")
    identity = {"name": "owner/base" if commit else "base", "commit": commit}
    (tmp_path / "student").mkdir()
    record = BaseRecord(model="base", revision="main", folder=str(base), identity=identity)
    record.write(tmp_path / "student" / "base.json")

    found = origin(tmp_path / "student")

    assert (found.hub_ids, found.licence) == expected
