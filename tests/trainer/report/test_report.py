"""The report: one page that stands alone, says what it lacks, and tells no article's text."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.cli.main import main
from distillery_trainer.data.labels import read_labels
from distillery_trainer.data.predictions import read_predictions
from distillery_trainer.evaluate import metrics
from distillery_trainer.evaluate.evaluation import UnreadCounts
from distillery_trainer.evaluate.metrics import Decisions
from distillery_trainer.evaluate.paired import Difference
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.report.advice import advise
from distillery_trainer.report.assemble import render
from distillery_trainer.report.facts import Facts
from distillery_trainer.runs.assessment import facts_of
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.store.files import tree_digest

QUICK: dict[str, object] = {
    "student.backend": "static",
    "student.static.training.epochs": 3,
    "cascade.probe.embedder": "static",
    "cascade.probe.training.epochs": 3,
    "cascade.probe.hidden": [4],
    "evaluation.slices": [{"name": "dutch", "field": "language", "includes": "nl"}],
}
HOSTILE = "<script>alert('&')</script>"
SECRET = "unrepeatable"  # a word of every text
TITLE = '<b>Ferries & "buses"</b>'
LINKS = [
    'https://example.org/?a=1&b="2"',
    "https://example.org/?a=1&b=2",
    "javascript:alert(1)",
    "HTTP://example.org",
    7,
]
VOID = {"meta", "br", "line", "rect", "circle", "polyline"}
CURVE = [
    {"threshold": 0.5, "share_below": 0.1, "misses": 0, "positives": 90, "upper_bound": 0.033},
    {"threshold": 1.0, "share_below": 0.4, "misses": 2, "positives": 90, "upper_bound": 0.068},
    {"threshold": 1.5, "share_below": 0.7, "misses": 9, "positives": 90, "upper_bound": 0.17},
]

Json = dict[str, Any]  # Any: nested JSON


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 80 articles with hostile ids, their costs and predictions."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(5)
    words = [f"word{i}" for i in range(300)]
    rows = []
    for place in range(80):
        green = place % 3 != 0
        text = [str(word) for word in rng.choice(words, size=30)] + ["solar"] * (6 if green else 0)
        labels = {"relevance": 8.0 if green else 2.0, "evidence_quality": float(rng.integers(4, 9))}
        rows.append({
            "id": f"{HOSTILE}{place}", "title": TITLE, "text": f"{' '.join(text)} {SECRET}", "labels": labels,
            "source": f"<i>wire</i>{place}", "url": LINKS[place % 5],
            "language": "nl" if place % 2 else "en", "cost_usd": 0.25, "oracle": "<b>oracle</b>",
        })  # fmt: skip
    labels_file = folder / "labels.jsonl"
    labels_file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 50)
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        request = FitRequest(init_filter("topic"), [labels_file], QUICK, run_dir=folder / "run")
        fit(request, lambda _: None)
    return folder / "run"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to take things away from."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def facts(copied: Path) -> Callable[..., Facts]:
    """The facts of the run; keyword arguments replace some of them."""

    def gather(**changes: object) -> Facts:
        return replace(facts_of(open_run(copied), (), True), **changes)  # type: ignore[arg-type]  # fields by name

    return gather


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def report(run: Path, out: Path) -> str:
    """The page of a run whose files were changed as its fit itself might have made them."""
    for record in (run / "stages").iterdir():
        made = json.loads(record.read_text(encoding="utf-8"))
        change_json(record, sha256=tree_digest(run / made["output"]))
    assert main(["report", str(run), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def plain(page: str) -> str:
    """A page's words, figures left out."""
    return re.sub(r"<[^>]+>", "", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))


def test_the_page_loads_and_runs_nothing(copied: Path, tmp_path: Path) -> None:
    page = Page(report(copied, tmp_path / "report.html"))

    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "style", "onload"}
    assert page.open == []


def test_every_figure_has_a_caption_and_words_in_its_place(copied: Path, tmp_path: Path) -> None:
    change_json(copied / "certificate.json", curve=CURVE, threshold=1.0)
    page = report(copied, tmp_path / "report.html")

    figures = re.findall(r"<figure>(<svg.*?</svg>)\n<figcaption>(.*?)</figcaption></figure>", page, flags=re.DOTALL)
    assert len(figures) == page.count("<svg ") == 13
    for svg, caption in figures:
        assert len(ElementTree.fromstring(svg).attrib["aria-label"]) > 20
        assert len(caption) > 100


def test_a_report_made_again_has_the_same_bytes(copied: Path, tmp_path: Path) -> None:
    first, second = report(copied, tmp_path / "a.html"), report(copied, tmp_path / "b.html")

    assert first == second


def test_the_report_of_a_fit_is_the_one_that_the_command_makes(copied: Path, tmp_path: Path) -> None:
    tasks = {task.name: task for task in Pipeline(open_run(copied)).tasks()}

    tasks["report"].make(tmp_path / "task.html")

    assert (tmp_path / "task.html").read_text(encoding="utf-8") == report(copied, tmp_path / "again.html")


