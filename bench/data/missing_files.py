"""Which files of a task are there: counts for each split, before hours are spent on a half downloaded dataset."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.links import staged_files
from bench.data.sample import Sample, Splits
from bench.video.image_frames import holds_frames, is_image

_NAMES_SHOWN = 3
_NAMES_KEPT = 20


@dataclass(frozen=True)
class SplitFiles:
    """How many of the samples of a split have their file."""

    split: Literal["training", "test"]
    annotated: int
    """Samples that the annotations list; of those, the ones that --limit chose."""
    official: int | None
    """Samples of the official split, where the card knows."""
    present: int
    missing: int
    empty: int
    """Files of no bytes, and folders without frames."""
    first_absent: tuple[str, ...]
    """Ids of the first that are missing or empty."""
    first_expected: str | None
    """Path at which the first of them is expected."""

    @property
    def absent(self) -> int:
        """Missing or empty."""
        return self.missing + self.empty


class MissingFilesError(BenchError):
    """More files are missing or empty than a score may leave out."""

    def __init__(self, task: TaskCard, files: Sequence[SplitFiles]) -> None:
        self.task = task.name
        self.files = tuple(files)
        lacking = [part for part in files if part.absent]
        super().__init__("; ".join(map(_in_words, lacking)), where=f"task {task.name}", fix=_way_on(task, lacking))

    def facts(self) -> dict[str, Any]:
        """The counts, for a program."""
        return {"task": self.task, "refused": str(self), "files": [asdict(part) for part in self.files]}


def look_for_files(task: TaskCard, splits: Splits) -> tuple[SplitFiles, ...]:
    """The counts of both splits, of the test split alone where nothing is trained. Looks at every file's size."""
    parts: list[tuple[Literal["training", "test"], int | None, Sequence[Sample]]] = [
        ("training", task.train_size, splits.train),
        ("test", task.test_size, splits.test),
    ]
    return tuple(_count(split, official, samples) for split, official, samples in parts if samples)


def refuse_missing(task: TaskCard, files: Sequence[SplitFiles], max_failed: float) -> None:
    """Raise MissingFilesError where a larger share of a split than `max_failed`, 0 to 1, is missing or empty."""
    if any(part.absent > max_failed * part.annotated for part in files):
        raise MissingFilesError(task, files)


def size_of(sample: Sample) -> int | None:
    """Bytes of the sample's file, 1 of a folder with frames in it, 0 of one without; None where it is not there. Of a
    remote file what its storage lists, fetched or not."""
    try:
        if os.path.isdir(sample.path):  # noqa: PTH112 - a million Path objects take seconds
            staged = (file for file in staged_files(sample.path) if is_image(file.relative))
            return int(holds_frames(sample.path) or any(staged))
        return os.stat(sample.path).st_size  # noqa: PTH116
    except OSError:
        return next((file.size for file in staged_files(sample.path)), None)


def _count(split: Literal["training", "test"], official: int | None, samples: Sequence[Sample]) -> SplitFiles:
    sizes = [size_of(sample) for sample in samples]
    absent = [sample for sample, size in zip(samples, sizes, strict=True) if not size]
    return SplitFiles(
        split=split,
        annotated=len(samples),
        official=official,
        present=len(samples) - len(absent),
        missing=sizes.count(None),
        empty=sizes.count(0),
        first_absent=tuple(sample.id for sample in absent[:_NAMES_KEPT]),
        first_expected=absent[0].path if absent else None,
    )


def _in_words(part: SplitFiles) -> str:
    counts = f"{part.absent} of {part.annotated} {part.split} files are missing or empty ({part.present} present)"
    shown = ", ".join(part.first_absent[:_NAMES_SHOWN])
    return f"{counts}, first {shown}{', ...' if part.absent > _NAMES_SHOWN else ''}"


def _way_on(task: TaskCard, lacking: Sequence[SplitFiles]) -> str:
    where = task.homepage
    get = f"get them ({where}), " if where else ""
    layout = f"; `bench tasks {task.name}` shows the layout" if task.layout else ""
    if not any(part.present for part in lacking):
        return f"check --data: the first is expected at {lacking[0].first_expected}{layout}"
    share = math.ceil(1000 * max(part.absent / part.annotated for part in lacking)) / 1000
    rest = f"; or measure on what is there with --max-failed {share:g}, and the record says so" if share < 1 else ""
    return f"{get}check --data{layout}{rest}"
