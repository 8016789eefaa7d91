"""Task card + the user's options -> the labelled samples of its two splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.cards.load import TaskCard, load_task
from bench.core.errors import BenchError, nearest
from bench.data.formats.choice import ReadSplit, find_annotations, read_splits
from bench.data.sample import ListOptions, Sample, Split, Splits


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
    if card.data == "masks":
        return _masks(card, where, test_only=test_only)
    paths = _annotation_paths(card, where, test_only=test_only)
    read = read_splits(card, paths, where.data)
    num_classes = _num_classes(card, read)
    source = f"card {card.name}" if card.num_classes else f"{read.get('train', read['test']).path}"
    for part in read.values():
        _check_labels(part.path, part.samples, num_classes, source)
    names = _class_names(card, num_classes, read)
    if card.num_classes is None and card.labels == "from-0":
        _check_first_label(read)
    if "train" in read:
        _check_overlap(read["train"], read["test"])
    trained = "train" in read and not test_only
    if trained and card.num_classes is None:
        _check_tested_names(read["train"], read["test"], names)
    notes = [f"{split}: {note}" for split, part in read.items() if trained or split == "test" for note in part.notes]
    if trained:
        counts = [count_classes(read[split].samples, num_classes) for split in ("train", "test")]
        notes += untrained_classes(names, *counts)
    return Splits(read["train"].samples if trained else [], read["test"].samples, names, tuple(notes))


def read(card: TaskCard | str, data: Path | str, split: Split) -> list[Sample]:
    """The samples of one split of a task in the folder `data`, in the order of its annotation file.

    `card` is a task card, its name or its path. The annotation file is the card's list, or an official file by its
    usual name, in that folder or one below it. Every annotated sample is there, also one whose file is not. Raises
    BenchError naming file and row for whatever does not fit.
    """
    task = load_task(card) if isinstance(card, str) else card
    return read_split(task, ListOptions(Path(data).expanduser()), split)


def read_split(card: TaskCard, where: ListOptions, split: Split) -> list[Sample]:
    """The samples of one split. Raises BenchError naming file and row for anything that does not fit."""
    _refuse_boxes(card)
    if card.data == "digits":
        raise BenchError(f"task {card.name} brings its own data", fix="bench.data.digits reads it")
    if where.data is None or not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check it")
    if card.data in ("actions", "masks"):
        both = _actions(card, where) if card.data == "actions" else _masks(card, where)
        return both.train if split == "train" else both.test
    paths = {split: (where.train if split == "train" else where.val) or find_annotations(card, where.data, split)}
    if card.num_classes is None:  # names of classes are numbered over both splits
        other: Split = "test" if split == "train" else "train"
        beside = (where.val if split == "train" else where.train) or find_annotations(card, where.data, other)
        paths |= {other: beside} if beside.exists() else {}
    read = read_splits(card, paths, where.data)
    part = read[split]
    num_classes = _num_classes(card, {split: part})
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
    from bench.data import digits

    if where != ListOptions():
        raise BenchError(
            f"task {card.name} brings its own data",
            fix="drop --data, --train and --val, or use --task custom for your lists",
        )
    folder = digits.ensure_digits(cache, progress=progress)
    names = digits.MOTIONS if card.label == "motion" else tuple(str(i) for i in range(digits.NUM_DIGITS))

    def samples(split: digits.Split) -> list[Sample]:
        return [
            Sample(
                id=c.id,
                path=str(folder / c.path),
                label=c.motion if card.label == "motion" else c.digit,
                group=f"image {c.image}",
            )
            for c in digits.read_digits(folder, split)
        ]

    return Splits(samples("train"), samples("test"), names)


def _actions(card: TaskCard, where: ListOptions) -> Splits:
    from bench.data.actions import load_actions  # it builds on this module

    return load_actions(card, where)


def _masks(card: TaskCard, where: ListOptions, *, test_only: bool = False) -> Splits:
    from bench.data.masks import load_mask_splits  # it builds on this module

    return load_mask_splits(card, where, test_only=test_only)


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


def _num_classes(card: TaskCard, read: Mapping[Split, ReadSplit]) -> int:
    """Number of classes: the card's, else of those that the splits name, else as many as the training labels need."""
    counted = next(read[split] for split in ("train", "test") if split in read)
    named = 1 + max(counted.class_names or [-1])
    return card.num_classes or named or _infer_classes(counted.path, counted.samples)


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
            from_one = sample.label == num_classes and counts_from_one([samples])
            raise BenchError(
                f"label {sample.label} of '{sample.id}' is out of range: {source} has classes 0 to {num_classes - 1}",
                where=str(path),
                fix="its labels seem to count from 1: subtract 1 from each"
                if from_one
                else "mend the row, or state the classes in a card of your own",
            )
    if path and num_classes < 2:
        raise BenchError("a task needs at least two classes", where=str(path), fix="check the labels")


def _check_first_label(read: Mapping[Split, ReadSplit]) -> None:
    if counts_from_one(part.samples for part in read.values()) and not read["test"].class_names:
        raise BenchError(
            "no sample has label 0: the labels seem to count from 1",
            where=" and ".join(str(part.path) for part in read.values()),
            fix="subtract 1 from each; or keep them, and a class 0 without samples, with --set task.labels=as-they-are",
        )


def _check_tested_names(train: ReadSplit, test: ReadSplit, names: Sequence[str]) -> None:
    """Raise BenchError where the test split names a class that the training split does not: it may be misspelt."""
    if not train.class_names:
        return
    trained = {sample.label for sample in train.samples}
    stranger = next((sample for sample in test.samples if sample.label not in trained), None)
    if stranger:
        known = [names[label] for label in sorted(trained)]
        raise BenchError(
            f"'{names[stranger.label]}', the class of '{stranger.id}', has no training sample",
            where=str(test.path),
            fix=f"{nearest(names[stranger.label], known)}; or state the classes in a card of your own",
        )


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


_SHOWN = 5


def count_classes(samples: Sequence[Sample], num_classes: int) -> list[int]:
    """Samples of each class; labels outside 0 to num_classes - 1 are left out."""
    labels = np.fromiter((sample.label for sample in samples), np.int64, len(samples))
    inside = labels[(labels >= 0) & (labels < num_classes)]
    return [int(count) for count in np.bincount(inside, minlength=num_classes)]


def counts_from_one(splits: Iterable[Sequence[Sample]]) -> bool:
    """Whether the smallest label of all these samples is 1."""
    return min((sample.label for samples in splits for sample in samples), default=0) == 1


def untrained_classes(names: Sequence[str], train: Sequence[int], test: Sequence[int]) -> list[str]:
    """What to say of the classes without a training sample, from the samples that each class has in both splits."""
    gaps = [name for name, *counts in zip(names, train, test, strict=True) if not any(counts)]
    tested = {name: n for name, count, n in zip(names, train, test, strict=True) if n and not count}
    lines = []
    if gaps:
        lines.append(f"{_share(gaps, names)} no sample in either split: {_shown(gaps)}")
    if tested:
        of_them = f"{sum(tested.values()):,} test samples are of them" if len(tested) > 1 else _of_it(*tested.values())
        lines.append(f"{_share(tested, names)} no training sample, and {of_them}: {_shown(list(tested))}")
    return lines


def _share(some: Sequence[str] | dict[str, int], names: Sequence[str]) -> str:
    return f"{len(some):,} of {len(names):,} classes {'has' if len(some) == 1 else 'have'}"


def _of_it(count: int) -> str:
    return f"{count:,} test samples are of it" if count > 1 else "1 test sample is of it"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
