"""`trainer label`, killed at random moments, labels every article once; only calls under way are paid twice."""

import json
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from label_worker import Worker
from oracle_server import Answer

CONCURRENCY = 8
CALL_USD = 0.0015
LIKELY_WITHIN = 0.1  # articles differ in length
Server = Any  # Any: OracleServer


@dataclass(frozen=True)
class Figures:
    """What was measured: calls are those that the server took money for."""

    articles: int
    kills: int
    paid_calls: int
    asked_twice: int
    lost: int
    labelled: list[str]
    dead: list[str]
    known_usd: float
    server_usd: float
    unsure_usd: float
    likely_usd: float


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker({}) as worker:
        yield worker


def command_for(topic: Path, file: Path, out: Path, server: Server) -> list[str]:
    files = ["--filter", str(topic), "--articles", str(file), "--out", str(out)]
    oracle = ["--oracle", "vllm", "--base-url", f"{server.url}/v1", "--model", "m", "--price", "input=1,output=10"]
    return ["label", *files, *oracle, "--max-usd", "20", "--timeout", "5", "--concurrency", str(CONCURRENCY)]


@pytest.fixture
def killed(
    serve: Callable[..., Server], reply: Callable[..., str], articles: Callable[..., Path], topic: Path, worker: Worker
) -> Callable[[int, int], Figures]:
    """Labels articles, with the command killed so many times: a server that fails in all ways, at moments by chance."""

    def run(count: int, kills: int) -> Figures:
        chance = random.Random(count)
        server = serve(_script(reply))
        file = articles(count)
        out = file.with_name("killed.jsonl")
        command = command_for(topic, file, out, server)
        happened = Counter()
        moments = sorted(chance.sample(range(1, count // 2), kills))  # later, the command may end before it is killed
        for moment in moments:
            pid = worker.start(command)
            _until(lambda moment=moment: len({ask.message for ask in server.asks}) >= moment)
            time.sleep(chance.uniform(0, 0.03))
            happened[worker.kill(pid)] += 1
        code = worker.run(command)
        assert (happened, code) == (Counter({-signal.SIGKILL: kills}), 0)
        return _figures(server, out, count, kills)

    return run


def _script(reply: Callable[..., str]) -> Callable[[Any], Answer]:  # Any: Ask
    """Of a hundred articles some are answered by nonsense, by too many requests, by a fault, in parts or too late."""
    first = {
        3: Answer(status=429, headers={"Retry-After": "0.02"}),
        5: Answer(status=503, headers={"Retry-After": "0"}),
        7: Answer("I would rather not."),
        11: Answer('{"relevance": 5, "evid', finish="length"),
        13: Answer(status=400, error={"error": {"message": "too long"}}),
    }

    def script(ask: Any) -> Answer:  # Any: Ask
        answer = first.get(ask.number % 50)
        if answer is not None and (answer.status not in (429, 503) or ask.times == 1):
            return answer
        return Answer(reply(ask.message), delay_s=0.01)

    return script


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(4000):
        if is_so():
            return
        time.sleep(0.005)
    raise AssertionError("the server is not asked any more")


def _figures(server: Server, out: Path, count: int, kills: int) -> Figures:
    paid = Counter(ask.message for ask in server.asks if server.script(ask).status == 200)
    with sqlite3.connect(out.with_suffix(".ledger.sqlite")) as ledger:
        (lost,) = ledger.execute("SELECT count(*) FROM outcomes WHERE kind = 'lost'").fetchone()
        sums = dict(ledger.execute("SELECT is_known, sum(cost_usd) FROM outcomes GROUP BY is_known").fetchall())
    rows = [[json.loads(line)["id"] for line in path.read_text().splitlines()] for path in
            (out, out.with_suffix(".dead.jsonl"))]  # fmt: skip
    return Figures(
        count,
        kills,
        paid.total(),
        paid.total() - len(paid),
        lost,
        *rows,
        sums[1],
        paid.total() * CALL_USD,
        sums.get(0, 0),
        json.loads(out.with_suffix(".summary.json").read_text())["cost_usd"]["unsure_likely"],
    )


def check(figures: Figures) -> None:
    wanted = [f"a{i}" for i in range(figures.articles)]
    unanswerable = [f"a{i}" for i in range(figures.articles) if i % 50 in (7, 11, 13)]
    assert figures.dead == unanswerable
    assert figures.labelled == [name for name in wanted if name not in unanswerable]
    assert figures.paid_calls <= figures.articles + figures.lost
    assert figures.asked_twice <= figures.lost <= figures.kills * CONCURRENCY
    assert figures.known_usd <= figures.server_usd <= figures.known_usd + figures.unsure_usd + 1e-9
    assert figures.likely_usd == pytest.approx(figures.lost * CALL_USD, rel=LIKELY_WITHIN)


def test_an_article_is_labelled_once_or_a_dead_letter_however_often_the_command_is_killed(
    killed: Callable[[int, int], Figures],
) -> None:
    check(killed(120, 3))


def test_the_first_ctrl_c_waits_for_the_calls_that_are_paid_and_writes_what_is_there(
    serve: Callable[..., Server], reply: Callable[..., str], articles: Callable[..., Path], topic: Path, worker: Worker
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), delay_s=0.02))
    file = articles(300)
    out = file.with_name("interrupted.jsonl")
    pid = worker.start(command_for(topic, file, out, server))
    _until(lambda: len(server.asks) >= 40)

    code = worker.kill(pid, signal.SIGINT)

    assert code == 130
    assert 40 <= len(server.asks) < 300
    assert len(out.read_text().splitlines()) == len(server.asks)
    assert json.loads(out.with_suffix(".summary.json").read_text())["stop"]["reason"] == "interrupted"


@pytest.mark.slow
def test_a_thousand_articles_and_ten_kills(killed: Callable[[int, int], Figures]) -> None:
    figures = killed(1000, 10)

    print(json.dumps({name: len(value) if isinstance(value, list) else value for name, value in vars(figures).items()}))
    check(figures)