def test_hostile_names_are_shown_and_mean_nothing(copied: Path, tmp_path: Path) -> None:
    page = report(copied, tmp_path / "report.html")

    assert "<script" not in page
    assert "<b>oracle" not in page
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in page


def test_no_word_of_an_article_is_told(copied: Path, tmp_path: Path) -> None:
    page = report(copied, tmp_path / "report.html")

    assert SECRET not in page
    assert "solar" not in page


def test_the_worst_articles_have_title_source_and_a_link_to_the_web_alone(copied: Path, tmp_path: Path) -> None:
    page = report(copied, tmp_path / "report.html")

    rows = [row.split("</td>")[0] for row in page.split("The twelve worst articles")[1].split("<tr><td>")[1:13]]
    links = re.findall(r'<a href="([^"]*)" rel="noopener noreferrer">', page)
    assert len(rows) == 12
    assert all("Ferries &amp; &quot;buses&quot;" in row and "&lt;i&gt;wire&lt;/i&gt;" in row for row in rows)
    assert set(links) <= {"https://example.org/?a=1&amp;b=2", "HTTP://example.org"}
    assert page.count("<a ") == len(links) > 0
    assert "javascript:" not in page


def test_titles_sources_and_links_are_left_out_on_demand(copied: Path, tmp_path: Path) -> None:
    whole = report(copied, tmp_path / "whole.html")

    assert main(["report", str(copied), "--no-titles", "--out", str(tmp_path / "a.html")]) == 0
    change_json(copied / "manifest.json", titles=False)
    assert main(["report", str(copied), "--out", str(tmp_path / "b.html")]) == 0

    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == page != whole
    assert not [word for word in ("Ferries", "wire", "<a ", "example.org") if word in page]


def test_the_worst_article_stands_first(copied: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (copied / "predictions.jsonl").read_text().splitlines()]
    lines[3] |= {"id": "the-worst", "labels": dict.fromkeys(lines[3]["labels"], 10.0)}
    lines[3]["student"]["scores"] = dict.fromkeys(lines[3]["labels"], 0.0)
    (copied / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    table = report(copied, tmp_path / "report.html").split("The twelve worst articles")[1]

    assert re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td>", table)[0] == ("the-worst", "10.0")


def test_labels_that_carry_their_cost_are_counted(copied: Path, tmp_path: Path) -> None:
    page = report(copied, tmp_path / "report.html")

    assert "The labels cost 20.00 US dollars (80 of 80 articles" in page
    assert "250.00 dollars for a thousand" in page


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("certificate.json:curve", "certificate.json has no curve of thresholds"),
        ("student/training_history.json", "not trained in epochs that are recorded"),
    ],
)
def test_what_is_absent_is_left_out_with_a_reason(copied: Path, tmp_path: Path, missing: str, says: str) -> None:
    change_json(copied / "certificate.json", curve=CURVE)
    history = {"schema_version": 1, "best_epoch": 1, "epochs": [{"epoch": 1, "train_loss": 1.0, "val_mae": 1.5}]}
    (copied / "student" / "training_history.json").write_text(json.dumps(history))
    whole = report(copied, tmp_path / "whole.html")
    if missing.endswith(":curve"):
        change_json(copied / "certificate.json", curve=[])
    else:
        (copied / missing).unlink()

    page = report(copied, tmp_path / "report.html")

    assert says in plain(page)
    assert says not in plain(whole)
    assert page.count("<svg ") < whole.count("<svg ")


def test_without_the_labels_files_the_rest_is_told(copied: Path, tmp_path: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    change_json(copied / "manifest.json", labels=[manifest["labels"][0] | {"sha256": "of other bytes"}])

    page = plain(report(copied, tmp_path / "report.html"))

    assert "cost of the labels is left out" in page
    assert "Not shown" in page


@pytest.mark.parametrize(
    ("name", "change"),
    [("eval.json", None), ("manifest.json", {"stages": None}), ("manifest.json", {"spec_sha256": "another"})],
)
def test_what_is_no_finished_run_is_refused(
    copied: Path, tmp_path: Path, name: str, change: Mapping[str, object] | None
) -> None:
    if change is None:
        (copied / name).unlink()
    else:
        change_json(copied / name, **change)

    assert main(["report", str(copied), "--out", str(tmp_path / "report.html")]) == 2
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["manifest.json", "config.resolved.yaml", "stages/split.json", "eval.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", bytes(99), b"[" * 100_000])
def test_a_record_that_is_damaged_is_refused_without_a_traceback(
    copied: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (copied / name).write_bytes(content)

    assert main(["report", str(copied), "--out", str(tmp_path / "report.html")]) == 2


@pytest.mark.parametrize("change", [{"seed": "0"}, {"labels": [{}]}, {"pool": None}, {"articles": "many"}])
def test_a_manifest_with_a_field_of_another_type_is_refused(
    copied: Path, tmp_path: Path, change: Mapping[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(copied / "manifest.json", **change)

    code = main(["report", str(copied), "--out", str(tmp_path / "report.html")])

    assert code == 2
    assert next(iter(change)) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["seed", "labels", "spec_sha256"])
def test_a_manifest_without_a_field_is_refused(
    copied: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != name}), encoding="utf-8")

    code = main(["report", str(copied), "--out", str(tmp_path / "report.html")])

    assert code == 2
    assert f"{name}: missing" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ['{"id": "a"}', "no json", '{"labels": 1}'])
