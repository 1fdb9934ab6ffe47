"""A small filter, articles to label, and jobs that label them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters.prompt import reply_schema
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.labelling.driver import BatchLimits, Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Money, Questions, prepare
from distillery_trainer.labelling.labeller import LabellingResult, label
from distillery_trainer.oracle.protocol import Settings
from distillery_trainer.oracle.services import Access

PRICE = "input=1,cached=0.1,output=10,batch=0.5"  # of the servers' 1,000 tokens in and 50 out: $0.0015 a call
QUICK = Pace(
    patience=Patience(first_wait_s=0.01, longest_wait_s=0.05), batch_limits=BatchLimits(poll_s=0.01), timeout_s=5
)
Server = Any  # Any: OracleServer


@pytest.fixture
def topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the filter that `trainer init` writes: topic/v1."""
    monkeypatch.setenv("DISTILLERY_FILTERS", str(tmp_path / "filters"))
    return init_filter("topic")


@pytest.fixture
def reply(spec: FilterSpec) -> Callable[..., str]:
    """Writes a reply as an obedient oracle would: the same scores for the same message, other scores for another."""
    properties: Any = reply_schema(spec)["properties"]  # Any: nested JSON

    def write(message: str, **changes: object) -> str:
        draw = hashlib.sha256(message.encode()).digest()
        scores = {name: draw[place] % 21 / 2 for place, name in enumerate(spec.dimension_names)}
        return json.dumps({name: scores.get(name, []) for name in properties} | changes)

    return write


@pytest.fixture
def good(reply: Callable[..., str]) -> Callable[[Any], Any]:  # Any: Ask and Answer
    """The script of a server that always answers well."""
    from oracle_server import Answer

    return lambda ask: Answer(reply(ask.message))


@pytest.fixture
def articles(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of N articles, a0 to aN, each with a text of its own."""

    def write(count: int, **fields: object) -> Path:
        path = tmp_path / f"articles-{count}.jsonl"
        rows = [{"id": f"a{i}", "title": f"Title {i}", "text": f"This is article number {i}."} for i in range(count)]
        path.write_text("".join(json.dumps(row | fields) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def job(tmp_path: Path, topic: Path) -> Callable[..., LabelJob]:
    """Makes a job for a server and a file of articles; keyword arguments replace its parts."""

    def make(server: Server, file: Path, *, service: str = "vllm", max_usd: float = 5.0, **changes: Any) -> LabelJob:
        base = server.url if service == "gemini" else f"{server.url}/v1"
        access = Access(service, "a-model", changes.pop("settings", Settings()), base)
        out = tmp_path / changes.pop("out", "out.jsonl")
        parts = {"questions": Questions(canary=0), "pace": QUICK} | changes
        return LabelJob(topic, (file,), out, out.with_suffix(".ledger.sqlite"), access, Money(max_usd, PRICE), **parts)

    return make


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[LabelJob], LabellingResult]:
    """Runs a job to its end."""
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-that-nobody-may-see")
    return lambda job: label(prepare(job), lambda _: None)


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """The rows of a JSON lines file."""
    return lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.fixture
def base(topic: Path, articles: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command for ten articles, without an oracle; its files go to labels/ of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return ["label", "--filter", "topic", "--articles", str(articles(10))]
