"""Labelling by a real llama.cpp server, whose grammar alone keeps a model of random weights to the schema."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_trainer.cli.main import main

pytestmark = pytest.mark.slow


def test_a_model_of_random_weights_gives_nothing_but_valid_replies(
    topic: Path, articles: Callable[..., Path], rows: Any, tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="writes the model; pip install gguf")
    pytest.importorskip("xllamacpp", reason="a llama.cpp server; pip install xllamacpp")
    from tiny_gguf import llama_server, write_model

    write_model(tmp_path / "tiny.gguf")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with llama_server(tmp_path / "tiny.gguf", port) as url:
        code = main(["label", "--filter", str(topic), "--articles", str(articles(14)), "--oracle", "llama.cpp",
                     "--model", "tiny", "--base-url", f"{url}/v1", "--out", str(tmp_path / "out.jsonl"),
                     "--concurrency", "1", "--timeout", "600"])  # fmt: skip

    summary = json.loads((tmp_path / "out.summary.json").read_text())
    assert code == 0
    assert summary["canary"]["valid"] == len(rows(tmp_path / "out.jsonl")) == 14