def test_predictions_that_are_none_are_refused(copied: Path, damage: str) -> None:
    (copied / "predictions.jsonl").write_text(damage + "\n")

    with pytest.raises(InputError, match=r"predictions\.jsonl"):
        read_predictions(copied / "predictions.jsonl", ("relevance", "evidence_quality"))


def with_total(facts: Facts, **systems: Json) -> Facts:
    """The facts with an evaluation in which systems' numbers are replaced; differences are known to 0.2."""
    evaluation, old = facts.evaluation, facts.evaluation.total
    numbered = {name: replace(getattr(old, name), **numbers) for name, numbers in systems.items()}
    total, differences = replace(old, **numbered), evaluation.differences["total"]
    gain = total.cascade.mae - total.tfidf_ridge.mae
    paired = replace(differences.cascade_minus_tfidf_ridge, mae=Difference(gain, (gain - 0.2, gain + 0.2)))
    changed = {"total": replace(differences, cascade_minus_tfidf_ridge=paired)}
    return replace(facts, evaluation=replace(evaluation, parts={"total": total}, differences=changed))


def system(mae: float, recall: float, positives: int = 100, low: float | None = None) -> Json:
    """A system's numbers: intervals of 0.1 around the error, and from `low` up for the recall."""
    return {
        "mae": mae,
        "finds": Decisions(positives, predicted=10, precision=0.5, recall=recall, f1=0.5),
        "intervals": {"mae": (mae - 0.1, mae + 0.1), "recall": (recall if low is None else low, 1.0)},
    }


@pytest.mark.parametrize(
    ("cascade", "probe", "answer", "reason"),
    [
        (system(0.7, 0.9), 0.9, "Yes", ""),
        (system(1.1, 0.9), 2.0, "No:", "not below that of merely counting words"),
        (system(0.7, 0.2), 0.9, "No:", "it finds 20 (20"),
        (system(0.85, 0.9), 0.9, "Not proved", "interval -0.35 to 0.05), article by article: it may be luck"),
        (system(0.7, 0.9, positives=5), 0.9, "Not proved", "Only 5 test articles"),
        (system(0.7, 0.9, low=0.3), 0.9, "Not proved", "as little as 30"),
        (system(0.7, 0.9), 0.6, "Not proved", "The probe alone errs less"),
    ],
)
def test_the_answer_follows_from_the_evaluation(
    facts: Callable[..., Facts], cascade: Json, probe: float, answer: str, reason: str
) -> None:
    found = with_total(facts(), cascade=cascade, student=cascade, probe={"mae": probe}, tfidf_ridge=system(1.0, 0.5))

    advice = advise(found)

    assert advice.answer.startswith(answer)
    assert reason in " ".join(advice.reasons)
    assert bool(advice.reasons) == bool(reason)


@pytest.mark.parametrize(("lost", "answer"), [(60, "No:"), (20, "Yes"), (0, "Yes")])
def test_articles_that_a_bundle_refuses_count_in_the_answer(
    facts: Callable[..., Facts], lost: int, answer: str
) -> None:
    good = system(0.7, 0.9)
    found = with_total(facts(), cascade=good, student=good, probe={"mae": 0.9}, tfidf_ridge=system(1.0, 0.5))
    unreadable = UnreadCounts(probe=lost, student=lost, invalid=lost, invalid_positive=lost)

    advice = advise(replace(found, evaluation=replace(found.evaluation, unreadable=unreadable)))

    assert advice.answer.startswith(answer)
    assert any(f"refuses {lost} of" in line for line in (*advice.reasons, *advice.meaning)) == bool(lost)


def test_the_answer_stands_first_on_the_page(facts: Callable[..., Facts]) -> None:
    found = facts()

    page = render(found)

    assert page.index(advise(found).answer) < page.index("What is selected?") < page.index("<svg ")


def test_costs_that_are_none_are_refused(run: Path, tmp_path: Path) -> None:
    spec = open_run(run).spec
    row = {"id": "a", "text": "words", "labels": dict.fromkeys(spec.dimension_names, 5)}
    file = tmp_path / "labels.jsonl"
    for cost in (-1, "dear", True):
        file.write_text(json.dumps(row | {"cost_usd": cost}))
        with pytest.raises(InputError, match="cost_usd"):
            read_labels([file], spec)
