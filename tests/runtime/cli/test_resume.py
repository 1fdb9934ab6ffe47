"""Results that an interruption leaves are kept, and resumed to the bytes of a run without one."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from distillery_runtime.bundles.panel import load_panel
from distillery_runtime.cli import score as command_score
from distillery_runtime.cli.main import main
from distillery_runtime.cli.score import identity_of
from distillery_runtime.files.resumable import open_output, parts_of

FIXTURE_BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundle-v1"
WORDS = ["solar", "wind", "casino", "river", "storage", "grid", "school", "art"]
MANY = 400  # more than three chunks


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Articles of many lengths, some of them invalid, some blocked."""
    chance = random.Random(0)
    found = []
    for number in range(MANY):
        text = " ".join(chance.choices(WORDS, k=chance.randint(0, 60)))
        found.append("not json" if number % 97 == 5 else json.dumps({"id": str(number), "text": text}))
    return found


@pytest.fixture
def articles(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "articles.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def command(articles: Path, out: Path) -> list[str]:
    bundles = ["--bundle", str(FIXTURE_BUNDLE), "--bundle", str(FIXTURE_BUNDLE)]
    return ["score", "--threads", "1", *bundles, str(articles), "--out", str(out)]


@pytest.fixture
def arguments(articles: Path, tmp_path: Path) -> list[str]:
    return command(articles, tmp_path / "out.jsonl")


@pytest.fixture(scope="module")
def whole(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run without an interruption writes."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "articles.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert main(command(folder / "articles.jsonl", folder / "out.jsonl")) == 0
    return (folder / "out.jsonl").read_bytes()


def interrupted(arguments: list[str], monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> int:
    """Runs the command until it has made so many lines, then raises an error in it."""
    made = iter(range(10**9))

    def line(score: object) -> str:
        if next(made) == after:
            raise error
        return original(score)

    original = command_score.json_line
    with monkeypatch.context() as patch:
        patch.setattr(command_score, "json_line", line)
        return main(arguments)


@pytest.mark.parametrize("after", [1, 255, 257, 2 * MANY - 1])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(
    arguments: list[str], whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    assert interrupted(arguments, monkeypatch, after, KeyboardInterrupt()) == 130
    assert not (tmp_path / "out.jsonl").exists()

    assert main([*arguments, "--resume"]) == 0

    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert not list(tmp_path.glob(".out*"))


def test_a_torn_last_line_is_cut_off(arguments: list[str], whole: bytes, tmp_path: Path) -> None:
    part, note = parts_of(tmp_path / "out.jsonl")
    with suppress(ZeroDivisionError), open_output(tmp_path / "out.jsonl", str, identity(arguments)) as output:
        output.stream.write(whole.decode()[:40_000])
        raise ZeroDivisionError
    assert part.exists()
    assert note.exists()

    assert main([*arguments, "--resume"]) == 0

    assert (tmp_path / "out.jsonl").read_bytes() == whole


def identity(arguments: list[str]) -> dict[str, object]:
    bundles = [arguments[i + 1] for i, name in enumerate(arguments) if name == "--bundle"]
    return identity_of(load_panel(bundles, threads=1).scorers, Path(arguments[-3]))


def test_without_a_part_to_resume_a_run_begins(arguments: list[str], whole: bytes, tmp_path: Path) -> None:
    assert main([*arguments, "--resume"]) == 0

    assert (tmp_path / "out.jsonl").read_bytes() == whole


def test_a_note_that_is_no_text_is_of_nothing(
    arguments: list[str], whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part, note = parts_of(tmp_path / "out.jsonl")
    part.write_bytes(whole[:100])
    note.write_bytes(b"\xff\xfe")

    assert main(arguments) == 0

    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("change", ["articles", "bundle", "fewer"])
def test_results_of_something_else_are_not_continued(
    arguments: list[str], articles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    interrupted(arguments, monkeypatch, 601, KeyboardInterrupt())
    part = parts_of(tmp_path / "out.jsonl")[0]
    kept = part.read_bytes()
    if change == "articles":
        articles.write_bytes(articles.read_bytes().replace(b"wind", b"sand"))
    elif change == "fewer":
        articles.write_bytes(b"\n".join(articles.read_bytes().split(b"\n")[:100]))
    else:
        arguments = arguments[:3] + arguments[5:]

    assert main([*arguments, "--resume"]) == 2

    assert "--resume" in capsys.readouterr().err
    assert part.read_bytes() == kept


def test_articles_from_a_pipe_are_compared_by_id(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["score", "--threads", "1", "--bundle", str(FIXTURE_BUNDLE), "--out", str(tmp_path / "out.jsonl")]
    feed(monkeypatch, lines)
    assert interrupted(arguments, monkeypatch, 300, KeyboardInterrupt()) == 130

    feed(monkeypatch, [lines[1], lines[0], *lines[2:]])
    assert main([*arguments, "--resume"]) == 2
    feed(monkeypatch, lines)
    assert main([*arguments, "--resume"]) == 0

    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == MANY


def feed(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))


def test_without_resume_a_part_is_replaced_and_named(
    arguments: list[str], whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    interrupted(arguments, monkeypatch, 601, KeyboardInterrupt())
    capsys.readouterr()

    assert main(arguments) == 0

    assert "lines of a process that was interrupted are replaced" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_bytes() == whole


def test_a_part_of_a_living_process_is_left_alone(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_output(tmp_path / "out.jsonl", str, {}) as output:
        assert main(arguments) == 2
        assert main([*arguments, "--resume"]) == 2
        output.stream.write("mine\n")

    assert "another process is writing it" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "mine\n"


def test_nothing_is_left_of_a_run_that_made_no_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interrupted(arguments, monkeypatch, 0, KeyboardInterrupt()) == 130

    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("more", [["--format", "table"], ["--out", "/dev/null"]])
def test_only_a_file_of_json_lines_can_be_resumed(arguments: list[str], more: list[str]) -> None:
    assert main([*arguments, *more, "--resume"]) == 2
    assert main([*arguments[:-2], "--resume"]) == 2


def test_a_bad_bundle_or_input_leaves_the_part_for_another_try(
    arguments: list[str], articles: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(arguments, monkeypatch, 601, KeyboardInterrupt())
    part = parts_of(tmp_path / "out.jsonl")[0]
    kept = part.read_bytes()
    content = articles.read_bytes()

    articles.write_bytes(b"id,title,text\n1,a,b\n")
    assert main(arguments) == 2
    assert main([*arguments, "--bundle", "nowhere"]) == 2
    articles.write_bytes(content)

    assert part.read_bytes() == kept
    assert main([*arguments, "--resume"]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == whole


class Process:
    """The command in a process of its own."""

    def __init__(self, arguments: list[str]) -> None:
        self.out = Path(arguments[-1])
        line = [sys.executable, "-m", "distillery_runtime", *arguments, "--resume"]
        self._process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)

    def lines(self) -> int:
        """How many lines are written."""
        part = parts_of(self.out)[0]
        return part.read_bytes().count(b"\n") if part.exists() else 0

    def end_by(self, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal; gives the exit code and what was said."""
        self._process.send_signal(number)
        _, said = self._process.communicate(timeout=60)
        return self._process.returncode, said

    def wait_for(self, lines: int) -> bool:
        """Waits until so many lines are written; whether it is still running."""
        while self._process.poll() is None:
            if self.lines() >= lines:
                return True
            time.sleep(0.002)
        return False


def met_at_work(arguments: list[str], lines: int) -> Process:
    """A command that has written so many lines and still runs; on a busy machine it may be done before it is met."""
    for _ in range(50):
        process = Process(arguments)
        if process.wait_for(lines):
            return process
        process.out.unlink()
    raise AssertionError("the command is always done before it is met")


@pytest.fixture
def slow_arguments(arguments: list[str], articles: Path, lines: list[str]) -> Iterator[list[str]]:
    """The command on enough articles to be met at work."""
    articles.write_text("\n".join(lines * 5), encoding="utf-8")
    return arguments


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_keeps_what_is_done(slow_arguments: list[str], tmp_path: Path, number: signal.Signals) -> None:
    process = met_at_work(slow_arguments, 300)

    code, said = process.end_by(number)
    kept = process.lines()

    assert kept >= 300
    assert code == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in said
    assert main([*slow_arguments, "--resume"]) == 0
    assert main([*slow_arguments[:-1], str(tmp_path / "whole.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kills_at_random_moments_change_no_byte(slow_arguments: list[str], tmp_path: Path, seed: int) -> None:
    chance, kills = random.Random(seed), 0
    signals = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL]
    process = met_at_work(slow_arguments, 1)
    while kills == 0 or process.wait_for(process.lines() + chance.randint(1, 4000)):
        process.end_by(chance.choice(signals))
        kills += 1
        process = Process(slow_arguments)

    assert main([*slow_arguments[:-1], str(tmp_path / "whole.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_signal_that_is_ignored_stays_ignored(bundle: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as nohup does with SIGHUP
    try:
        os.kill(os.getpid(), signal.SIGTERM)

        assert main(["inspect", str(bundle)]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
