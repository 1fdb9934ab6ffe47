"""`trainer lint`: every problem of a filter's folder at once: config, prompt, examples, and what must not be there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from distillery_runtime.articles.jsonl import BadLine, read_jsonl
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import BANDS, FilterSpec
from distillery_runtime.spec.reading import find_problems, parse_spec
from distillery_trainer.data.labels import read_labels
from distillery_trainer.filters.find import (
    CONFIG_NAME,
    VERSION,
    config_problems,
    example_files,
    filters_root,
    is_litter,
    is_second_config,
    read_config,
)
from distillery_trainer.filters.prompt import check_names, check_placeholders, read_template
from distillery_trainer.filters.reply import lowest_caps
from distillery_trainer.filters.yaml_text import Document

PROMPT_NAME = "prompt.md"
REQUIRED_FILES = (PROMPT_NAME, "README.md")
DATA_SUFFIXES = {".yaml", ".md", ".jsonl", ".json"}


def lint_filter(folder: Path) -> list[Problem]:
    """All problems of one filter's folder; their paths begin with the file's name."""
    return [*_check_config(folder), *_check_files(folder)]


def located(problem: Problem) -> str:
    """One of the lint's problems as a line to read: file and line first, as editors and build logs follow them."""
    name, separator, path = problem.path.partition(": ")
    if problem.line is None:
        return str(problem)
    if not separator:
        return f"{name}:{problem.line}: {problem.found}, expected {problem.expected}"
    return replace(problem, path=path).in_file(name)


def _check_config(folder: Path) -> Iterator[Problem]:
    """The config by itself, as the filter of its folder, and with the prompt and examples that are to fit it."""
    try:
        document = read_config(folder)
    except InputError as error:
        yield from (replace(problem, path=CONFIG_NAME) for problem in error.problems)
        return
    problems = config_problems(document)
    yield from (replace(problem, path=f"{CONFIG_NAME}: {problem.path}") for problem in problems)
    data = document.data
    if isinstance(data, dict):
        spec = parse_spec(data, CONFIG_NAME) if not find_problems(data) else _names_only(data)
        known = {problem.path for problem in problems}
        yield from (p for p in _check_place(folder, document) if p.path.partition(": ")[2] not in known)
        yield from _check_prompt(folder / PROMPT_NAME, bool(data.get("flags")), spec)
        yield from _check_examples(folder, spec)


def _names_only(data: Mapping[str, object]) -> FilterSpec | None:
    """A spec with the dimensions and flags of a config that has other faults, to hold prompt and examples against.

    None where the names themselves are at fault.
    """
    dimensions, flags = data.get("dimensions"), data.get("flags", [])
    if not isinstance(dimensions, list) or not all(isinstance(d, dict) for d in dimensions) or not dimensions:
        return None
    rows = [
        {"name": d.get("name"), "weight": 1 / len(dimensions), "question": "?", "anchors": dict.fromkeys(BANDS, "?")}
        for d in dimensions
    ]
    stand_in = {
        "schema_version": 1, "name": "filter", "version": 1, "summary": "?", "dimensions": rows, "flags": flags,
        "tiers": [{"name": "a", "min_overall": 5}, {"name": "b", "min_overall": 0}], "operating_tier": "a",
        "oracle": {"model": "?"},
    }  # fmt: skip
    return None if find_problems(stand_in) else parse_spec(stand_in, CONFIG_NAME)


def _check_place(folder: Path, document: Document) -> Iterator[Problem]:
    """A filter under filters/<name>/v<N> must be the filter that its folder says."""
    data, place = document.data, folder.resolve()
    if not isinstance(data, dict):
        return
    found: list[Problem] = []
    if VERSION.fullmatch(place.name):
        if data.get("version") != int(place.name[1:]):
            found.append(Problem("version", repr(data.get("version")), f"{place.name[1:]}, as its folder {place.name}"))
        if data.get("name") != place.parent.name:
            found.append(Problem("name", repr(data.get("name")), f"{place.parent.name!r}, as its folder"))
    elif place.parent.parent == filters_root().resolve():
        version = data.get("version")
        found.append(Problem("version", f"in the folder {place.name}", f"the folder v{version}, which NAME can find"))
    explained = document.explain(found)[len(document.problems) :]
    yield from (replace(problem, path=f"{CONFIG_NAME}: {problem.path}") for problem in explained)


