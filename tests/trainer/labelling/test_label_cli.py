"""The command line of `trainer label`."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main
from distillery_trainer.data.labels import read_labels
from distillery_trainer.oracle.services import SERVICES, is_free

Server = Any  # Any: OracleServer


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


SERVERS = [name for name in SERVICES if name not in ("gemini", "recorded")]
REMOTE = "http://oracle.invalid/v1"


@pytest.mark.parametrize("options", [
    *(["--oracle", service] for service in SERVERS),
    *(["--oracle", service, "--price", "input=1,output=1"] for service in SERVERS),
    *(["--oracle", service, "--base-url", REMOTE, "--max-usd", "1"] for service in SERVERS),
    ["--oracle", "vllm", "--model", ""], ["--oracle", "vllm", "--model", "  "], ["--model", "", "--max-usd", "1"],
    ["--base-url", REMOTE, "--max-usd", "1"],
])  # fmt: skip
@pytest.mark.parametrize("way", [[], ["--dry-run"]])
def test_an_oracle_that_is_not_the_filters_own_wants_its_model_named(
    base: list[str], options: list[str], way: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, *options, *way])

    said = capsys.readouterr()
    assert code == 2
    assert "--model: not given" in said.err
    assert "gemini-2.5-flash" not in said.out


@pytest.mark.parametrize("options", [
    ["--oracle", "openai", "--model", "gemini-2.5-flash"], ["--oracle", "openai", "--model", "deepseek-chat"],
    ["--oracle", "openrouter", "--model", "gemini-2.5-flash"], ["--model", "deepseek-chat"],
    ["--oracle", "deepseek", "--model", "deepseek-chat", "--base-url", REMOTE],
    ["--model", "gemini-2.5-flash", "--base-url", REMOTE], ["--oracle", "openai", "--model", "m", "--base-url", REMOTE],
])  # fmt: skip
def test_a_price_is_one_of_the_service_that_is_asked(
    base: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, *options, "--max-usd", "1"])

    assert code == 2
    assert "its price is not known, expected --price" in capsys.readouterr().err


@pytest.mark.parametrize("url", [
    "localhost:8000", "localhost", "ftp://x/v1", "http://", "http://x:port/v1", "http://[::1", "http://x/v1?key=1",
    "http://x y/v1", "", "http://x/v1/chat/completions/",
])  # fmt: skip
def test_a_base_url_that_is_no_address_is_refused(
    base: list[str], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, "--oracle", "vllm", "--model", "m", "--base-url", url])

    assert code == 2
    assert "--base-url" in capsys.readouterr().err


@pytest.mark.parametrize("oracle", ["vllm", "ollama", "llama.cpp", "lmstudio", "openai"])
def test_a_server_on_this_machine_is_free_and_wants_no_budget(
    base: list[str], serve: Callable[..., Server], good: Any, oracle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, "--oracle", oracle, "--model", "m", "--base-url", f"{serve(good).url}/v1"])

    said = capsys.readouterr()
    assert code == 0
    assert "free:" in said.err
    assert "10 labelled" in said.out


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.0.0.3/v1", "http://[::1]:1/v1", "http://0.0.0.0/"]
)
def test_every_address_of_this_machine_is_free(url: str) -> None:
    assert is_free("openai", url)
    assert not is_free("gemini", url)


@pytest.mark.parametrize(("service", "url"), [
    ("openai", None), ("deepseek", None), ("openrouter", None), ("gemini", None),
    ("openai", "http://localhost.example/v1"), ("openai", "http://127.0.0.1.example/v1"), ("openai", "http://192.168.0.5/v1"),
])  # fmt: skip
def test_nothing_else_is_taken_to_be_free(service: str, url: str | None) -> None:
    assert not is_free(service, url)


def test_a_price_that_is_given_for_a_local_server_counts(
    base: list[str], serve: Callable[..., Server], good: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ["--oracle", "vllm", "--model", "m", "--base-url", f"{serve(good).url}/v1", "--price", "input=1,output=1"]

    without, within = main([*base, *server]), main([*base, *server, "--max-usd", "1"])

    said = capsys.readouterr()
    assert (without, within) == (2, 0)
    assert "--max-usd: not given" in said.err
    assert "cost      $0.0105" in said.out


def test_a_free_oracle_goes_on_with_a_ledger_that_has_paid(
    base: list[str], serve: Callable[..., Server], good: Any
) -> None:
    server = ["--oracle", "vllm", "--base-url", f"{serve(good).url}/v1"]
    main([*base, *server, "--model", "dear", "--price", "input=1,output=1", "--max-usd", "1"])

    code = main([*base, *server, "--model", "m", "--ledger", "labels/topic-1.ledger.sqlite", "--out", "o.jsonl"])

    assert code == 0


def test_a_limit_asks_about_the_first_articles_and_the_same_command_goes_on_with_the_rest(
    base: list[str], serve: Callable[..., Server], good: Any, tmp_path: Path
) -> None:
    server = serve(good)
    command = [*base, "--oracle", "vllm", "--model", "m", "--base-url", f"{server.url}/v1", "--canary", "2"]
    summary = tmp_path / "labels" / "topic-1.summary.json"
    labels = tmp_path / "labels" / "topic-1.jsonl"

    codes = [main([*command, "--limit", "3"])]
    first = (sorted(ask.number for ask in server.asks), json.loads(summary.read_text())["articles"])
    codes += [main(command), main([*command, "--limit", "3"])]

    assert codes == [0, 0, 0]
    assert first == ([0, 1, 2], first[1] | {"usable": 10, "labelled": 3, "open": 7})
    assert sorted(ask.number for ask in server.asks) == list(range(10))  # nothing twice
    assert len(labels.read_text().splitlines()) == 10  # a limit takes no label away


def test_a_limit_in_a_dry_run_is_a_limit_of_the_questions(base: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*base, "--limit", "4", "--repeats", "2", "--repeat-share", "1", "--dry-run"])

    assert "questions 8, of which 8 have no answer yet" in capsys.readouterr().out


FAULTS = {"nonsense": "not of the schema", "length": "cut short"}


@pytest.mark.parametrize(("fault", "temperature", "says"), [
    ("nonsense", "0", ["temperature 0", "--canary 0"]),
    ("nonsense", "0.7", ["--retry-dead", "--canary 0"]),
    ("nonsense", "auto", ["--retry-dead", "--canary 0"]),
    ("length", "0", ["--max-output-tokens", "temperature 0", "--canary 0"]),
])  # fmt: skip
def test_a_failed_canary_names_dead_letters_reason_and_next_command(
    base: list[str], serve: Callable[..., Server], capsys: pytest.CaptureFixture[str], fault: str, temperature: str,
    says: list[str]
) -> None:  # fmt: skip
    url = f"{serve(Answer('{', finish='length' if fault == 'length' else 'stop')).url}/v1"
    command = [*base, "--oracle", "vllm", "--model", "m", "--base-url", url, "--temperature", temperature]

    code = main([*command, "--retry-dead"])

    said = capsys.readouterr().out
    assert code == 1
    assert "10 dead letters" in said
    assert "topic-1.dead.jsonl" in said
    assert f"10 x {FAULTS[fault]}" in said
    assert [text for text in says if text not in said] == []
    assert ("once more: trainer label" in said) is (temperature != "0")


def test_the_command_that_a_failed_canary_names_goes_on(
    base: list[str], serve: Callable[..., Server], good: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda ask: Answer("no") if ask.number < 3 else good(ask))
    main([*base, "--oracle", "vllm", "--model", "m", "--base-url", f"{server.url}/v1"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "--canary 0" in line]

    code = main(shlex.split(line.partition("trainer ")[2]))

    assert code == 0
    assert "7 labelled, 3 dead letters" in capsys.readouterr().out
    assert len(server.asks) == 10  # nothing twice


def test_replies_that_are_all_alike_name_the_command_that_accepts_them(
    base: list[str], serve: Callable[..., Server], reply: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*base, "--oracle", "vllm", "--model", "m", "--base-url", f"{serve(Answer(reply('the same'))).url}/v1"])

    said = capsys.readouterr().out
    assert "all 10 replies were the same" in said
    assert "--canary 0" in said
    assert "--retry-dead" not in said


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"n": 4}, "--extra n: 4, expected 1"),
        ({"best_of": 2}, "--extra best_of: 2, expected 1"),
        ({"max_tokens": 100_000}, "--extra max_tokens: 100000, expected at most 1024"),
        ({"max_completion_tokens": "many"}, '--extra max_completion_tokens: "many", expected at most 1024'),
        ({"model": "a-larger-one"}, "--extra model: a field that trainer label itself sets"),
        ({"messages": []}, "--extra messages: a field that trainer label itself sets"),
    ],
)
def test_extra_fields_that_would_cost_more_than_is_reserved_are_refused(
    base: list[str], extra: dict[str, object], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*base, "--oracle", "vllm", "--model", "m", "--price", "input=1,output=1", "--max-usd", "1",
                 "--extra", json.dumps(extra)])  # fmt: skip

    assert code == 2
    assert problem in capsys.readouterr().err


def test_extra_fields_that_cost_nothing_more_are_sent(
    base: list[str], serve: Callable[..., Server], good: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(good)
    extra = {"max_tokens": 512, "n": 1, "seed": 7, "chat_template_kwargs": {"enable_thinking": False}}

    code = main([*base, "--oracle", "vllm", "--model", "m", "--price", "input=1,output=1", "--max-usd", "1",
                 "--base-url", f"{server.url}/v1", "--extra", json.dumps(extra)])  # fmt: skip

    assert code == 0
    assert extra.items() <= server.asks[0].body.items()


def test_a_question_that_may_be_longer_than_its_price_is_for_is_refused(
    base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"id": "long", "text": "12345 " * 40_000}) + "\n")
    command = [*base, "--articles", str(long), "--model", "gemini-2.5-pro", "--dry-run"]

    codes = [main([*command, "--max-characters", str(size)]) for size in (40_000, 300_000)]

    assert codes == [0, 2]
    assert "the price is known up to 200000" in capsys.readouterr().err


def test_a_run_that_brought_no_label_ends_with_1(base: list[str], serve: Callable[..., Server]) -> None:
    url = f"{serve(Answer('{}', status=500)).url}/v1"

    code = main([*base, "--oracle", "vllm", "--model", "m", "--base-url", url, "--limit", "1", "--attempts", "1"])

    assert code == 1
