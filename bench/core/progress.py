"""Telling the user what is going on: live bars on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.core.console import console as terminal
from bench.core.console import plain, unheard

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_INTERVAL_S = 15.0
_FINISHED_BARS = 6
"""Finished bars that stay: many plans have more than a terminal has lines, and the last lines are what it cuts off."""


class Reporter(Protocol):
    """What the engine reports: the stage it is in with a count, and lines worth reading."""

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of the stage `name` are finished; `detail` says how it goes."""

    def say(self, line: str) -> None:
        """One line for the user."""


class Silent:
    """A reporter that shows nothing."""

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


class Live:
    """Progress on stderr: a bar with remaining time for each stage, or a line now and then where it is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or terminal(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: list[str] = []
        self._began: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Draw the stage's bar, or print a line every 15 s."""
        if not self._console.is_terminal:
            self._plain(name, done, total, detail)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, detail=detail)
        self._bars.update(self._tasks[name], completed=done, total=total, detail=detail)
        if done >= total and name not in self._finished:
            self._finished.append(name)
            if len(self._finished) > _FINISHED_BARS:
                self._bars.remove_task(self._tasks.pop(self._finished.pop(0)))

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        with unheard():
            self._console.print(plain(line), markup=False, highlight=False, soft_wrap=True)

    def _plain(self, name: str, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        began, begun_with = self._began.setdefault(name, (now, done))
        if now - self._told.setdefault(name, now) >= _PLAIN_INTERVAL_S:
            self._told[name] = now
            rate = (done - begun_with) / (now - began)
            left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate > 0 else ""
            self.say(", ".join(part for part in (f"{name}: {done} of {total}", left, detail) if part))
