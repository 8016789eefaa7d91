"""Task card + the user's options -> the labelled samples of its two splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.annotations import Sample
from bench.annotations.formats import ReadSplit, find_annotations, read_splits
from bench.annotations.rows import Split
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
    """Where the user says that the annotations and the files are."""

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
    _refuse_boxes(card)
    if card.data == "digits":
        splits = _digits(card, where, cache, progress)
        return replace(splits, train=[]) if test_only else splits
    if card.data == "actions":
        return _actions(card, where)
    paths = _annotation_paths(card, where, test_only=test_only)
    read = read_splits(card, paths, where.data)
    counted = read.get("train", read["test"])
    num_classes = card.num_classes or _infer_classes(counted.path, counted.samples)
    source = f"card {card.name}" if card.num_classes else f"{counted.path}"
    for part in read.values():
        _check_labels(part.path, part.samples, num_classes, source)
    if "train" in read:
        _check_overlap(read["train"], read["test"])
    train = [] if test_only or "train" not in read else read["train"].samples
    return Splits(train, read["test"].samples, _class_names(card, num_classes, read))


def read_split(card: TaskCard, where: ListOptions, split: Split) -> list[Sample]:
    """The samples of one split. Raises BenchError naming file and row for anything that does not fit."""
    _refuse_boxes(card)
    if card.data == "digits":
        raise BenchError(f"task {card.name} brings its own data", fix="bench.digits reads it")
    if where.data is None or not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check it")
    if card.data == "actions":
        both = _actions(card, where)
        return both.train if split == "train" else both.test
    path = (where.train if split == "train" else where.val) or find_annotations(card, where.data, split)
    part = read_splits(card, {split: path}, where.data)[split]
    num_classes = card.num_classes or _infer_classes(part.path, part.samples)
    _check_labels(part.path, part.samples, num_classes, f"card {card.name}")
    return part.samples


def _refuse_boxes(card: TaskCard) -> None:
    if card.data == "boxes":
        what = f"the samples of task {card.name} are boxes in key frames, not videos with a label"
        raise BenchError(what, fix="`bench run` reads them")


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


def _actions(card: TaskCard, where: ListOptions) -> Splits:
    from bench.annotations.actions import load_actions  # it builds on this module

    return load_actions(card, where)


def _annotation_paths(card: TaskCard, where: ListOptions, *, test_only: bool) -> dict[Split, Path]:
    """Where the annotations of both splits are. Without training, none of the training split need be there."""
    if where.data is not None and not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check --data")
    if where.data is None and (where.val is None or (where.train is None and not test_only)):
        lists = "" if card.format == "list" else " or its official annotations"
        raise BenchError(
            f"task {card.name} needs your data",
            fix=f"give --val LIST, or --data FOLDER with {card.test}{lists} in it"
            if test_only
            else f"give --train LIST --val LIST, or --data FOLDER with {card.train} and {card.test}{lists} in it",
        )
    paths: dict[Split, Path] = {}
    given: dict[Split, Path | None] = {"train": where.train, "test": where.val}
    for split, path in given.items():
        try:
            found = path or find_annotations(card, where.data or Path(), split)
        except BenchError:
            if not (test_only and split == "train"):
                raise
            continue
        if not test_only or split == "test" or found.exists():
            paths[split] = found
    return paths


def _class_names(card: TaskCard, num_classes: int, read: Mapping[Split, ReadSplit]) -> tuple[str, ...]:
    """The card's names, else those that the annotations give; numbers where neither knows any.

    Raises BenchError where the splits call a class by two names. Folders have other names than files give.
    """
    if isinstance(card.classes, tuple):
        return card.classes
    known: dict[int, str] = {}
    alike = len({part.path.is_dir() for part in read.values()}) == 1
    for part in read.values():
        for label, name in (part.class_names or {}).items():
            other = known.setdefault(label, name)
            if other != name and alike:
                raise BenchError(
                    f"class {label} is '{name}', and '{other}' in the training split",
                    where=str(part.path),
                    fix="give the two splits of one release",
                )
    return tuple(known.get(i, str(i)) for i in range(num_classes))


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
        if not 0 <= sample.label < num_classes:
            raise BenchError(
                f"label {sample.label} of '{sample.id}' is out of range: {source} has classes 0 to {num_classes - 1}",
                where=str(path),
                fix="mend the row, or state the classes in a card of your own",
            )
    if path and num_classes < 2:
        raise BenchError("a task needs at least two classes", where=str(path), fix="check the labels")


def _check_overlap(train: ReadSplit, test: ReadSplit) -> None:
    paths = {sample.path for sample in train.samples}
    official = train.ids_are_official and test.ids_are_official
    ids = {sample.id for sample in train.samples} if official else set()
    shared = [sample.id for sample in test.samples if sample.path in paths or sample.id in ids]
    if shared:
        raise BenchError(
            f"{len(shared)} file(s) are in both lists, first '{min(shared)}'",
            where=f"{train.path} and {test.path}",
            fix="a test sample must not be trained on: remove it from one list",
        )
