"""Progress: on a terminal a bar with loss, validation MAE and time left; in a log a line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 60.0
SPEED_OF_S = 600.0  # the time left is told from the speed of so many seconds: a decoder's step may take many


class Bar:
    """A progress bar on stderr. It follows a training (`start`, `step`, `epoch`) or counts done items (`advance_to`).

    Where stderr is no terminal it prints a line every `LINE_EVERY_S` seconds, and with `lines` one where a training
    begins and one for each epoch: work that is done in less time prints nothing.
    """

    def __init__(self, label: str, *, lines: bool = False) -> None:
        self._console = Console(stderr=True)
        self._label = label
        self._lines = lines
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[news]}"), console=self._console, transient=True,
            disable=not self._console.is_terminal, speed_estimate_period=SPEED_OF_S,
        )  # fmt: skip
        self._task = self._bar.add_task(label, total=None, news="")
        self._loss = float("nan")
        self._epochs = 0
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, total_steps: int, done: int) -> None:
        """A training of `total_steps` begins, `done` of them already behind it."""
        self._bar.update(self._task, total=total_steps, completed=done)
        if self._lines:
            self._say(f"from step {done} of {total_steps}")

    def step(self, loss: float) -> None:
        """One more step is done."""
        self._loss = loss
        self._bar.update(self._task, advance=1, news=f"loss {loss:.3f}")
        self._say_now_and_then()

    def epoch(self, val_mae: float) -> None:
        """An epoch has ended."""
        self._epochs += 1
        news = f"loss {self._loss:.3f}, val MAE {val_mae:.3f}"
        self._bar.update(self._task, news=news)
        if self._lines:
            self._say(f"epoch {self._epochs}, {news}")

    def advance_to(self, done: int, total: int) -> None:
        """So many of so many items are done."""
        self._bar.update(self._task, total=total, completed=done)
        self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        if time.monotonic() - self._said_at < LINE_EVERY_S:
            return
        task = self._bar.tasks[0]
        parts = [f"{task.completed:.0f} of {task.total or 0:.0f}", str(task.fields["news"])]
        if task.time_remaining is not None:
            parts.append(f"{task.time_remaining / 60:.0f} min left")
        self._say(", ".join(part for part in parts if part))

    def _say(self, news: str) -> None:
        self._said_at = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"{self._label}: {news}", highlight=False)
