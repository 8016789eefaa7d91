"""The log of a pretraining run: `log.csv`, one row an interval, and TensorBoard events where that is installed.

A run that was interrupted and resumed leaves the same rows as one that was not.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import LOG, read_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE_NAME = "log.csv"


class TrainLog:
    """Appends rows to `folder/log.csv`; each is on disk when `append` returns.

    The first row fixes the columns; one of them is `step`, which grows from row to row. Append before saving the
    checkpoint of a step: the rows up to a checkpoint are then complete whenever the run stops.
    """

    def __init__(self, folder: Path, *, resume_step: int | None) -> None:
        """Open the log of a run that starts (None) or goes on behind `resume_step`: later rows are dropped.

        A run that starts over before its first checkpoint drops all rows with -1. Raises BenchError where a run
        starts and rows of another are there, and where the file is damaged or of another program.
        """
        self.path = folder / FILE_NAME
        self._columns: list[str] = []
        self._last_step = -1
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._take_up(resume_step)
        self._events = _event_writer(folder / "tensorboard", self._last_step)

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row: numbers by column, in any order. Raises ValueError for other columns or a step that is behind.

        Whole numbers are kept as they are, others to 9 digits (all that float32 has).
        """
        columns = self._columns or list(row)
        if set(row) != set(columns) or "step" not in row:
            raise ValueError(f"the columns of {self.path} are {columns}, those of the row {list(row)}")
        step = int(row["step"])
        if step <= self._last_step:
            raise ValueError(f"step {step} in {self.path} is not behind step {self._last_step}")
        lines = [] if self._columns else [columns]
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([*lines, [_text(row[column]) for column in columns]])
        self._columns, self._last_step = columns, step
        if self._events:
            for column, value in row.items():
                if column != "step":
                    self._events.add_scalar(column, value, step)
            self._events.flush()

    def close(self) -> None:
        """Finish the TensorBoard events; `log.csv` is complete at any time."""
        if self._events:
            self._events.close()

    def _take_up(self, resume_step: int | None) -> None:
        """Keep the rows of an existing file up to `resume_step`, byte for byte."""
        lines = _lines(self.path)
        rows = read_log(self.path)
        if resume_step is None:
            if rows:
                raise BenchError(
                    f"holds the log of another run ({len(rows)} rows)",
                    where=str(self.path),
                    fix="resume that run, or choose another folder",
                )
            resume_step = -1
        kept = [row for row in rows if row["step"] <= resume_step]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(lines[: len(kept) + 1] if kept else []), encoding="utf-8", newline="")
        if kept:
            self._columns = list(kept[-1])
            self._last_step = int(kept[-1]["step"])


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a `log.csv`, numbers by column, in order of `step`.

    A last line that was cut off while it was written is left out. Raises BenchError where the file is damaged or no
    log of a pretraining run.
    """
    table = list(csv.reader(_lines(path)))
    if not table:
        return []
    columns = table[0]
    if "step" not in columns or len(set(columns)) < len(columns):
        raise _not_a_log(path, 1, "the first line does not name columns with a step among them")
    rows: list[dict[str, float]] = []
    for number, cells in enumerate(table[1:], start=2):
        try:
            row = dict(zip(columns, map(float, cells), strict=True))
            rising = row["step"] >= 0 and (not rows or row["step"] > rows[-1]["step"])
        except ValueError as error:
            raise _not_a_log(path, number, str(error)) from error
        if not rising:
            raise _not_a_log(path, number, f"step {row['step']:g} does not follow the one before")
        rows.append(row)
    return rows


def _lines(path: Path) -> list[str]:
    """The complete lines of the file."""
    try:
        lines = read_bytes(path, LOG).decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise _not_a_log(path, 1, "not text") from error
    except FileNotFoundError as error:
        raise BenchError("no such log", where=str(path), fix="a pretraining run writes one into its folder") from error
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def _not_a_log(path: Path, line: int, reason: str) -> BenchError:
    return BenchError(
        f"not a log of a pretraining run, or damaged ({reason})",
        where=f"{path}:{line}",
        fix="mend the line, or move the file away and start anew",
    )


def _text(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else f"{float(value):.9g}"


def _event_writer(folder: Path, last_step: int) -> SummaryWriter | None:
    """TensorBoard's writer, told to hide events behind `last_step`; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=last_step + 1)
