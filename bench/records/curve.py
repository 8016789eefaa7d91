"""Score against pretraining: points of a curve, kept in `curve.csv` and drawn in `curve.svg` and `curve.png`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import CURVE, read_text
from bench.core.types import Axis, Count, Percent

CSV_NAME, SVG_NAME, PNG_NAME = "curve.csv", "curve.svg", "curve.png"

# Nothing is known where a cell of the CSV is empty.
_EMPTY = BeforeValidator(lambda value: None if value == "" else value)
Progress = Annotated[Count | None, _EMPTY]


class CurvePoint(BaseModel):
    """The score of one checkpoint on one task, and how far its pretraining had come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: Progress = None
    """Training clips seen, repeats counted."""
    epoch: Progress = None
    step: Progress = None
    """Updates of the weights."""
    task: str
    axis: Annotated[Axis | None, _EMPTY]
    score: Percent
    low: Percent
    """Low end of the 95 % interval, 0 to 100."""
    high: Percent

    @model_validator(mode="after")
    def _has_a_place(self) -> CurvePoint:
        if self.samples is None and self.epoch is None:
            raise ValueError("neither samples nor epoch is known")
        return self


Draw = Callable[[Sequence[CurvePoint], str, Mapping[str, float]], tuple[bytes, bytes]]
"""Points, title and chance by task -> the curve as SVG and as PNG (bench.report.plots.curve)."""


class ScoreCurve:
    """The curve of a running pretraining: its files hold all points so far."""

    def __init__(
        self, folder: Path, *, resume_step: int | None, title: str, chance: Mapping[str, float] | None = None
    ) -> None:
        """The curve of a run that starts (None) or goes on behind `resume_step`: later points are dropped.

        `chance` is the score of guessing, 0 to 100, by task. Raises BenchError where a run starts and the curve of
        another is there, and where `curve.csv` is damaged.
        """
        path = folder / CSV_NAME
        self.folder, self.title, self.chance = folder, title, dict(chance or {})
        known = read_curve(path) if path.exists() else []
        if known and resume_step is None:
            raise BenchError(
                f"holds the curve of another run ({len(known)} points)",
                where=str(path),
                fix="resume that run, or choose another folder",
            )
        self.points = [p for p in known if p.step is not None and resume_step is not None and p.step <= resume_step]

    def append(self, points: Iterable[CurvePoint], draw: Draw) -> None:
        """Add the points of a checkpoint and write the files anew."""
        self.points.extend(points)
        write_curve(self.folder, self.points, draw, title=self.title, chance=self.chance)


def write_curve(
    folder: Path,
    points: Sequence[CurvePoint],
    draw: Draw,
    *,
    title: str,
    chance: Mapping[str, float] | None = None,
) -> None:
    """Write `curve.csv`, `curve.svg` and `curve.png` into `folder`: the same points give the same bytes.

    `chance` is the score of guessing, 0 to 100, by task. Raises ValueError where there is no point, or points can
    share no axis: some without samples, others without epoch.
    """
    pictures = draw(points, title, chance or {})
    with atomic_write(folder / CSV_NAME) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(CurvePoint.model_fields), lineterminator="\n")
        table.writeheader()
        table.writerows(point.model_dump() for point in points)
    for name, content in zip((SVG_NAME, PNG_NAME), pictures, strict=True):
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)


def read_curve(path: Path) -> list[CurvePoint]:
    """The points of a `curve.csv`. Raises BenchError where it is missing, damaged or something else."""
    try:
        table = csv.DictReader(io.StringIO(read_text(path, CURVE)))
        if table.fieldnames != list(CurvePoint.model_fields):
            raise csv.Error(f"line 1 is not {','.join(CurvePoint.model_fields)}")
        return [CurvePoint.model_validate(row) for row in table]
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"line {table.line_num}: {'.'.join(map(str, first['loc']))} {first['msg']}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> BenchError:
    return BenchError(f"not a readable curve ({reason})", where=str(path), fix="move it away, and run again")
