"""Annotation files -> samples: one reader per format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bench.cards.load import TaskCard


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
    """Frames per second of a folder of frames; a video file tells its own."""


def read(card: TaskCard | str, data: Path | str, split: Literal["train", "test"]) -> list[Sample]:
    """The samples of one split of a task in the folder `data`, in the order of its annotation file.

    `card` is a task card, its name or its path. The annotation file is the card's list, or an official file by its
    usual name, in that folder or one below it. Every annotated sample is there, also one whose file is not. Raises
    BenchError naming file and row for whatever does not fit.
    """
    from bench.cards.load import load_task
    from bench.data.dataset import ListOptions, read_split

    task = load_task(card) if isinstance(card, str) else card
    return read_split(task, ListOptions(Path(data).expanduser()), split)
