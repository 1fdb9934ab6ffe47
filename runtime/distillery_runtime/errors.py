"""Every error Distillery raises, sorted by who must act.

DistilleryError
├── SpecError       fix the filter's config      (carries every problem found)
├── InputError      fix an input file or argument (carries every problem found)
├── BundleError     get another bundle: this one is damaged, unsafe or too new
├── ModelError      the model answered with something that cannot be a score
└── ProviderError   the asked-for hardware or package is not there
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from distillery_runtime.characters import shown


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it is, what was found and what was expected.

    `line`: of the file, where it is known; two problems that differ in nothing else are the same.
    """

    path: str
    found: str
    expected: str
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return shown(f"{self.path}: {self.found}, expected {self.expected}")

    def in_file(self, name: str) -> str:
        """The problem as a line to read, with the file's name and line before it."""
        return f"{name}:{self.line}: {self}" if self.line else f"{name}: {self}"


class DistilleryError(Exception):
    """The base of every error of ours; catching it catches them all.

    Each argument is a line of the message. What a name, a field or a server has put into it cannot begin another line,
    nor move a terminal's cursor: hidden characters are shown escaped.
    """

    def __str__(self) -> str:
        return "\n".join(shown(str(line)) for line in self.args)


class ProblemsError(DistilleryError):
    """An error that lists all the problems of one input, a line each."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(*(problem.in_file(where) for problem in self.problems))


class SpecError(ProblemsError):
    """A filter's config is not valid."""


class InputError(ProblemsError):
    """An input file, record or argument is not usable."""


class BundleError(DistilleryError):
    """A bundle is damaged, unsafe, or of a format this version does not read."""


class ModelError(DistilleryError):
    """A model returned values that are no scores: wrong shape or not finite."""


class ProviderError(DistilleryError):
    """The requested execution provider or optional package is not available."""
