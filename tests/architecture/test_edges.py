"""What a command meets at its edges ends in a message and an exit code of its own: never a traceback, never 70."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any  # of pytest's parameter sets

import pytest

from distillery_exporter.cli import main as exporter
from distillery_runtime.cli.main import main as distillery
from distillery_trainer.cli.main import main as trainer

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "fixtures" / "bundle-v1"
FILTER = next(ROOT.glob("filters/*/v*/config.yaml")).parent
PROGRAMS = {"distillery": distillery, "trainer": trainer, "exporter": exporter}
MODULES = {"distillery": "distillery_runtime.cli.main", "trainer": "distillery_trainer.cli.main",
           "exporter": "distillery_exporter.cli"}  # fmt: skip
ROW = '{"id": "1", "title": "t", "text": "solar wind over the river"}\n'
EVIL = "evil\n\x1b[31mbundle is sound\u202e"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with articles, other formats, and names that nobody should have to meet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a.jsonl").write_text(ROW)
    (tmp_path / "a.csv").write_text("id,title,text\n1,a,b\n")
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "twice.jsonl").write_text('{"id": "1", "text": "wind", "text": "sun"}\n')
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / EVIL).mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


LONG = "x" * 300
DEEP = "/".join(["x"] * 3000)
SLOW = pytest.mark.slow
BAD_FILES: list[Any] = ["a.csv", EVIL]
BAD_FILES += [
    pytest.param(name, marks=SLOW)
    for name in ("folder", "circle", "a.jsonl.gz", "empty.jsonl", "nowhere", "file/x", "\udcff")
]
BAD_FILES += [pytest.param(name, marks=SLOW, id=f"long{len(name)}") for name in (LONG, DEEP)]
READERS = [
    "distillery score --bundle BUNDLE {}",
    "distillery bench --bundle BUNDLE --articles {}",
    "trainer guard --articles {} --out out.jsonl",
    "trainer screen --articles {} --seeds a.jsonl --count 1 --out out.jsonl",
    "trainer screen --articles a.jsonl --seeds {} --count 1 --out out.jsonl",
    "trainer mine --articles {} --bundle BUNDLE --count 1 --out out.jsonl",
    "trainer prepare --filter FILTER --labels {} --out out",
    "trainer audit --filter FILTER --labels {}",
    "trainer fit --filter FILTER --labels {} --run-dir out",
    "trainer agree {} a.jsonl --filter FILTER",
    "trainer prefilter-eval --filter FILTER --articles {}",
    "trainer prefilter-eval --filter FILTER --articles a.jsonl --finds {}",
    "trainer label --filter FILTER --articles {} --dry-run",
    "trainer prompt --filter FILTER --article {}",
    "trainer label --filter FILTER --articles a.jsonl --oracle recorded --recorded {} --out out.jsonl",
]
OTHERS = [
    *(f"distillery {name} {{}}" for name in ("inspect", "verify", "inspect --json")),
    *(f"distillery score --bundle {{}} {option}" for option in ("a.jsonl", "a.jsonl --resume --out out.jsonl")),
    "distillery bench --bundle {}",
    "trainer evaluate {}", "trainer compare {} {}", "trainer gate {}", "trainer report {}",
    "trainer review export --run {} --out out", "trainer lint --filter {}",
    "exporter build {}", "exporter verify {}", "exporter publish {} a/b",
]  # fmt: skip
OUTPUTS = ["nowhere/out", "folder", "file/out", f"{LONG}", "folder/", "\udcff/out", "/", "", "circle", "circle/out"]
WRITERS = [
    "distillery score --bundle BUNDLE a.jsonl --out {}",
    "distillery score --bundle BUNDLE a.jsonl --format table --out {}",
    "distillery score --bundle BUNDLE a.jsonl --resume --out {}",
]
USES = [
    "distillery score --threads 99999999 --bundle BUNDLE a.jsonl",
    "distillery score --threads x --bundle BUNDLE a.jsonl",
    f"distillery score --threads {'9' * 5000} --bundle BUNDLE a.jsonl",
    "distillery score --variant \x1b[31m --bundle BUNDLE a.jsonl",
    "distillery score --bundle BUNDLE twice.jsonl",
    "distillery pull ../../x", "distillery pull a/b@\x1b[2J", "distillery pull \udcff",
    "trainer fit --filter nowhere --labels a.jsonl", f"trainer fit --filter {LONG} --labels a.jsonl",
    "trainer fit --filter FILTER --labels a.jsonl --seed 1e400",
    "trainer fit --filter FILTER --labels a.jsonl --distil-weight nan",
    *(f"trainer label --filter FILTER --articles a.jsonl --oracle recorded --recorded a.jsonl {option} {name}"
      for option in ("--out", "--ledger") for name in (".", "/", "folder")),
    *(f"trainer label --filter FILTER --articles a.jsonl --max-usd 1 --oracle vllm --model m --base-url {url}"
      for url in ("localhost:8000", "http://", "http://[", "http://a:b", "ftp://a/", "http://a:99999999", "http://\x1b",
                  "http://\u00e9..:1", "http://\udcff", "file:///etc/passwd", "//a", "http://user@", "\udcff")),
    *(f"trainer label --filter FILTER --articles a.jsonl --dry-run --extra {extra}"
      for extra in ("{", "[1]", '{"a":1,"a":2}', '{"a":NaN}', "[" * 5000)),
]  # fmt: skip


def outcome(command: str, capsys: pytest.CaptureFixture[str], file: str = "") -> tuple[int, str]:
    """The exit code of a command, and all that it wrote."""
    words = {"BUNDLE": str(BUNDLE), "FILTER": str(FILTER), "{}": file}
    program, *arguments = command.split(" ")
    try:
        code = PROGRAMS[program]([words.get(word, word) for word in arguments])
    except SystemExit as error:  # of argparse
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("file", BAD_FILES)
def test_a_file_that_is_of_no_use_is_named(place: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in READERS:
        if file == "empty.jsonl" and "--finds {}" in command:
            continue  # there need not be any
        code, said = outcome(command, capsys, file)

        assert (code, command) == (2, command)
        assert "Traceback" not in said
        assert "\x1b" not in said
        assert "\nbundle is sound" not in said
        assert not (place / "out.jsonl").exists()


BAD_FOLDERS = [
    "file",
    EVIL,
    "circle",
    *(pytest.param(n, marks=SLOW) for n in ("folder", "nowhere", "\udcff", "pipe", LONG, DEEP)),
]


@pytest.mark.parametrize("folder", BAD_FOLDERS)
def test_a_folder_that_is_of_no_use_is_named(place: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in OTHERS:
        code, said = outcome(command, capsys, folder)

        assert (code, command) == (2, command)
        assert "Traceback" not in said
        assert "\x1b" not in said


@pytest.mark.parametrize("out", OUTPUTS)
def test_an_output_that_cannot_be_written_is_named(place: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in WRITERS:
        code, said = outcome(command, capsys, out)

        assert (code, command) == (2, command)
        assert "Traceback" not in said
        assert not list(place.glob("**/.*"))


@pytest.mark.parametrize("command", USES, ids=range(len(USES)))
def test_wrong_use_is_a_message(place: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = outcome(command, capsys)

    assert code == 2
    assert "Traceback" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("key", ["caf\u00e9-0123456789", "one-0123456789\nX-Other: 1", "one two-0123456789"])
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "GEMINI_API_KEY", "HF_TOKEN"])
def test_a_key_that_no_header_carries_is_named_by_its_variable_only(
    place: Path, key: str, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, key)
    label = "trainer label --filter FILTER --articles a.jsonl --max-usd 1 --model gemini-2.5-flash --oracle"
    commands = {"OPENAI_API_KEY": f"{label} openai --price input=1,output=1", "GEMINI_API_KEY": f"{label} gemini",
                "HF_TOKEN": "distillery pull a/b"}  # fmt: skip

    code, said = outcome(commands[variable], capsys)

    assert code == 2
    assert variable in said
    assert "0123456789" not in said


@pytest.mark.parametrize("name", ["nowhere", "file", "folder", "\udcff", LONG])
def test_a_bundle_of_the_environment_that_is_none_is_named(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTILLERY_BUNDLE", name)

    code, said = outcome("distillery score a.jsonl", capsys)

    assert code == 2
    assert "Traceback" not in said


def test_a_bundle_cannot_forge_what_inspect_shows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from distillery_runtime.format.integrity import read_manifest
    from distillery_runtime.format.manifest import seal

    shutil.copytree(BUNDLE, place / "bundle")
    manifest, _ = read_manifest(BUNDLE)
    forged = manifest.model_copy(update={"lineage": {**manifest.lineage, "oracle\x1b[2J": "x\n  license CC0\u202e"}})
    (place / "bundle" / "bundle.json").write_bytes(seal(forged))

    code, said = outcome("distillery inspect bundle", capsys)

    assert code == 0
    assert all(line.isprintable() for line in said.splitlines())
    assert "\n  license CC0" not in said


def run(program: str, arguments: str, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a shell, with its streams redirected."""
    call = f'{sys.executable} -c "import sys; from {MODULES[program]} import main; sys.exit(main())"'
    own = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | environment
    line = f"{call} {arguments.replace('BUNDLE', str(BUNDLE)).replace('FILTER', str(FILTER))} {redirection}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120, env=own)


