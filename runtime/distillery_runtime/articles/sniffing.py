"""Names the format of a file that is not JSON Lines, and how to convert it."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from distillery_runtime.errors import Problem
from distillery_runtime.files.strict_json import JsonError, parse_json

SNIFFED_BYTES = 64 << 10
EXPECTED = "JSON Lines (one JSON object a line)"
BLANKS = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
STDIN = "stdin"
ZIP = b"PK\x03\x04"

# First bytes, the format's name, and the command that unpacks it; {} is the file.
_PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip -c {}"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "zstd -dc {}"),
    (b"BZh", "bzip2", "bunzip2 -c {}"),
    (b"\xfd7zXZ\x00", "xz", "xz -dc {}"),
    (b"\x04\x22\x4d\x18", "LZ4", "lz4 -dc {}"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x -so {}"),
)
# First bytes, the format's name, and what pandas reads it with; empty where it is nothing to convert.
_BINARY = (
    (b"PAR1", "Parquet", "read_parquet"),
    (b"ARROW1", "Arrow", "read_feather"),
    (b"FEA1", "Feather", "read_feather"),
    (b"\xff\xff\xff\xff", "an Arrow stream", ""),
    (b"ORC", "ORC", "read_orc"),
    (b"Obj\x01", "Avro", ""),
    (b"\xd0\xcf\x11\xe0", "an Excel file (.xls)", "read_excel"),
    (b"SQLite format 3\x00", "an SQLite database", ""),
    (b"%PDF", "PDF", ""),
    (b"\x89HDF", "HDF5", ""),
    (b"\x93NUMPY", "a NumPy array", ""),
)
_OFFICE = (
    (b"xl/", "an Excel file (.xlsx)", "read_excel"),
    (b"word/", "a Word file", ""),
    (b"ppt/", "a slide file", ""),
)
_UNICODE = (  # the longest marks first
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_COLUMNS = {"id", "title", "text", "content", "body", "url", "link", "source", "language", "date", "headline", "labels"}
_MARKUP = re.compile(rb"<[!?/A-Za-z]")
_LIST = re.compile(rb'\s*"(\w+)"\s*:\s*\[')
_YAML = re.compile(rb"(?:---|%YAML|(?:- )?[A-Za-z_]\w*:)(?:\s|$)")


def other_format(lines: Sequence[bytes], name: str) -> Problem | None:
    """What a file is, by its first lines, and the cure; None if it may be JSON Lines with faults.

    Args:
        lines: the first lines with their line ends, as far as they have been read; none is a JSON object, except
            perhaps inside an array or a larger object.
        name: the file, or `stdin`.
    """
    head = b"".join(lines)[:SNIFFED_BYTES]
    for look in (_packed, _unicode, _binary):
        if found := look(head, name):
            return found
    written = [line.removeprefix(BOM).strip(BLANKS) for line in lines]
    return _text([line for line in written if line], _is_utf8(head), name)


def has_magic(first: bytes) -> bool:
    """Whether the first line begins as files of a binary format do, whatever comes after it."""
    magics = [ZIP, *(magic for magic, _, _ in (*_PACKED, *_BINARY)), *(mark for mark, _ in _UNICODE)]
    return first.startswith(tuple(magics))


def _packed(head: bytes, name: str) -> Problem | None:
    for magic, what, command in _PACKED:
        if head.startswith(magic):
            return _problem(name, what, _by("unpack", command, name))
    if head.startswith(ZIP):
        for part, what, reader in _OFFICE:
            if part in head:
                return _problem(name, what, _by_pandas(reader, name))
        return _problem(name, "ZIP", _by("unpack", "unzip -p {}", name))
    return _problem(name, "tar", _by("unpack", "tar -xOf {}", name)) if head[257:262] == b"ustar" else None


def _unicode(head: bytes, name: str) -> Problem | None:
    """Text in another form of Unicode, by its mark or by the zeros of its ASCII characters."""
    for mark, what in _UNICODE:
        if head.startswith(mark):
            return _problem(name, what, _by_iconv(what, name))
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if len(head) >= 4 and odd + even >= len(head) // 4 and min(odd, even) * 8 < max(odd, even):
        what = "UTF-16LE" if odd > even else "UTF-16BE"
        return _problem(name, what, _by_iconv(what, name))
    return None


def _binary(head: bytes, name: str) -> Problem | None:
    for magic, what, reader in _BINARY:
        if head.startswith(magic):
            return _problem(name, what, _by_pandas(reader, name))
    return _problem(name, "a binary file", "") if b"\0" in head else None


def _text(lines: Sequence[bytes], is_utf8: bool, name: str) -> Problem | None:
    if not lines:
        return None
    first = lines[0]
    if is_utf8 and first.startswith((b"[", b"{")):
        return _array(lines, name) if first.startswith(b"[") else _object(lines, name)
    if _MARKUP.match(first):
        return _problem(name, "HTML or XML", "")
    delimiter = None if first.startswith((b"[", b"{")) else _delimiter(lines)
    if delimiter:
        what = {",": "CSV", "\t": "TSV (CSV with tabs)"}.get(delimiter, f"CSV with {delimiter!r}")
        return _problem(name, what, _by_csv(delimiter, "utf-8-sig" if is_utf8 else "cp1252", name))
    if not is_utf8:
        return _problem(name, "not UTF-8 (Latin-1 or Windows-1252?)", _by_iconv("WINDOWS-1252", name))
    return _problem(name, "YAML", "") if _YAML.match(first) else None


def _array(lines: Sequence[bytes], name: str) -> Problem:
    if len(lines) > 1 and _is_json(lines[0]):
        return _problem(name, "an array on each line", 'name the fields: {"id": ..., "title": ..., "text": ...}')
    return _problem(name, "a JSON array", _by("convert", "jq -c '.[]' {}", name))


def _object(lines: Sequence[bytes], name: str) -> Problem | None:
    """JSON of another shape, or Python's notation; None for a line that is merely broken."""
    first = lines[0].decode("utf-8", "replace")
    if first.startswith("{'"):
        read = "[print(json.dumps(ast.literal_eval(line))) for line in open(FILE, encoding='utf-8')]"
        return _problem(name, "Python dictionaries", _by_python("ast, json", read, name))
    if len(lines) > 1 and first == "{" and (under := _LIST.match(lines[1])):
        return _list_under(under[1].decode(), name)
    by_jq = _by("convert", "jq -c . {}", name)
    try:
        parse_json(first)
    except JsonError as error:
        if error.position is None:
            return None
        if error.position >= len(first) and len(lines) > 1:
            return _problem(name, "JSON objects over several lines", by_jq)
        rest = first[error.position :] if first[: error.position].rstrip().endswith("}") else ""
        if rest.startswith("{"):
            return _problem(name, "several JSON objects on one line", by_jq)
        if rest == ",":
            return _problem(name, "a comma after each JSON object", _by("convert", "sed 's/,[[:space:]]*$//' {}", name))
    return None


