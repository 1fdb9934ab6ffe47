"""The command line of `trainer label`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_runtime.spec import FilterSpec
from distillery_trainer.cli import main
from distillery_trainer.labels import read_labels

Server = Any  # Any: OracleServer


@pytest.fixture
def base(topic: Path, articles: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command for ten articles, without an oracle; its files go to labels/ of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return ["label", "--filter", "topic", "--articles", str(articles(10))]


@pytest.fixture
def recorded(base: list[str], articles: Callable[..., Path], tmp_path: Path) -> Path:
    """Labels of the ten articles by another oracle, two answers for each."""
    path = tmp_path / "recorded.jsonl"
    lines = articles(10).read_text().splitlines()
    with path.open("w") as stream:
        for place, line in enumerate(lines):
            one, two = ({"relevance": score, "evidence_quality": place / 2} for score in (place % 10, place % 10 + 0.5))
            row = json.loads(line) | {"labels": one, "oracle": "a recorded model", "repeats": [one, two]}
            stream.write(json.dumps(row) + "\n")
    return path


def test_recorded_labels_are_replayed_without_network_and_money(
    base: list[str], recorded: Path, tmp_path: Path, spec: FilterSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, "--oracle", "recorded", "--recorded", str(recorded)])

    labelled = read_labels([tmp_path / "labels" / "topic-1.jsonl"], spec)
    assert code == 0
    assert [article.labels[0] for article in labelled.articles] == [float(i) for i in range(10)]
    assert labelled.oracles == "a recorded model"
    assert "10 labelled, 0 dead letters" in capsys.readouterr().out


def test_recorded_repeats_are_replayed_too(base: list[str], recorded: Path, tmp_path: Path, spec: FilterSpec) -> None:
    again = ["--repeats", "2", "--repeat-share", "1"]

    main([*base, "--oracle", "recorded", "--recorded", str(recorded), *again])

    labelled = read_labels([tmp_path / "labels" / "topic-1.jsonl"], spec)
    assert {len(article.repeats) for article in labelled.articles} == {2}
    assert labelled.articles[3].labels == (3.25, 1.5)


def test_other_recorded_labels_are_other_answers(base: list[str], recorded: Path, tmp_path: Path) -> None:
    main([*base, "--oracle", "recorded", "--recorded", str(recorded)])
    first = (tmp_path / "labels" / "topic-1.jsonl").read_text()
    recorded.write_text(recorded.read_text().replace('"relevance": 9', '"relevance": 1'))

    main([*base, "--oracle", "recorded", "--recorded", str(recorded)])

    assert (tmp_path / "labels" / "topic-1.jsonl").read_text() != first


def test_labels_of_a_text_that_has_grown_since_are_not_replayed(
    base: list[str], recorded: Path, tmp_path: Path
) -> None:
    recorded.write_text(recorded.read_text().replace("This is article number 8.", "This is article number 8"))

    main([*base, "--oracle", "recorded", "--recorded", str(recorded)])

    dead = [json.loads(line) for line in (tmp_path / "labels" / "topic-1.dead.jsonl").read_text().splitlines()]
    assert "a8" in [row["id"] for row in dead]


def test_articles_that_are_not_recorded_are_dead_letters(base: list[str], recorded: Path, tmp_path: Path) -> None:
    lines = recorded.read_text().splitlines()
    recorded.write_text("\n".join([*lines[:8], lines[8].replace("number 8", "number 88")]))

    main([*base, "--oracle", "recorded", "--recorded", str(recorded)])

    dead = [json.loads(line) for line in (tmp_path / "labels" / "topic-1.dead.jsonl").read_text().splitlines()]
    assert [(row["id"], row["detail"]) for row in dead] == [
        ("a8", "the recorded article of this id has another text"),
        ("a9", "no article of this id in the recorded labels"),
    ]


def test_a_dry_run_needs_no_key_and_leaves_nothing(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, "--dry-run", "--repeats", "2", "--repeat-share", "1"])

    said = capsys.readouterr().out
    assert code == 0
    assert "20, of which 20 have no answer yet" in said
    assert "$0.3 in" in said
    assert not (tmp_path / "labels").exists()


def test_a_dry_run_knows_what_is_answered(
    base: list[str], serve: Callable[..., Server], good: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = ["--oracle", "vllm", "--model", "m", "--price", "input=1,output=2", "--base-url", f"{serve(good).url}/v1"]
    main([*base, *oracle, "--max-usd", "1"])
    capsys.readouterr()

    main([*base, *oracle, "--dry-run"])

    assert "10, of which 0 have no answer yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--max-usd: not given, expected a budget"),
        (["--max-usd", "1"], "GEMINI_API_KEY or GOOGLE_API_KEY: not set"),
        (["--max-usd", "1", "--model", "gemini-99"], "gemini-99: its price is not known, expected --price"),
        (["--max-usd", "1", "--oracle", "deepseek", "--model", "deepseek-chat"], "DEEPSEEK_API_KEY: not set"),
        (["--max-usd", "1", "--oracle", "deepseek", "--model", "deepseek-chat", "--batch"], "no batch mode"),
        (["--max-usd", "1", "--oracle", "vllm", "--price", "input=1,output=1", "--thinking-tokens", "9"],
         "vllm has no such setting"),
        (["--max-usd", "1", "--extra", '{"a": 1}'], "--extra: not for gemini"),
        (["--max-usd", "1", "--repeats", "3"], "--repeats, --repeat-share: one of them, expected both or neither"),
        (["--oracle", "recorded"], "--recorded: labels files, expected with --oracle recorded, and only with it"),
        (["--max-usd", "1", "--key-variable", "MY_KEY"], "MY_KEY: not set"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_before_anything_is_asked(
    base: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, *options])

    assert code == 2
    assert message in capsys.readouterr().err


def test_a_run_that_stopped_early_says_so_and_gives_one(
    base: list[str], serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(Answer(status=402))

    code = main([*base, "--oracle", "vllm", "--model", "m", "--base-url", f"{server.url}/v1", "--max-usd", "1"])

    assert code == 1
    assert "topic-1: stopped, refused by the provider: no credit" in capsys.readouterr().out
