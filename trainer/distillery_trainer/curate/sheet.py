"""Review sheets: written as CSV for any spreadsheet, and read back in the form in which one saves them.

A spreadsheet chooses encoding, separator and decimal sign by its language, and may turn ids and scores into dates or
other numbers. What is read is a score of the one article it was given for; all else is refused with row and value.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.errors import InputError, Problem

COLUMNS = ("id", "score", "comment", "title")
SHEET = "sheet.csv"
SEPARATORS = (",", ";", "\t", "|")
MOST_LISTED = 50
EXPECTED = f"{SHEET} as exported, filled in and saved as CSV or Unicode text"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
_WORKBOOKS = {b"PK\x03\x04": "a workbook (.xlsx, .ods)", b"\xd0\xcf\x11\xe0": "a workbook (.xls)", b"\x1f\x8b": "gzip"}
# Three decimals may be thousands: 7.500 is seven and a half in one language and seven thousand in another.
_SCORE = re.compile(r"(?:[0-9]{1,2}(?:[.,](?:[0-9]{1,2}|[0-9]{4,}))?|[.,][0-9]{1,2})", re.ASCII)
_NO_SCORE = "a number from 0 to 10, such as 7 or 7.5 or 7,5"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a sheet that is not empty: its number, counted as spreadsheets do, where it begins, and its cells."""

    number: int
    line: int
    cells: Sequence[str]

    @property
    def where(self) -> str:
        """The row, and its line in the file where that is another."""
        return f"row {self.number}" if self.line == self.number else f"row {self.number} (line {self.line})"


def sheet_text(rows: Sequence[Sequence[str]]) -> str:
    """A sheet to fill in: `rows` of id, score, comment and title."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    writer.writerows([_plain(cell) for cell in row] for row in rows)
    return "\ufeff" + stream.getvalue()  # the mark by which spreadsheets know UTF-8


def is_filled_in(path: Path) -> bool:
    """Tell whether a sheet that may be there holds a score, or is a file of something else."""
    if not path.exists():
        return False
    try:
        _, header, rows = _table(path, _decoded(path))
    except InputError:
        return bool(path.read_bytes().strip())
    score_column = [name.strip().casefold() for name in header.cells].index("score")
    return any(_cell(row, score_column) for row in rows)


def read_scores(path: Path, known: Collection[str]) -> dict[str, float]:
    """People's scores by id, in the sheet's order; rows without a score are passed over.

    Args:
        path: a CSV file with commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252.
        known: the ids that the sheet may have.

    Raises:
        InputError: it is no such file, or a row has an unknown id, one of an earlier row, or a score outside 0 to 10.
    """
    text = _decoded(path)
    separator, header, rows = _table(path, text)
    names = [name.strip().casefold() for name in header.cells]
    id_column, score_column = names.index("id"), names.index("score")
    scores: dict[str, float] = {}
    seen: dict[str, Row] = {}
    problems: list[Problem] = []
    for row in rows:
        found = _unquoted(_cell(row, id_column))
        given = _cell(row, score_column).removeprefix("'")
        score = _score(given)
        problems += _shifted(row, names, separator)
        if found not in known:
            problems.append(Problem(f"{row.where}: id", repr(found), "a test article of the run"))
        elif found in seen:
            expected = f"an id once ({seen[found].where} has it too)"
            problems.append(Problem(f"{row.where}: id", repr(found), expected))
        elif given and score is None:
            problems.append(Problem(f"{row.where}: score", repr(given), _NO_SCORE))
        elif score is not None:
            scores[found] = score
        seen.setdefault(found, row)
    if problems:
        more = [Problem("(more)", f"{len(problems) - MOST_LISTED} problems like these", "none")]
        raise InputError(str(path), [*problems[:MOST_LISTED], *(more if len(problems) > MOST_LISTED else ())])
    return scores


def _decoded(path: Path) -> str:
    """The file's text: UTF-8 or UTF-16 where it is, else Windows-1252, where what it lacks becomes U+FFFD."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(str(path), [Problem("(file)", str(error), EXPECTED)]) from error
    for magic, found in _WORKBOOKS.items():
        if data.startswith(magic):
            raise InputError(str(path), [Problem("(file)", found, EXPECTED)])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:4]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _table(path: Path, text: str) -> tuple[str, Row, list[Row]]:
    """The separator with which the first row names the columns, that row, and those below it."""
    for separator in SEPARATORS:
        rows = _rows(text, separator)
        try:
            header = next(rows, None)
        except csv.Error:
            continue
        if header is None or not _has_columns(header):
            continue
        try:
            return separator, header, list(rows)
        except csv.Error as error:
            raise InputError(str(path), [Problem("(file)", str(error), EXPECTED)]) from error
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    found = f"{first[:80]!r} in the first row" if first else "empty"
    raise InputError(str(path), [Problem("(columns)", found, "the columns id and score, each once")])


def _rows(text: str, separator: str) -> Iterator[Row]:
    """The rows that are not empty. A first line `sep=;`, as Excel knows it, is none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    while True:
        begin = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"row {number + 1}, line {begin}: {error}") from error
        number += 1
        if any(cell.strip() for cell in cells) and not (number == 1 and re.fullmatch("sep=.?", cells[0].strip())):
            yield Row(number, begin, cells)


def _has_columns(header: Row) -> bool:
    names = [name.strip().casefold() for name in header.cells]
    return names.count("id") == 1 and names.count("score") == 1


def _shifted(row: Row, names: Sequence[str], separator: str) -> Iterator[Problem]:
    """What shows that the cells of a row stand in other columns than their own."""
    for place, cell in enumerate(row.cells):
        if cell.strip() and not (place < len(names) and names[place]):
            yield Problem(f"{row.where}: column {place + 1}", repr(cell[:80]), "nothing, in a column without a name")
            return
    after = names.index("score") + 1
    score, beside = _cell(row, after - 1), _cell(row, after)
    is_cut = len(row.cells) > len(names) or (names[after : after + 1] == ["comment"] and beside.isdecimal())
    if separator == "," and score.isdecimal() and is_cut:
        whole = f"{score},{beside}"
        yield Problem(f"{row.where}: score", repr(whole), f'"{whole}" in quotes, or with a point')


def _cell(row: Row, column: int) -> str:
    return row.cells[column].strip() if column < len(row.cells) else ""


def _score(text: str) -> float | None:
    if not _SCORE.fullmatch(text):
        return None
    value = float(text.replace(",", "."))
    return value if value <= 10 else None


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unquoted(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
