"""The `distillery` command: what goes in, what comes out, and its exit codes."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.bundles.find import STARTER_PACKAGE, find_bundle, starter_bundles
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.main import main
from distillery_runtime.format.manifest import Manifest, seal

LINES = b"""{"id": "1", "title": "Wind", "text": "solar wind"}
{"id": "2", "text": ""}
not json
{"id": "3", "text": "casino"}
"""


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    path = tmp_path / "articles.jsonl"
    path.write_bytes(LINES)
    return path


def test_a_file_becomes_one_result_a_line_in_order(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["score", "--bundle", str(bundle), str(articles)])

    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert [(r["id"], r["status"]) for r in records] == [
        ("1", "scored"),
        ("2", "invalid"),
        (None, "invalid"),
        ("3", "blocked"),
    ]
    assert records[2]["reason"].startswith("line 3: not JSON")


def test_stdin_is_read_when_no_file_is_named(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))

    main(["score", "--bundle", str(bundle)])

    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_summary_counts_by_status_stage_and_tier(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", "--bundle", str(bundle), str(articles)])

    summary = capsys.readouterr().err
    assert "4 articles in" in summary
    assert "blocked 1 (25.0%), invalid 2 (50.0%), scored 1 (25.0%)" in summary


def test_a_table_shows_titles_and_reasons(bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["score", "--bundle", str(bundle), "--format", "table", str(articles)])

    table = capsys.readouterr().out
    assert "EQ = evidence_quality" in table
    assert "Wind" in table
    assert "text: empty" in table


def test_strict_exits_with_1_when_an_article_is_invalid(bundle: Path, articles: Path) -> None:
    assert main(["score", "--bundle", str(bundle), "--strict", str(articles)]) == 1


def test_out_appears_only_when_it_is_whole(bundle: Path, articles: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    main(["score", "--bundle", str(bundle), "--out", str(out), str(articles)])

    assert len(out.read_text(encoding="utf-8").splitlines()) == 4
    assert not list(tmp_path.glob(".*part"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "--bundle", "{bundle}", "nowhere.jsonl"],
        ["score", "--bundle", "nowhere", "{articles}"],
        ["score", "--bundle", "{bundle}", "--out", "no/such/folder/x.jsonl", "{articles}"],
        ["verify", "nowhere"],
        ["inspect", "nowhere"],
    ],
)
def test_wrong_paths_exit_with_2_and_name_them(
    bundle: Path, articles: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([a.format(bundle=bundle, articles=articles) for a in arguments])

    assert code == 2
    assert "no" in capsys.readouterr().err


def test_without_a_bundle_the_one_under_bundles_is_used(
    bundle: Path, articles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISTILLERY_BUNDLE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / STARTER_PACKAGE).is_dir()])
    assert main(["score", str(articles)]) == 2
    assert "bundles found: none" in capsys.readouterr().err

    (tmp_path / "bundles").mkdir()
    bundle.rename(tmp_path / "bundles" / "fixture-1")

    assert main(["score", str(articles)]) == 0


@pytest.fixture
def installed_starter(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter package that is installed, with the fixture bundle in it."""
    package = tmp_path / "site" / STARTER_PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    monkeypatch.delenv("DISTILLERY_BUNDLE", raising=False)
    monkeypatch.chdir(tmp_path)
    return bundle.rename(package / "fixture-1")


def test_where_no_bundle_is_named_or_there_the_starter_is_used(installed_starter: Path, articles: Path) -> None:
    assert find_bundle(None) == installed_starter
    assert main(["score", str(articles)]) == 0


def test_a_bundle_of_ones_own_comes_before_the_starter(installed_starter: Path, tmp_path: Path) -> None:
    own = tmp_path / "bundles" / "own-1"
    shutil.copytree(installed_starter, own)

    assert find_bundle(None) == Path("bundles/own-1")