def _check_files(folder: Path) -> Iterator[Problem]:
    for name in REQUIRED_FILES:
        if not (folder / name).is_file():
            yield Problem(name, "no such file", "a file of this name")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or is_litter(inside):
            continue
        if is_second_config(path) or (path.name == CONFIG_NAME and len(inside.parts) > 1):
            yield Problem(str(inside), "a second config, which nothing reads", f"{CONFIG_NAME} alone")
        elif path.suffix not in DATA_SUFFIXES:
            yield Problem(str(inside), "a file that is no data", f"only {', '.join(sorted(DATA_SUFFIXES))}")
        elif _is_second_prompt(inside):
            yield Problem(str(inside), "a second prompt, which nothing reads", f"{PROMPT_NAME} alone")
        elif inside.parts[0].lower().startswith("example") and not _is_example(inside):
            yield Problem(str(inside), "a file that nothing reads", "examples/*.jsonl, for labelled examples")


def _is_second_prompt(inside: Path) -> bool:
    """Whether a file is called almost as the prompt is: a copy, or another case."""
    is_like = re.fullmatch(r"(copy of )?prompt\b.*\.md", inside.name.lower()) is not None
    return is_like and len(inside.parts) == 1 and inside.name != PROMPT_NAME


def _is_example(inside: Path) -> bool:
    return inside.suffix == ".md" or (
        inside.parts[0] == "examples" and len(inside.parts) == 2 and inside.suffix == ".jsonl"
    )


def _check_prompt(path: Path, has_flags: bool, spec: FilterSpec | None) -> Iterator[Problem]:
    if not path.is_file():
        return  # which `_check_files` says
    try:
        template = read_template(path)
        found = check_placeholders(template, has_flags)
        found += check_names(template, spec) if spec else []
    except InputError as error:
        found = list(error.problems)
    yield from (replace(problem, path=f"{path.name}: {problem.path}") for problem in found)


def _check_examples(folder: Path, spec: FilterSpec | None) -> Iterator[Problem]:
    """Each example as a label, and as an oracle would have scored it: in half points, under the caps of its flags."""
    files = example_files(folder)
    try:
        if files and spec:
            read_labels(files, spec)
    except InputError as error:
        yield from error.problems
    for file in files:
        with file.open("rb") as stream:
            for number, record in enumerate(read_jsonl(stream), start=1):
                if not isinstance(record, BadLine):
                    where = f"examples/{file.name}: {record.get('id', f'article {number}')}"
                    yield from _check_scores(where, record, spec)


def _check_scores(where: str, record: Mapping[str, object], spec: FilterSpec | None) -> Iterator[Problem]:
    labels, flags, repeats = record.get("labels"), record.get("flags", []), record.get("repeats")
    raised = tuple(f for f in flags if isinstance(f, str)) if isinstance(flags, list) else ()
    caps = lowest_caps(() if repeats else raised, spec) if spec else {}  # of repeats only some may be under a cap
    for name, label in labels.items() if isinstance(labels, Mapping) else ():
        if isinstance(label, bool) or not isinstance(label, int | float) or not 0 <= label <= 10:
            continue  # which `read_labels` says
        if label > caps.get(name, label):
            expected = f"at most {caps[name]:g}, under {', '.join(raised)}"
            yield Problem(f"{where}.labels.{name}", str(label), expected)
        if label * 2 != int(label * 2):
            yield Problem(f"{where}.labels.{name}", str(label), "a half point")
