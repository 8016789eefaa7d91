"""Task card + the user's options -> the labelled samples of its two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.annotations import Sample
from bench.annotations.lists import read_list
from bench.cards import TaskCard
from bench.errors import BenchError


@dataclass(frozen=True)
class Splits:
    """The samples of a task, and the names of its classes in label order."""

    train: list[Sample]
    test: list[Sample]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ListOptions:
    """Where the user says that the lists and the files are."""

    data: Path | None = None
    train: Path | None = None
    val: Path | None = None


def load_splits(
    card: TaskCard,
    where: ListOptions,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    test_only: bool = False,
) -> Splits:
    """The samples of a task. Raises BenchError naming file and row for anything that would mislead a score.

    `test_only`: without training samples, and without need of a training list; one that is there is still compared
    with the test list, and tells the number of classes.
    """
    if card.data == "digits":
        splits = _digits(card, where, cache, progress)
        return replace(splits, train=[]) if test_only else splits
    train_list, test_list = _list_paths(card, where, test_only=test_only)
    without = test_only and not train_list.is_file()
    train = [] if without else read_list(train_list, where.data)
    test = read_list(test_list, where.data)
    counted, samples = (test_list, test) if without else (train_list, train)
    num_classes = card.num_classes or _infer_classes(counted, samples)
    source = f"card {card.name}" if card.num_classes else f"{counted}"
    for path, samples in ((train_list, train), (test_list, test)):
        _check_labels(path, samples, num_classes, source)
    _check_overlap(train_list, train, test_list, test)
    names = card.classes if isinstance(card.classes, tuple) else tuple(str(i) for i in range(num_classes))
    return Splits([] if test_only else train, test, names)


def subset(samples: list[Sample], limit: int | None, seed: int) -> list[Sample]:
    """A random subset of at most `limit` samples, in list order; the same for the same seed."""
    if limit is None or limit >= len(samples):
        return samples
    chosen = np.random.RandomState(seed).permutation(len(samples))[:limit]
    return [samples[i] for i in sorted(chosen)]


def _digits(card: TaskCard, where: ListOptions, cache: Path, progress: Callable[[int, int], None] | None) -> Splits:
    from bench import digits

    if where != ListOptions():
        raise BenchError(
            f"task {card.name} brings its own data",
            fix="drop --data, --train and --val, or use --task custom for your lists",
        )
    folder = digits.ensure_digits(cache, progress=progress)
    names = digits.MOTIONS if card.label == "motion" else tuple(str(i) for i in range(digits.NUM_DIGITS))

    def samples(split: digits.Split) -> list[Sample]:
        return [
            Sample(id=c.id, path=str(folder / c.path), label=c.motion if card.label == "motion" else c.digit)
            for c in digits.read_digits(folder, split)
        ]

    return Splits(samples("train"), samples("test"), names)


def _list_paths(card: TaskCard, where: ListOptions, *, test_only: bool) -> tuple[Path, Path]:
    if where.data is not None and not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check --data")
    if where.data is None and (where.val is None or (where.train is None and not test_only)):
        raise BenchError(
            f"task {card.name} needs your data",
            fix=f"give --val LIST, or --data FOLDER with {card.test} in it"
            if test_only
            else f"give --train LIST --val LIST, or --data FOLDER with {card.train} and {card.test} in it",
        )
    folder = where.data or Path()
    return where.train or folder / card.train, where.val or folder / card.test


def _infer_classes(path: Path, samples: list[Sample]) -> int:
    largest = max(samples, key=lambda sample: sample.label)
    if largest.label >= len(samples):
        raise BenchError(
            f"label {largest.label} of '{largest.id}' means {largest.label + 1} classes, with {len(samples)} samples",
            where=str(path),
            fix="labels count from 0 without gaps; or state the classes in a card of your own",
        )
    return 1 + largest.label


def _check_labels(path: Path, samples: list[Sample], num_classes: int, source: str) -> None:
    for sample in samples:
        if sample.label >= num_classes:
            raise BenchError(
                f"label {sample.label} of '{sample.id}' is out of range: {source} has classes 0 to {num_classes - 1}",
                where=str(path),
                fix="mend the row, or state the classes in a card of your own",
            )
    if path and num_classes < 2:
        raise BenchError("a task needs at least two classes", where=str(path), fix="check the labels")


def _check_overlap(train_list: Path, train: list[Sample], test_list: Path, test: list[Sample]) -> None:
    shared = Counter(sample.path for sample in train) & Counter(sample.path for sample in test)
    if shared:
        raise BenchError(
            f"{len(shared)} file(s) are in both lists, first '{next(iter(shared))}'",
            where=f"{train_list} and {test_list}",
            fix="a test sample must not be trained on: remove it from one list",
        )
