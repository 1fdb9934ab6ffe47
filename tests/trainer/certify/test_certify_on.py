"""`trainer fit --certify-on`: a certificate against the student on articles that nobody labelled."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.runs.fit import FitRequest, fit

QUICK: dict[str, object] = {
    "student.backend": "static",
    "student.static.training.epochs": 20,
    "cascade.probe.embedder": "static",
    "cascade.probe.training.epochs": 2,
    "cascade.probe.hidden": [4],
    "cascade.target_miss_rate": 0.05,
}

Articles = Callable[..., list[dict[str, Any]]]
Rows = Sequence[Mapping[str, Any]]  # Any: articles, with labels or without


def silent(line: str) -> None:
    """Ignores progress messages."""


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def finished(articles: Articles, tmp_path_factory: pytest.TempPathFactory) -> FitRequest:
    """A run that is finished without unlabelled articles."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        filter_folder = init_filter("topic")
    labels = write(folder / "labels.jsonl", articles(80, seed=1, evidence=4.0))
    request = FitRequest(filter_folder, [labels], QUICK, run_dir=folder / "run")
    fit(request, silent)
    return request


@pytest.fixture
def request_on(finished: FitRequest, tmp_path: Path) -> Callable[[Rows], FitRequest]:
    """The same fit in a copy of its run, on the articles given."""

    def made(rows: Rows) -> FitRequest:
        run = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))  # type: ignore[arg-type]  # it names a folder
        return replace(finished, run_dir=run, certify_on=[write(tmp_path / "unlabelled.jsonl", rows)])

    return made


def certificate(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "certificate.json").read_text())
    return found


def test_the_bound_rests_on_the_students_finds_among_the_named_articles(
    articles: Articles, finished: FitRequest, request_on: Callable[[Rows], FitRequest]
) -> None:
    without_labels = [{k: v for k, v in row.items() if k != "labels"} for row in articles(300, seed=2, evidence=4.0)]
    before = certificate(finished.run_dir)  # type: ignore[arg-type]  # it names a folder

    after = certificate(fit(request_on(without_labels), silent))

    assert (before["drawn_from"], after["drawn_from"]) == ("calibration", "unlabelled")
    assert before["articles"] < 20
    assert after["articles"] == 300
    assert 100 <= after["positives"] <= 200
    assert after["upper_bound"] < before["upper_bound"]
    assert after["oracle"] | {"threshold": None} == before["oracle"] | {"threshold": None}


def test_only_the_certificate_and_what_follows_from_it_is_made_again(
    articles: Articles,
    request_on: Callable[[Rows], FitRequest],
) -> None:
    said: list[str] = []

    fit(request_on(articles(50, seed=3, evidence=4.0)), said.append)

    again = [line.removesuffix(" ...") for line in said if line.endswith(" ...")]
    assert again == ["certify", "evaluate", "report"]


def test_near_duplicates_of_labelled_articles_do_not_count(
    articles: Articles, request_on: Callable[[Rows], FitRequest]
) -> None:
    known = [row | {"id": f"again-{row['id']}"} for row in articles(80, seed=1, evidence=4.0)]

    with pytest.raises(InputError, match=r"all 80 articles .* near-duplicates of known ones"):
        fit(request_on(known), silent)