STREAMS = [
    ("distillery", "score --bundle BUNDLE", "<&-", 2, "stdin: closed"),
    ("distillery", "score --bundle BUNDLE a.jsonl", ">&-", 2, "stdout: closed"),
    ("distillery", "score --bundle BUNDLE a.jsonl", "2>&-", 0, ""),
    ("distillery", "score --bundle BUNDLE a.jsonl", ">/dev/full", 2, "stdout: No space left on device"),
    ("distillery", "verify BUNDLE", ">&-", 2, "stdout: closed"),
]
MORE_STREAMS = [
    ("distillery", "score --bundle BUNDLE a.jsonl --out out.jsonl", ">&- <&- 2>&-", 0, ""),
    ("distillery", "score --bundle BUNDLE a.jsonl --out /dev/full", "", 2, "/dev/full: No space left on device"),
    ("distillery", "score --bundle BUNDLE a.jsonl", "2>/dev/full", 0, ""),
    ("distillery", "score --bundle BUNDLE a.jsonl --format table", ">/dev/full", 2, "No space left"),
    ("distillery", "score --bundle BUNDLE a.jsonl", "| head -c 0", 0, ""),
    ("distillery", "score --bundle BUNDLE a.csv 2>&1", "| head -c 0", 0, ""),
    ("distillery", "score --bundle BUNDLE", "< a.csv", 2, "CSV"),
    ("distillery", "score --bundle BUNDLE", "< /dev/null", 2, "no article"),
    ("distillery", "score --bundle BUNDLE", "0> out.txt", 2, "stdin"),
    ("distillery", "inspect BUNDLE", ">&-", 2, "stdout: closed"),
    ("distillery", "inspect BUNDLE", ">/dev/full", 2, "No space left"),
    ("distillery", "inspect BUNDLE", "2>&- <&-", 0, ""),
    ("distillery", "verify BUNDLE", ">/dev/full", 2, "No space left"),
    ("distillery", "verify BUNDLE", "| head -c 0", 0, ""),
    ("distillery", "verify BUNDLE", "2>&- <&-", 0, ""),
    ("distillery", "verify a.jsonl", "2>/dev/full", 2, ""),
    ("distillery", "--help", ">/dev/full", 2, "No space left"),
    ("distillery", "--help", ">&-", 2, "stdout: closed"),
    ("trainer", "lint --filter FILTER", ">&-", 2, "stdout: closed"),
    ("trainer", "lint --filter FILTER", ">/dev/full", 2, "No space left"),
    ("trainer", "lint --filter FILTER", "2>&- <&-", 0, ""),
    ("trainer", "schema", "| head -c 0", 0, ""),
    ("trainer", "guard --articles a.jsonl --min-words 1 --out out.jsonl", ">&-", 2, "stdout: closed"),
    ("trainer", "guard --articles a.jsonl --min-words 1 --out /dev/full --dropped d.jsonl", "", 2, "No space left"),
    ("exporter", "verify BUNDLE", ">&-", 2, "stdout: closed"),
    ("exporter", "build folder", "2>&-", 2, ""),
    ("exporter", "--help", ">/dev/full", 2, "No space left"),
]


