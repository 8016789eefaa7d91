"""The samples of both splits as the annotations have them, before anything is refused."""

from __future__ import annotations

from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.actions import load_actions
from bench.data.dataset import ListOptions
from bench.data.formats import Sample
from bench.data.formats.choice import ReadSplit, find_annotations
from bench.data.formats.choice import read_splits as read_annotations
from bench.data.sample import Split

Splits = dict[Split, list[Sample]]
Parts = dict[Split, ReadSplit]


def read_splits(card: TaskCard, where: ListOptions) -> Splits:
    """The samples of both splits, as `read_parts`."""
    return {split: part.samples for split, part in read_parts(card, where).items()}


def read_parts(card: TaskCard, where: ListOptions) -> Parts:
    """Both splits of a task, from the annotations that are given, else from those that its card knows.

    Raises BenchError for a missing folder or annotation file, and for a row that cannot be read.
    """
    if card.data == "digits":
        raise BenchError(f"task {card.name} makes its own data", where="bench data", fix="name a task on files")
    if where.data is None and not (where.train and where.val):
        raise BenchError(f"task {card.name} needs your data", fix="give --data FOLDER, or --train LIST and --val LIST")
    if where.data is not None and not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check --data")
    folder = where.data or Path()
    paths: dict[Split, Path] = {
        "train": where.train or find_annotations(card, folder, "train"),
        "test": where.val or find_annotations(card, folder, "test"),
    }
    if card.data == "actions":
        both = load_actions(card, where)
        return {"train": ReadSplit(paths["train"], both.train), "test": ReadSplit(paths["test"], both.test)}
    return read_annotations(card, paths, where.data)
