"""`trainer lint`: every problem of a filter's folder at once: config, prompt, examples, and what must not be there."""

from collections.abc import Iterator
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec_checks import find_problems, parse_spec
from distillery_trainer.filters import CONFIG_NAME, read_config
from distillery_trainer.labels import read_labels
from distillery_trainer.prompt import check_names, check_placeholders, read_template
from distillery_trainer.reply import lowest_caps

REQUIRED_FILES = ("prompt.md", "README.md")
DATA_SUFFIXES = {".yaml", ".md", ".jsonl", ".json"}


def lint_filter(folder: Path) -> list[Problem]:
    """All problems of one filter's folder; their paths begin with the file's name."""
    return [*_check_config(folder), *_check_files(folder)]


def _check_config(folder: Path) -> Iterator[Problem]:
    """The config by itself, as the filter of its folder, and with the prompt and examples that are to fit it."""
    try:
        data = read_config(folder)
    except InputError as error:
        yield from (Problem(CONFIG_NAME, problem.found, problem.expected) for problem in error.problems)
        return
    problems = find_problems(data)
    yield from (Problem(f"{CONFIG_NAME}: {p.path}", p.found, p.expected) for p in problems)
    if isinstance(data, dict):
        yield from _check_place(folder, data)
        yield from _check_prompt(folder / "prompt.md", data, bool(problems))
    if not problems:
        yield from _check_examples(folder, data)


def _check_place(folder: Path, data: dict[str, object]) -> Iterator[Problem]:
    """A filter under filters/<name>/v<N> must be the filter that its folder says."""
    version = folder.resolve().name
    if version[:1] == "v" and version[1:].isdigit():
        if data.get("version") != int(version[1:]):
            found = repr(data.get("version"))
            yield Problem(f"{CONFIG_NAME}: version", found, f"{version[1:]}, as its folder {version}")
        name = folder.resolve().parent.name
        if data.get("name") != name:
            yield Problem(f"{CONFIG_NAME}: name", repr(data.get("name")), f"{name!r}, as its folder")


def _check_files(folder: Path) -> Iterator[Problem]:
    for name in REQUIRED_FILES:
        if not (folder / name).is_file():
            yield Problem(name, "no such file", "a file of this name")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in DATA_SUFFIXES:
            expected = f"only {', '.join(sorted(DATA_SUFFIXES))}"
            yield Problem(str(path.relative_to(folder)), "a file that is no data", expected)


def _check_prompt(path: Path, data: dict[str, object], is_config_broken: bool) -> Iterator[Problem]:
    if not path.is_file():
        return  # which `_check_files` says
    try:
        template = read_template(path)
        found = check_placeholders(template, bool(data.get("flags")))
        found += [] if is_config_broken else check_names(template, parse_spec(data, CONFIG_NAME))
    except InputError as error:
        found = list(error.problems)
    yield from (Problem(f"{path.name}: {problem.path}", problem.found, problem.expected) for problem in found)


def _check_examples(folder: Path, data: object) -> Iterator[Problem]:
    files = sorted((folder / "examples").glob("*.jsonl"))
    if not files:
        return
    spec = parse_spec(data, CONFIG_NAME)
    try:
        examples = read_labels(files, spec)
    except InputError as error:
        yield from error.problems
        return
    for article in examples.articles:
        caps = lowest_caps(() if article.repeats else article.flags, spec)  # of repeats only some may be under a cap
        for name, label in zip(spec.dimension_names, article.labels, strict=True):
            if label > caps[name]:
                expected = f"at most {caps[name]:g}, under {', '.join(article.flags)}"
                yield Problem(f"examples: {article.id}.labels.{name}", str(label), expected)
            if label * 2 != int(label * 2):
                yield Problem(f"examples: {article.id}.labels.{name}", str(label), "a half point")