def wrapped_list(record: Mapping[str, object], name: str) -> Problem | None:
    """What a first line is that is no article but holds a list of objects; None if it may be an article."""
    if record.keys() & {"id", "text", "content", "title"}:
        return None
    lists = (key for key, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict))
    key = next(lists, None)
    return None if key is None else _list_under(key, name)


def _list_under(key: str, name: str) -> Problem:
    path = f".{key}" if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f".[{json.dumps(key)}]"
    path = path.replace("'", "'\\''").replace("{", "{{").replace("}", "}}")
    return _problem(name, f"a JSON object with a list under {key!r}", _by("convert", f"jq -c '{path}[]' {{}}", name))


def _delimiter(lines: Sequence[bytes]) -> str | None:
    """What separates a table's fields: a first line with names of columns, or as many in each of the first lines."""
    first = lines[0].decode("utf-8", "replace")
    for delimiter in ",;\t|":
        names = {field.strip().strip("\"'").casefold() for field in first.split(delimiter)}
        if len(names) > 1 and names & _COLUMNS:
            return delimiter
    for delimiter in "\t;,|":
        counts = {line.count(delimiter.encode()) for line in lines[:10]}
        if len(lines) > 1 and len(counts) == 1 and counts != {0}:
            return delimiter
    return None


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line)
    except JsonError:
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, but for a character that their end cuts off."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _problem(name: str, what: str, cure: str) -> Problem:
    return Problem(name, what, f"{EXPECTED}; {cure}" if cure else EXPECTED)


def _by(verb: str, command: str, name: str) -> str:
    if name == STDIN:
        return f"pipe it through: {command.format('').strip()}"
    return f"{verb} it: {command.format(shlex.quote(name))} > articles.jsonl"


def _by_iconv(encoding: str, name: str) -> str:
    return _by("convert", f"iconv -f {encoding} -t UTF-8 {{}}", name)


def _by_csv(delimiter: str, encoding: str, name: str) -> str:
    rows = f"csv.DictReader(open(FILE, encoding='{encoding}', newline=''), delimiter={delimiter!r})"
    return _by_python("csv, json", f"csv.field_size_limit(2**24); [print(json.dumps(row)) for row in {rows}]", name)


def _by_pandas(reader: str, name: str) -> str:
    rows = f"pandas.{reader}(FILE).to_dict('records')"
    read = f"[print(json.dumps(row, default=str)) for row in {rows}]"
    return _by_python("json, pandas", read, name) if reader else ""


def _by_python(modules: str, code: str, name: str) -> str:
    """A command for a shell; a name that a shell would read otherwise, or stdin, is left to be filled in."""
    file = repr(name) if re.fullmatch(r"[\w./ -]+", name) and name != STDIN else "'FILE'"
    code = f"import {modules}; {code.replace('FILE', file)}"
    return f'convert it: python -c "{code}" > articles.jsonl'
