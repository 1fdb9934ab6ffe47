"""What one run of the suite measures: its options, read once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LENGTHS = (64, 128, 256, 512)  # tokens
BATCHES = (1, 8, 32)
ARTICLES = 32
SECONDS = 1.0
OPTIONS = ("--bundle", "--articles", "--panel-bundle", "--torch-run", "--count", "--threads", "--seconds")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options. `bundle` None: a demo bundle is made; `panel` empty: four of them; `articles` None: golden articles.

    `count`: articles of the sample. `seconds`: about how long each measurement goes on.
    """

    bundle: Path | None
    articles: Path | None
    panel: tuple[Path, ...]
    torch_run: Path | None
    count: int
    threads: int
    seconds: float


def add_options(parser: pytest.Parser) -> None:
    """Declares the options."""
    group = parser.getgroup("distillery")
    group.addoption("--bundle", type=Path, metavar="DIR", help="a bundle (default: a demo bundle is made)")
    group.addoption("--articles", type=Path, metavar="FILE", help="JSON lines (default: the bundle's golden articles)")
    group.addoption(
        "--panel-bundle", type=Path, action="append", default=[], metavar="DIR", help="one of a panel's bundles"
    )
    group.addoption("--torch-run", type=Path, metavar="RUN", help="the bundle's run, to be opened by PyTorch")
    group.addoption("--count", type=int, default=ARTICLES, help="articles of the sample (default: %(default)s)")
    group.addoption("--threads", type=int, default=1, help="threads of each model (default: %(default)s)")
    group.addoption("--seconds", type=float, default=SECONDS, help="for each measurement (default: %(default)s)")


def read_settings(config: pytest.Config) -> Settings:
    """The options as they were given.

    Raises:
        UsageError: a panel of one bundle, or no articles asked for.
    """
    panel = tuple(config.getoption("--panel-bundle"))
    if len(panel) == 1:
        raise pytest.UsageError("--panel-bundle: one bundle, expected several or none")
    if config.getoption("--count") < 1:
        raise pytest.UsageError(f"--count: {config.getoption('--count')}, expected at least 1")
    return Settings(
        bundle=config.getoption("--bundle"),
        articles=config.getoption("--articles"),
        panel=panel,
        torch_run=config.getoption("--torch-run"),
        count=config.getoption("--count"),
        threads=config.getoption("--threads"),
        seconds=config.getoption("--seconds"),
    )