@pytest.mark.parametrize("layout", ["uv", "conda", "nix", "pyz"])
def test_the_starter_is_found_as_every_installer_lays_it_out(
    bundle: Path, articles: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """uv and conda link files from a store, Nix the package's folder from a profile; a zipped application has none."""
    store, site = tmp_path / "store", tmp_path / "site"
    store.mkdir()
    (store / "__init__.py").touch()
    shutil.copytree(bundle, store / "demo-1")
    site.mkdir()
    if layout == "nix":
        (site / STARTER_PACKAGE).symlink_to(store)
    elif layout == "pyz":
        shutil.copytree(store, tmp_path / "packed" / STARTER_PACKAGE)
        site = Path(shutil.make_archive(str(site), "zip", tmp_path / "packed"))
    else:
        shutil.copytree(store, site / STARTER_PACKAGE, copy_function=os.link)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delitem(sys.modules, STARTER_PACKAGE, raising=False)
    monkeypatch.delenv("DISTILLERY_BUNDLE", raising=False)
    monkeypatch.chdir(tmp_path)

    code = main(["score", str(articles)])

    assert code == (2 if layout == "pyz" else 0)
    assert layout != "pyz" or "inside this archive" in capsys.readouterr().err


def test_a_starter_package_without_a_bundle_has_none(installed_starter: Path) -> None:
    shutil.rmtree(installed_starter)

    assert starter_bundles() == ()


@pytest.mark.parametrize("arguments", [[], ["score", "--format", "xml"], ["nonsense"], ["score", "--threads", "0"]])
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("command", ["score", "inspect", "verify", "bench"])
def test_every_command_refuses_another_bundle_than_the_pinned_one_and_a_part_of_an_id(
    bundle: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    articles = tmp_path / "articles.jsonl"
    articles.write_text('{"id": "1", "title": "Wind", "text": "the wind"}\n', encoding="utf-8")
    found = open_bundle(bundle).id
    arguments = {
        "score": ["--bundle", str(bundle), str(articles)],
        "bench": ["--bundle", str(bundle), "--seconds", "1", "--threads", "1"],
    }.get(command, [str(bundle)])

    assert main([command, *arguments, "--expected-id", found]) == 0
    capsys.readouterr()
    assert main([command, *arguments, "--expected-id", "0" * 64]) == 2
    assert f"bundle id {found}" in capsys.readouterr().err
    assert main([command, *arguments, "--expected-id", found[:12]]) == 2
    assert "64 hex digits" in capsys.readouterr().err


def test_pins_of_several_bundles_are_in_their_order(bundle: Path, tmp_path: Path) -> None:
    articles = tmp_path / "articles.jsonl"
    articles.write_text('{"id": "1", "title": "Wind", "text": "the wind"}\n', encoding="utf-8")
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    content = json.loads((other / "bundle.json").read_bytes())
    content["lineage"]["oracle"] = "another"
    (other / "bundle.json").write_bytes(seal(Manifest.model_validate_json(json.dumps(content))))
    first, second = (open_bundle(folder).id for folder in (bundle, other))
    command = ["score", "--bundle", str(bundle), "--bundle", str(other), str(articles)]

    assert main([*command, "--expected-id", first, "--expected-id", second]) == 0
    assert main([*command, "--expected-id", second, "--expected-id", first]) == 2
    assert main([*command, "--expected-id", first]) == 2


@pytest.mark.usefixtures("no_child")
def test_verify_replays_all_golden_articles(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "3 golden articles" in capsys.readouterr().out


def test_inspect_says_what_the_bundle_is(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    assert "answers below 4" in capsys.readouterr().out

    assert main(["inspect", "--json", str(bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["format_version"] == 1


def test_a_reader_that_leaves_early_is_no_error(bundle: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_bytes(b'{"id": "1", "text": "solar wind"}\n' * 5000)
    command = f"{sys.executable} -m distillery_runtime score --bundle {bundle} {many} | head -n 1"

    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_stderr_says_for_each_stage_what_runs_where_and_why(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", "--bundle", str(bundle), "--threads", "1", "--provider", "cpu", str(articles)])

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:2]] == [
        f"{stage}: cpu-fp32 on cpu, 1 thread (fastest on a CPU among those this bundle ships (cpu-fp32))"
        for stage in ("probe", "student")
    ]


def test_a_variant_that_the_bundle_does_not_have_exits_with_2(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--bundle", str(bundle), "--variant", "cpu-fp32", str(articles)]) == 0
    assert main(["score", "--bundle", str(bundle), "--variant", "cpu-int4", str(articles)]) == 2
    assert "no stage has variant cpu-int4" in capsys.readouterr().err


def test_several_bundles_give_a_line_each_for_every_article(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = main(["score", "--bundle", str(bundle), str(articles)]), capsys.readouterr().out.splitlines()

    both = main(["score", "--bundle", str(bundle), "--bundle", str(bundle), str(articles)]), capsys.readouterr()

    assert both[0] == alone[0] == 0
    assert both[1].out.splitlines() == [line for line in alone[1] for _ in range(2)]
    assert "4 articles in" in both[1].err


def test_a_table_of_several_bundles_shows_tier_or_status_of_each(
    bundle: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", "--bundle", str(bundle), "--bundle", str(bundle), "--format", "table", str(articles)])

    header, _legend, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["article", "fixture-1", "fixture-1"]
    assert first.startswith("Wind ")
    assert second.split() == ["2", "invalid", "invalid"]


def test_a_title_that_cannot_be_shown_does_not_end_a_table(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "articles.jsonl"
    path.write_bytes(b'{"id": "1", "title": "\\ud800", "text": "wind"}\n{"id": "2", "text": "wind"}\n')

    assert main(["score", "--bundle", str(bundle), "--format", "table", "--out", str(tmp_path / "t"), str(path)]) == 0

    assert len((tmp_path / "t").read_text(encoding="utf-8").splitlines()) == 5


def test_out_writes_to_a_device_and_through_a_link_and_refuses_a_folder(
    bundle: Path, articles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    arguments = ["score", "--bundle", str(bundle), str(articles), "--out"]

    assert main([*arguments, "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
    assert main([*arguments, str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").is_file()
    assert main([*arguments, str(tmp_path)]) == 2
    assert "a folder, expected a file" in capsys.readouterr().err


def test_results_are_utf_8_whatever_the_terminal_says(bundle: Path) -> None:
    line = '{"id": "\u65e5", "text": "wind"}'.encode()
    command = [sys.executable, "-m", "distillery_runtime", "score", "--bundle", str(bundle)]

    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, input=line, capture_output=True, check=True, env=environment)

    assert json.loads(done.stdout.decode("utf-8"))["id"] == "\u65e5"
