"""Every command that README, guides and CONTRIBUTING show can be typed: its subcommand, options and files exist."""

import argparse
import functools
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillery_exporter import cli as exporter_cli
from distillery_runtime.cli import main as runtime_cli
from distillery_runtime.errors import DistilleryError
from distillery_trainer.cli import main as trainer_cli
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.overrides import apply_overrides, read_settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
PARSERS = {
    name: functools.cache(cli._parser)
    for name, cli in (("distillery", runtime_cli), ("trainer", trainer_cli), ("exporter", exporter_cli))
}
ANY_FILTER = sorted(ROOT.glob("filters/*/v*/config.yaml"))[0].parent
OF_OUR_OWN = re.compile(r"^(?:\.|(?:\./)?(?:trainer|exporter|gpu|starter))(?:\[[a-z,]+\])?$")


def bash_lines(page: Path) -> Iterator[str]:
    """The command lines of a page's bash blocks, continued lines joined, comments left out."""
    for block in re.findall(
        r"```(?:bash|sh|shell|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            if command and not command.startswith("#"):
                yield command


def commands() -> Iterator[tuple[str, str]]:
    """Page and command for each part of each line that a shell would run by itself."""
    for page in PAGES:
        for line in bash_lines(page) if page.is_file() else ():
            tokens = list(shlex.shlex(line, posix=True, punctuation_chars=True))
            if any(set(token) <= set("|&;") for token in tokens):
                yield from ((page.name, part.strip()) for part in re.split(r"\|\|?|&&|;", line))
            else:
                yield page.name, line


COMMANDS = list(commands())


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_a_command_that_is_shown_can_be_typed(page: str, command: str) -> None:
    words = shlex.split(re.sub(r"\s[<>]+\s*\S+", "", command), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]  # a variable set for this command

    assert problem_of(words) is None


def test_the_readme_shows_commands() -> None:
    assert (ROOT / "README.md").is_file()
    assert {page for page, _ in COMMANDS} >= {"README.md"}


def test_every_option_that_a_page_names_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]*", pip_help() + "".join(help_texts())))

    named = {
        (page.name, option)
        for page in PAGES
        if page.is_file()
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)
    }

    assert {(page, option) for page, option in named if option not in known} == set()


def problem_of(words: list[str]) -> str | None:
    """Why a command cannot be typed, or None."""
    program, *arguments = words[1:] if words[:2] == ["uv", "pip"] else words  # which takes pip's own arguments
    if program == "torchrun" and "--no-python" in words:  # it starts what follows
        program, *arguments = words[words.index("--no-python") + 1 :]
    if program in PARSERS:
        return parser_problem(PARSERS[program](), arguments)
    if program == "make":
        return make_problem(arguments)
    if program in {"pip", "pip3"} or words[1:3] == ["-m", "pip"]:
        return pip_problem(arguments[2:] if arguments[:2] == ["-m", "pip"] else arguments)
    if program.startswith(("./", ".ci/")):
        return None if os.access(ROOT / program, os.X_OK) else f"{program} is no program"
    return None if program in {"git", "cd", "python", "python3", "curl", "head", "export"} else f"unknown: {program}"


def parser_problem(parser: argparse.ArgumentParser, arguments: list[str]) -> str | None:
    try:
        options = parser.parse_args(arguments)
    except (SystemExit, argparse.ArgumentError) as error:
        return None if isinstance(error, SystemExit) and not error.code else f"{parser.prog} refuses {arguments}"
    try:
        apply_overrides(load_filter(ANY_FILTER), *read_settings(getattr(options, "settings", [])))
    except DistilleryError as error:
        return str(error)
    return None


def make_problem(arguments: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, flags=re.MULTILINE))
    variables = set(re.findall(r"^([A-Z][A-Z_]*)\s*[?:]?=", makefile, flags=re.MULTILINE))
    wrong = [a for a in arguments if a not in targets and a.partition("=")[0] not in variables]
    return f"make has no {', '.join(wrong)}" if wrong else None


def pip_problem(arguments: list[str]) -> str | None:
    """Only `pip install`, of this repository's own folders (none of our names is on an index), with real options."""
    if arguments[:1] != ["install"]:
        return f"pip {arguments[:1]}"
    options = [a.partition("=")[0] for a in arguments if a.startswith("-")]
    unknown = [option for option in options if option not in re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", pip_help())]
    if unknown:
        return f"pip install has no {', '.join(unknown)}"
    with_value = {
        "--extra-index-url",
        "--index-url",
        "--constraint",
        "-c",
        "--requirement",
        "-r",
        "--find-links",
        "--group",
    }
    given = [a for before, a in itertools.pairwise(arguments) if before not in with_value]
    wrong = [a for a in given if not a.startswith("-") and not (OF_OUR_OWN.match(a) and has_project(a))]
    return f"not in this repository: {', '.join(wrong)}" if wrong else None


def has_project(requirement: str) -> bool:
    """Whether a folder such as `./trainer[torch]` holds a project with those extras."""
    folder, _, extras = requirement.rstrip("]").partition("[")
    project = ROOT / folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8") if project.is_file() else ""
    return bool(text) and all(
        re.search(rf"^{extra} = \[", text, flags=re.MULTILINE) for extra in extras.split(",") if extra
    )


@functools.cache
def pip_help() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


def help_texts() -> Iterator[str]:
    """The help of every command and subcommand."""
    for make in PARSERS.values():
        parser = make()
        yield parser.format_help()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from (sub.format_help() for sub in action.choices.values())
