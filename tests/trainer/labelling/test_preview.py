"""`trainer prompt`: exactly what an oracle is sent about an article, and nothing is asked."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle_server import OracleServer as Server

from distillery_trainer.cli.main import main


@pytest.fixture
def prompt(base: list[str]) -> list[str]:
    """The command that shows the prompt for the file of ten articles."""
    return ["prompt", *base[1:3], "--article", base[-1]]


def test_a_shown_prompt_is_exactly_what_a_server_is_sent(
    base: list[str], prompt: list[str], serve: Callable[..., Server], good: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(good)
    oracle = ["--oracle", "vllm", "--model", "m", "--base-url", f"{server.url}/v1", "--extra", '{"top_k": 1}']
    main([*base, *oracle, "--limit", "1"])
    capsys.readouterr()

    code = main([*prompt, *oracle, "--json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert shown["body"] == server.asks[0].body
    assert (shown["url"], shown["article"]) == (f"{server.url}/v1/chat/completions", "a0")


def test_a_shown_prompt_of_gemini_has_the_same_instruction_message_and_settings_as_a_call(
    base: list[str], prompt: list[str], serve: Callable[..., Server], good: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-that-nobody-may-see")
    server = serve(good)
    oracle = ["--base-url", server.url, "--model", "m", "--price", "input=1,output=1"]
    main([*base, *oracle, "--limit", "1", "--max-usd", "1"])
    capsys.readouterr()

    main([*prompt, *oracle, "--json"])

    shown, ask = json.loads(capsys.readouterr().out), server.asks[0]
    assert (shown["instruction"], shown["message"]) == (ask.instruction, ask.message)
    assert f"POST {shown['url'].removeprefix(server.url)}" in server.requests
    assert shown["body"]["contents"] == ask.body["contents"]
    assert shown["body"]["generationConfig"].keys() == ask.body["generationConfig"].keys()


def test_a_prompt_is_shown_without_key_price_or_article(prompt: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*prompt[:3], "--oracle", "openai", "--model", "gpt-99"])

    said = capsys.readouterr().out
    assert code == 0
    assert "the article's title and text" in said
    assert any(line.startswith("cost") and "not known" in line for line in said.splitlines())


def test_a_prompt_says_what_the_call_costs(prompt: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*prompt, "--json"])
    shown = json.loads(capsys.readouterr().out)

    main(prompt)

    said = capsys.readouterr().out
    assert 0 < shown["cost_usd"]["likely"] < shown["cost_usd"]["most"]
    assert f"about ${shown['cost_usd']['likely']:.6f}" in said
    assert shown["instruction"] in said
    assert shown["message"] in said


ARTICLE = {"id": "x", "title": "T", "text": "A text."}


@pytest.mark.parametrize(
    "content", [json.dumps(ARTICLE), json.dumps(ARTICLE, indent=1), f"\n{json.dumps(ARTICLE)}\n{{"]
)
def test_an_article_for_a_prompt_is_the_first_of_a_file_or_of_the_standard_input(
    prompt: list[str], content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.json").write_text(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))

    codes = [main([*prompt[:3], "--article", source, "--json"]) for source in ("one.json", "-")]

    from_file, from_input = capsys.readouterr().out.split("\n}\n")[:2]
    assert codes == [0, 0]
    assert from_file == from_input


@pytest.mark.parametrize("content", ["", "[]", "{}", "no JSON", json.dumps({"id": "x"}),
                                     json.dumps(ARTICLE | {"title": "", "text": "<b></b>"})])  # fmt: skip
def test_what_is_no_article_gives_no_prompt(
    prompt: list[str], content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.json").write_text(content)

    code = main([*prompt[:3], "--article", str(tmp_path / "one.json")])

    assert code == 2
    assert "one.json" in capsys.readouterr().err
