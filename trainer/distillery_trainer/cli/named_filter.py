"""`--filter`: the folder that a name leads to, which the command shows, as a filter may come with the trainer."""

from pathlib import Path

from distillery_runtime.cli.command import say
from distillery_trainer.filters.find import find_filter, is_shipped
from distillery_trainer.store import processes


def named_filter(name: str) -> Path:
    """The folder of the filter that a command was given; one found by its name is shown on stderr.

    Raises:
        InputError: as `find_filter`.
    """
    folder = find_filter(name)
    if str(folder) != name and processes.rank() == 0:
        say(f"filter: {folder}{', which comes with the trainer' if is_shipped(folder) else ''}")
    return folder
