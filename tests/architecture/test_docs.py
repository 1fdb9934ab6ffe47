"""The documentation says what is there: schema, decisions, links; and nothing of where it was written."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillery_runtime.spec.model import FilterSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCHEMA = DOCS / "formats" / "filter-config.schema.json"
DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
STATUS = re.compile(r"^Status: (?:proposed|accepted|superseded by .*\d{4}.*)$", re.MULTILINE)
NO_TEXT = {".onnx", ".safetensors", ".png", ".ico", ".woff2"}
A_VOCABULARY = "tokenizer.json"  # a model's words are not ours

# Written in two parts, so that this page does not find itself.
NOT_OF_THE_PROJECT = re.compile("/wo" + "rk/")
BESIDE = "../sha" + "red"
TIME_AT_WORK = re.compile(
    r"\b(?:this|previous|last|next|earlier|later|past|future|current|work(?:ing)?|coding|agent|chat|other|new) sess"
    r"ions?\b|\bsess" + r"ions? (?:notes?|log|report|summary|transcript)\b",
    re.IGNORECASE,
)


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of every text file that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    for name in sorted(set(listed.stdout.decode().split("\0")) - {""}):
        path = ROOT / name
        if path.is_file() and path.suffix not in NO_TEXT and not path.name.endswith(A_VOCABULARY):
            yield name, path.read_text(encoding="utf-8")


def pages() -> Iterator[Path]:
    yield from (ROOT / name for name, _ in texts() if name.endswith(".md"))


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_schema_of_the_config_is_that_of_the_code() -> None:
    written = json.loads(SCHEMA.read_text(encoding="utf-8"))

    # If this fails: trainer schema > docs/formats/filter-config.schema.json
    assert written == FilterSpec.model_json_schema(), f"out of date: trainer schema > {SCHEMA.relative_to(ROOT)}"


def test_there_are_decision_records_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert DECISIONS != []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_record_has_status_context_choice_and_cost(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    parts = [
        title for title in ("Context", "Choice", "Cost") if re.search(rf"^## {title}\n\n\S", text, flags=re.MULTILINE)
    ]

    assert parts == ["Context", "Choice", "Cost"]
    assert STATUS.search(text)


def test_links_inside_the_repository_lead_somewhere() -> None:
    broken = [f"{page.relative_to(ROOT)}: {link}" for page in pages() for link in links(page) if not leads(page, link)]

    assert broken == []


def test_nothing_tells_of_the_machine_or_the_tools_it_was_written_with() -> None:
    assert lines_with(NOT_OF_THE_PROJECT) == []


def test_nothing_tells_of_the_hours_it_was_written_in() -> None:
    assert lines_with(TIME_AT_WORK) == []


def test_data_beside_the_repository_is_named_at_most_where_a_test_says_that_it_is_skipped() -> None:
    found = lines_with(re.compile(re.escape(BESIDE)))

    assert [line for line in found if "skip" not in line] == []
    assert len(found) <= 1


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links to other files and headings; code is left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def leads(page: Path, link: str) -> bool:
    name, _, heading = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not heading or (target.suffix == ".md" and heading in anchors(target))


def anchors(page: Path) -> set[str]:
    """A page's headings as GitHub makes anchors of them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}
