"""Samples, the splits of a task, and what an annotation file says of one before any file is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import BenchError

Split = Literal["train", "test"]
SPLIT_NAMES: dict[Split, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "test": frozenset({"val", "valid", "validate", "validation", "test", "testing"}),
}
"""What annotation files call the two splits."""


@dataclass(frozen=True)
class Sample:
    """One labelled video or image."""

    id: str
    """Stable and unique in its split: the path, or the name of the sample, as the annotation file gives it."""
    path: str
    """Where the video or image file is, or the folder of its frames."""
    label: int
    start_s: float | None = None
    end_s: float | None = None
    fps: float | None = None
    """Frames per second of a folder of frames; a video file states its own."""
    group: str = ""
    """What it shares with samples that are like it, such as the photo that a clip was made of; empty where that is its
    file."""

    @property
    def group_name(self) -> str:
        """Samples of one name are never on both sides of a split, and are not independent of each other."""
        return self.group or self.path


@dataclass(frozen=True)
class Splits:
    """The samples of a task, and the names of its classes in label order."""

    train: list[Sample]
    test: list[Sample]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a reader of scores on these samples must know."""
    facts: Any = None
    """What the kind of the task alone reads of its annotations."""


@dataclass(frozen=True)
class ListOptions:
    """Where the user says that the annotations and the files are."""

    data: Path | None = None
    train: Path | None = None
    val: Path | None = None


@dataclass(frozen=True)
class Row:
    """One annotated sample."""

    id: str
    label: int
    line: int
    """Row of the annotation file, from 1; entry for JSON."""
    expected: str
    """Where its file belongs by the official layout, relative to the data folder. Where it is said to be missing."""
    names: tuple[str, ...] = ()
    """Endings of paths, without suffix, under which its file may lie anywhere in the data folder, best first;
    `expected` is the only place where empty."""
    start_s: float | None = None
    end_s: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Annotations:
    """The rows of one split, in the order of the file."""

    path: Path
    rows: list[Row]
    class_names: dict[int, str] | None = None
    """Names that the file gives the labels, where the card has none."""
    notes: tuple[str, ...] = ()
    """What a reader of scores on these rows must know."""


def check_rows(annotations: Annotations) -> Annotations:
    """The same. Raises BenchError where there are no rows, or an id occurs twice."""
    if not annotations.rows:
        raise BenchError("no samples of this split", where=str(annotations.path), fix="check the file")
    lines: dict[str, int] = {}
    for row in annotations.rows:
        first = lines.setdefault(row.id, row.line)
        if first != row.line:
            raise BenchError(
                f"'{row.id}' is listed twice, first in row {first}",
                where=f"{annotations.path}:{row.line}",
                fix="remove one of the rows",
            )
    return annotations
