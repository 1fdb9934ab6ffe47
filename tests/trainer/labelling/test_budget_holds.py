"""The budget holds whatever the texts are: servers that count a token for every byte, at any budget and concurrency."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from label_worker import Worker
from oracle_server import Answer

from distillery_trainer.labelling.driver import BatchLimits, Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Questions
from distillery_trainer.labelling.labeller import LabellingResult

INPUT_USD, OUTPUT_USD = 1e-6, 10e-6  # of conftest's PRICE
PACE = {"patience": Patience(first_wait_s=0.01, longest_wait_s=0.02), "batch_limits": BatchLimits(poll_s=0.01)}
Serve = Callable[..., Any]  # Any: OracleServer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]


class Till:
    """A server's script that counts as a byte-level tokenizer at its worst does, and adds up what it charged."""

    def __init__(self, reply: Callable[..., str], seed: int = 0, faults: float = 0.0) -> None:
        self._reply = reply
        self._chance = random.Random(seed)
        self._faults = faults
        self._factor = 1.0
        self.usd = 0.0

    def __call__(self, ask: Any) -> Answer:  # Any: Ask
        schema = ask.body.get("response_format") or ask.body["generationConfig"]["responseSchema"]
        read = len(ask.instruction.encode()) + len(ask.message.encode()) + len(json.dumps(schema)) + 30
        fields = ask.body.get("generationConfig", {})
        allowed = ask.body.get("max_tokens") or fields["maxOutputTokens"]
        written = self._chance.choice([allowed // 2, allowed, allowed, allowed])
        factor = 0.5 if ask.kind == "batch" else 1.0
        self.usd += factor * (read * INPUT_USD + written * OUTPUT_USD)
        lost = self._chance.random() < self._faults
        return Answer(self._reply(ask.message), read, written, drop=lost and ask.kind != "batch", missing=lost)


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., Path]:
    """Writes N articles of figures, hexadecimal strings and rare characters, at different lengths."""

    def write(count: int, length: int, seed: int = 0) -> Path:
        chance = random.Random(seed)
        path = tmp_path / "tables.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for number in range(count):
                alphabet = chance.choice(["0123456789", "0123456789abcdef", "漢字仮名", "éàüß", "\ufdfa ."])
                text = "".join(chance.choices(alphabet, k=length))
                row = {
                    "id": f"a{number}",
                    "title": f"Table {number}",
                    "text": f"This is article number {number}. {text}",
                }
                stream.write(json.dumps(row) + "\n")
        return path

    return write


def test_tables_of_figures_cost_no_more_than_the_budget(
    serve: Serve, reply: Any, tables: Any, job: Job, run: Run
) -> None:
    till = Till(reply)

    done = run(job(serve(till), tables(30, 12_000), max_usd=0.25))

    assert done.stop is not None
    assert done.stop.reason == "budget"
    assert 0.1 < till.usd <= 0.25


@pytest.mark.parametrize("seed", [0, 1, 5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 16))])
def test_no_budget_is_exceeded_at_any_concurrency_in_either_mode_whatever_is_lost(
    serve: Serve, reply: Any, tables: Any, job: Job, run: Run, seed: int
) -> None:
    chance = random.Random(seed)
    max_usd, is_batch = chance.uniform(0.1, 0.5), seed % 3 == 2
    pace = Pace(concurrency=chance.randint(1, 16), timeout_s=5, **PACE)  # type: ignore[arg-type] # a dict of its fields
    till = Till(reply, seed, faults=0.2)
    file, questions = tables(30, chance.randint(1000, 20_000), seed), Questions(canary=chance.choice([0, 5]))
    service = "gemini" if is_batch else "vllm"
    wanted = job(serve(till), file, service=service, max_usd=max_usd, pace=pace, is_batch=is_batch, questions=questions)

    for _ in range(2):  # a second command has no more money than the first
        run(wanted)

    assert 0 < till.usd <= max_usd


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker({"GEMINI_API_KEY": "a-key"}) as worker:
        yield worker


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_no_budget_is_exceeded_however_often_the_command_is_killed(
    serve: Serve, reply: Any, tables: Any, topic: Path, tmp_path: Path, worker: Worker, seed: int
) -> None:
    chance = random.Random(seed)
    till = Till(reply, seed, faults=0.1)
    server, max_usd, is_batch = serve(till, polls=0), chance.uniform(0.1, 0.6), seed % 3 == 2
    oracle = ["gemini", "--base-url", server.url] if is_batch else ["vllm", "--base-url", f"{server.url}/v1"]
    file = tables(40, chance.randint(1000, 20_000), seed)
    command = ["label", "--filter", str(topic), "--articles", str(file), "--out", str(tmp_path / "out.jsonl"),
               "--oracle", *oracle, "--model", "m", "--price", "input=1,output=10,batch=0.5", "--canary", "0",
               "--max-usd", str(max_usd), "--concurrency", str(chance.randint(1, 16)), "--attempts", "1",
               *(["--batch"] if is_batch else [])]  # fmt: skip

    for _ in range(4):
        pid, before = worker.start(command), len(server.requests)
        until(lambda before=before: len(server.requests) > before + chance.randint(0, 6))
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
        worker.wait()
    worker.run(command)

    assert 0 < till.usd <= max_usd


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(400):  # where no money is left, nothing is asked and there is nothing to wait for
        if is_so():
            return
        time.sleep(0.005)
