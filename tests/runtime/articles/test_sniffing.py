"""A file that is not JSON Lines is named with its cure; a file with faults is read line by line."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from distillery_runtime.articles.jsonl import BadLine, read_jsonl_file
from distillery_runtime.cli.main import main
from distillery_runtime.errors import InputError

ROWS = [{"id": "1", "title": "Zoë", "text": "solar wind"}, {"id": "2", "title": "b", "text": "casino, €"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def packed(names: list[str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, LINES)
    return data.getvalue()


OTHERS: dict[str, tuple[bytes, str]] = {
    "articles.csv": (b"id,title,text\n1,a,b\n", "CSV"),
    "bom.csv": ("\ufeffid;titel;tekst\n1;a;b\n".encode(), "CSV"),
    "latin.csv": ("id,title,text\n1,Zoë,b\n".encode("latin-1"), "CSV"),
    "quoted.csv": (b'"url","text"\n"x","two\nlines, and a comma"\n', "CSV"),
    "articles.tsv": (b"id\ttitle\ttext\n1\ta\tb\n", "tabs"),
    "odd.tsv": (b"a\tb\n1\t2\n", "tabs"),
    "articles.jsonl.gz": (gzip.compress(LINES.encode()), "gzip"),
    "articles.zst": (b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00", "Zstandard"),
    "articles.bz2": (b"BZh91AY&SY", "bzip2"),
    "articles.xz": (b"\xfd7zXZ\x00\x00\x04", "xz"),
    "articles.zip": (packed(["articles.jsonl"]), "ZIP"),
    "sheet.xlsx": (packed(["[Content_Types].xml", "xl/workbook.xml"]), "Excel"),
    "sheet.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
    "articles.tar": (b"a" * 257 + b"ustar\x00", "tar"),
    "articles.parquet": (b"PAR1\x15\x04\x15\n\x00", "Parquet"),
    "articles.arrow": (b"ARROW1\x00\x00\xff\xff\xff\xff", "Arrow"),
    "stream.arrow": (b"\xff\xff\xff\xff\x10\x00\x00\x00", "Arrow"),
    "articles.avro": (b"Obj\x01\x04\x14avro.codec", "Avro"),
    "articles.db": (b"SQLite format 3\x00\x10\x00", "SQLite"),
    "array.json": (json.dumps(ROWS).encode(), "a JSON array"),
    "lines.json": (f"[\n{json.dumps(ROWS[0])},\n{json.dumps(ROWS[1])}\n]\n".encode(), "a JSON array"),
    "one.json": (f"[\n{json.dumps(ROWS[0])}\n]\n".encode(), "a JSON array"),
    "pretty-array.json": (json.dumps(ROWS, indent=2).encode(), "a JSON array"),
    "pretty.json": (json.dumps(ROWS[0], indent=2).encode(), "over several lines"),
    "pretty-many.json": ("\n".join(json.dumps(row, indent=4) for row in ROWS).encode(), "over several lines"),
    "joined.json": ("".join(map(json.dumps, ROWS)).encode(), "several JSON objects on one line"),
    "joined-by-cr.jsonl": (LINES.replace("\n", "\r").encode(), "several JSON objects on one line"),
    "commas.jsonl": (LINES.replace("\n", ",\n").encode(), "a comma after each"),
    "wrapped.json": (json.dumps({"count": 2, "articles": ROWS}).encode(), "a list under 'articles'"),
    "odd-name.json": (json.dumps({"the {news}'s": ROWS}).encode(), "a list under"),
    "pretty-wrapped.json": (json.dumps({"data": ROWS}, indent=2).encode(), "a list under 'data'"),
    "part.html": (b"<p>hello</p>\n", "HTML"),
    "rows.jsonl": (b'["1", "a", "b"]\n["2", "a", "b"]\n', "an array on each line"),
    "python.jsonl": ("\n".join(map(str, ROWS)).encode(), "Python"),
    "utf16.jsonl": (LINES.encode("utf-16"), "UTF-16"),
    "utf16le.jsonl": (LINES.encode("utf-16-le"), "UTF-16LE"),
    "utf16be.jsonl": (LINES.encode("utf-16-be"), "UTF-16BE"),
    "utf32.jsonl": (LINES.encode("utf-32"), "UTF-32"),
    "latin.jsonl": (json.dumps(ROWS[0], ensure_ascii=False).encode("latin-1"), "not UTF-8"),
    "page.html": (b"<!DOCTYPE html>\n<html><body>a, b</body></html>", "HTML"),
    "feed.xml": (b'<?xml version="1.0"?>\n<rss></rss>', "XML"),
    "articles.yaml": (b"- id: 1\n  text: wind\n", "YAML"),
    "random.bin": (bytes(range(256)) * 4, "a binary file"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_format_is_named_in_one_line_with_its_cure(name: str, tmp_path: Path) -> None:
    content, what = OTHERS[name]
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError) as caught:
        list(read_jsonl_file(tmp_path / name))

    message = str(caught.value)
    assert message.count("\n") == 0
    assert what in message
    assert name in message
    assert "expected JSON Lines" in message


@pytest.mark.parametrize("name", ["articles.jsonl.gz", "articles.csv", "array.json", "utf16.jsonl"])
def test_stdin_of_another_format_is_named_too(
    name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(OTHERS[name][0])))

    assert main(["score", "--bundle", str(bundle)]) == 2
    captured = capsys.readouterr()
    assert OTHERS[name][1] in captured.err.splitlines()[-1]
    assert captured.out == ""


@pytest.mark.parametrize("name", ["articles.csv", "bom.csv", "latin.csv", "quoted.csv", "articles.tsv", "python.jsonl",
                                  "articles.jsonl.gz", "utf16.jsonl", "commas.jsonl"])  # fmt: skip
def test_the_cure_that_is_shown_works(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(OTHERS[name][0])
    with pytest.raises(InputError) as caught:
        list(read_jsonl_file(Path(tmp_path / name)))
    command = str(caught.value).partition(" it: ")[2]

    command = command.replace("python -c", f"{sys.executable} -c")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)

    records = list(read_jsonl_file(tmp_path / "articles.jsonl"))
    assert records
    assert not any(isinstance(record, BadLine) for record in records)


@pytest.mark.parametrize(
    "first",
    ["[", "{", "[1, 2]", "}", "id,title,text", '{"id": "0", "text": "torn', "\xff", "<html>", "- id: 1", "NaN", "x"],
)
def test_a_file_with_a_bad_first_line_is_read_line_by_line(first: str, tmp_path: Path) -> None:
    path = tmp_path / "articles.jsonl"
    path.write_bytes(first.encode("latin-1") + b"\n" + LINES.encode())

    bad, *good = read_jsonl_file(path)

    assert isinstance(bad, BadLine)
    assert good == ROWS


@pytest.mark.parametrize("name", ["folder", "nowhere.jsonl", "file/inside.jsonl", "x" * 300])
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="expected"):
        list(read_jsonl_file(tmp_path / name))


def test_json_lines_are_read_whatever_marks_and_blank_lines_come_first(tmp_path: Path) -> None:
    (tmp_path / "articles.jsonl").write_text(f"\ufeff\n \n{LINES}", encoding="utf-8")

    assert list(read_jsonl_file(tmp_path / "articles.jsonl")) == ROWS


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 2),
        (b"\n\n \n", 2),
        (b"no json\n", 2),
        (b'{"id": "1", "text": ""}\n', 2),
        (b'{"articles": [{"id": "1", "text": "wind"}]}\n', 2),
        (b'{"id": "1", "text": "casino"}\n', 0),
        (b'no json\n{"id": "1", "text": "wind"}\n', 0),
    ],
)
def test_the_exit_code_is_2_when_nothing_could_be_scored(
    content: bytes, code: int, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "articles.jsonl").write_bytes(content)

    assert main(["score", "--bundle", str(bundle), str(tmp_path / "articles.jsonl")]) == code
    if code:
        assert "articles.jsonl" in capsys.readouterr().err.splitlines()[-1]