def check_streams(program: str, arguments: str, redirection: str, code: int, said: str) -> None:
    done = run(program, arguments, redirection)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(("program", "arguments", "redirection", "code", "said"), STREAMS)
def test_closed_and_full_streams(
    place: Path, program: str, arguments: str, redirection: str, code: int, said: str
) -> None:
    check_streams(program, arguments, redirection, code, said)
    assert not list(place.glob(".*"))


@SLOW
@pytest.mark.parametrize(("program", "arguments", "redirection", "code", "said"), MORE_STREAMS)
def test_more_closed_and_full_streams(
    place: Path, program: str, arguments: str, redirection: str, code: int, said: str
) -> None:
    check_streams(program, arguments, redirection, code, said)


@SLOW
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
     {"COLUMNS": "abc", "LINES": "-3"}, {"TMPDIR": "/nowhere"}, {"HOME": "/nowhere"}, {"TERM": "\x1b"}],
)  # fmt: skip
def test_odd_environments_change_nothing(place: Path, environment: dict[str, str]) -> None:
    (place / "a.jsonl").write_text('{"id": "日", "title": "日本 é", "text": "solar wind"}\n', encoding="utf-8")
    for program, arguments in (
        ("distillery", "score --bundle BUNDLE a.jsonl --format table"),
        ("distillery", "score --bundle BUNDLE a.jsonl"),
        ("distillery", "inspect BUNDLE --json"),
        ("trainer", "lint --filter FILTER"),
        ("trainer", "prefilter-eval --filter FILTER --articles a.jsonl --json"),
        ("exporter", "verify BUNDLE"),
    ):
        done = run(program, arguments, "", **environment)
        assert (done.returncode, arguments, done.stderr) == (0, arguments, done.stderr)
        assert "Traceback" not in done.stderr
