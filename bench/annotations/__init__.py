"""Annotation files -> samples: one reader per format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.cards import TaskCard


@dataclass(frozen=True)
class Sample:
    """One labelled video or image."""

    id: str
    """Stable and unique in its split: the path as the annotation file gives it."""
    path: str
    """Where the video or image file is, or the folder of its frames."""
    label: int
    start_s: float | None = None
    end_s: float | None = None
    fps: float | None = None
    """Frames per second of a folder of frames; a video file tells its own."""


def read(card: TaskCard | str, data: Path | str, split: Literal["train", "test"]) -> list[Sample]:
    """The samples of one split of a task in the folder `data`, in the order of its annotation file.

    `card` is a task card, its name or its path. Raises BenchError naming file and row for whatever does not fit.
    """
    from bench.annotations.lists import read_list
    from bench.cards import load_task

    task = load_task(card) if isinstance(card, str) else card
    folder = Path(data).expanduser()
    return read_list(folder / (task.train if split == "train" else task.test), folder)
