"""What is found in a task's data: facts of all paths, samples that show the same, labels that do not fit the classes.

Facts come from the memory of earlier checks where nothing has changed. Equal contents are found by SHA-256, hashing
only what might be equal.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.core.memo import Memo
from bench.core.types import Split
from bench.core.workers import Lost, guarded_map
from bench.data.actions import load_actions
from bench.data.dataset import count_classes, counts_from_one, untrained_classes
from bench.data.formats.choice import ReadSplit, find_annotations
from bench.data.formats.choice import read_splits as read_annotations
from bench.data.masks import checked, load_mask_splits
from bench.data.sample import ListOptions, Sample
from bench.data.verify.checks import Check, Checked, Facts, check
from bench.video.contents import bytes_of, content_id, content_ids
from bench.video.states import remember, remembered

_MEMORY = "checks-2.sqlite"  # the number rises when a check finds more than it did
_ROW = np.dtype([("bytes", "i8"), ("sample", "u8"), ("frames", "i8"), ("fps", "f8"), ("height", "i4"), ("width", "i4")])
_AHEAD = 16
"""A header is read in the time that a message takes."""


@dataclass(frozen=True)
class Findings:
    """What is known of `paths`, row by row. An array, as a million objects would not be small."""

    paths: list[str]
    rows: NDArray[np.void]
    """Fields bytes, sample (64 bits, equal for equal contents), frames, fps, height, width."""
    faults: dict[int, Facts]
    """Place -> why a path cannot be used."""


def examine(
    paths: list[str],
    cache: Path,
    *,
    full: bool,
    workers: int,
    timeout_s: float,
    progress: Callable[[int, int], None],
) -> Findings:
    """Check every path. What is found is remembered in `cache`, so that an interrupted check goes on.

    A path whose reader hangs or dies is unreadable, and is tried again next time.
    """
    found = Findings(paths, np.zeros(len(paths), _ROW), {})
    with Memo(cache / _MEMORY) as memo:
        todo = {path: place for place, path in enumerate(paths)}
        for path, state, (was_full, *facts) in remembered(memo, paths):
            if was_full or not full:
                _enter(found, todo.pop(path), Checked(Facts(*facts), state))
                progress(len(paths) - len(todo), len(paths))
        done = len(paths) - len(todo)
        tasks = (Check(place, path, full) for path, place in todo.items())
        looked = guarded_map(check, tasks, workers=min(workers, len(todo)), timeout_s=timeout_s, ahead=_AHEAD)
        for task, outcome in looked:
            if isinstance(outcome, Lost):
                outcome = Checked(Facts(fault="unreadable", reason=f"its reader {outcome.reason}"), None)
            elif outcome.state:
                remember(memo, task.path, outcome.state, [full, *astuple(outcome.facts)])
            _enter(found, task.place, outcome)
            done += 1
            progress(done, len(paths))
    return found


def _enter(found: Findings, place: int, checked: Checked) -> None:
    facts, state = checked.facts, checked.state
    size, sample = (state.size, int(state.sample or "0", 16)) if state else (0, 0)
    found.rows[place] = (size, sample, facts.frames, facts.fps, facts.height, facts.width)
    if facts.fault:
        found.faults[place] = facts


Segment = tuple[float, float]
Member = tuple[Split, Sample]


@dataclass(frozen=True)
class Duplicate:
    """Samples that are the same part of the same content; of two splits also parts that overlap."""

    members: list[Member]

    @property
    def across(self) -> bool:
        """Whether they are of two splits."""
        return len({split for split, _ in self.members}) > 1

    @property
    def labels_differ(self) -> bool:
        """Whether they have different labels."""
        return len({sample.label for _, sample in self.members}) > 1


def find_duplicates(
    members: list[Member],
    places: NDArray[np.int64],
    found: Findings,
    cache: Path,
    progress: Callable[[int, int], None],
) -> list[Duplicate]:
    """The duplicates among `members`, whose paths have the numbers `places` [n] in `found`."""
    content = _contents(found, cache, progress)[places]
    content[np.isin(places, np.fromiter(found.faults, np.int64, len(found.faults)))] = -1
    groups = defaultdict(list)
    values, counts = np.unique(content, return_counts=True)
    for number in np.flatnonzero(np.isin(content, values[(counts > 1) & (values >= 0)])):
        groups[int(content[number])].append(members[number])
    return [duplicate for group in groups.values() for duplicate in _same_parts(group)]


def _contents(found: Findings, cache: Path, progress: Callable[[int, int], None]) -> NDArray[np.int64]:
    """[paths]: of each path the number of the first one with the same content."""
    prints = found.rows["sample"]
    values, counts = np.unique(prints, return_counts=True)
    readable = np.ones(len(prints), bool)
    readable[list(found.faults)] = False
    alike = np.flatnonzero(np.isin(prints, values[counts > 1]) & readable)
    files = [found.paths[place] for place in alike if not Path(found.paths[place]).is_dir()]
    ids = content_ids(cache, files, progress)
    first: dict[str, int] = {}
    numbers = np.arange(len(prints))
    for place in alike:
        path = found.paths[place]
        numbers[place] = first.setdefault(bytes_of(ids.get(path) or content_id(path)), int(place))
    return numbers


def _same_parts(group: list[Member]) -> list[Duplicate]:
    """The duplicates among samples of the same content."""
    parts: dict[Segment, list[Member]] = defaultdict(list)
    for member in group:
        parts[_segment(member[1])].append(member)
    same = [Duplicate(members) for members in parts.values() if len(members) > 1]
    ends: dict[Split, list[tuple[Segment, Member]]] = {"train": [], "test": []}
    for segment, members in parts.items():
        for split in {split for split, _ in members}:
            ends[split].append((segment, next(member for member in members if member[0] == split)))
    overlaps = [
        Duplicate([of_train, of_test])
        for train, of_train in ends["train"]
        for test, of_test in ends["test"]
        if train != test and train[0] < test[1] and test[0] < train[1]
    ]
    return same + overlaps


def _segment(sample: Sample) -> Segment:
    return sample.start_s or 0.0, float("inf") if sample.end_s is None else sample.end_s


_ENOUGH = 0.5
"""Share of the folders with a class's name from which on folders are taken to name classes."""


def class_names(card: TaskCard, splits: Parts) -> tuple[str, ...]:
    """Class names of the card, else of the annotations; else numbers, up to the largest training label."""
    if isinstance(card.classes, tuple):
        return card.classes
    known = splits["train"].class_names or {}
    number = card.classes or 1 + max((*known, *(sample.label for sample in splits["train"].samples)), default=0)
    return tuple(known.get(label, str(label)) for label in range(number))


def samples_of_classes(
    card: TaskCard,
    where: ListOptions,
    splits: Parts,
    num_classes: int,
    cache: Path,
    progress: Callable[[int, int], None],
) -> dict[Split, list[int]]:
    """Samples of each class, by split; images that show it where they have masks. Raises BenchError for a mask that
    does not do."""
    if card.data != "masks":
        return {split: count_classes(part.samples, num_classes) for split, part in splits.items()}
    files = checked(load_mask_splits(card, where).facts, cache, progress)
    if files.pixels is None:
        raise ValueError("no masks")
    shown = files.pixels > 0
    return {split: shown[files.numbers(part.samples)].sum(axis=0).tolist() for split, part in splits.items()}


def label_problems(
    card: TaskCard, names: Sequence[str], splits: Parts, counts: Mapping[str, Sequence[int]]
) -> list[str]:
    """What is wrong with the labels of the splits taken together; `counts`: samples of each class, by split."""
    numbered = card.classes is None and not splits["test"].class_names
    from_one = numbered and counts_from_one(part.samples for part in splits.values())
    lines = ["no sample has label 0: the labels seem to count from 1"] if from_one else []
    return lines + untrained_classes(names, counts["train"], counts["test"])


def order_problem(samples: Sequence[Sample], card: TaskCard) -> str | None:
    """What contradicts the card's order of classes; None where nothing does.

    Where the files lie in folders named after classes, as usual, a folder's name tells the label by the card, and the
    annotation tells it too.
    """
    if not isinstance(card.classes, tuple):
        return None
    label_of = {_plain(name): label for label, name in enumerate(card.classes)}
    # ImageNet's folders have the first word of a name such as `n01440764 tench, Tinca tinca`.
    label_of |= {name.split()[0]: label for label, name in enumerate(card.classes) if re.match(r"n\d{8}\b", name)}
    folders = Counter((Path(sample.path).parent.name, sample.label) for sample in samples)
    names = {folder for folder, _ in folders}
    known = {folder for folder in names if _plain(folder) in label_of}
    if not known or len(known) < _ENOUGH * len(names):
        return None
    wrong = {key: count for key, count in folders.items() if key[0] in known and label_of[_plain(key[0])] != key[1]}
    if not wrong:
        return None
    (folder, label), _ = max(wrong.items(), key=lambda item: item[1])
    by_card = label_of[_plain(folder)]
    return (
        f"{sum(wrong.values())} samples have another label than the card's order of classes gives their folder, "
        f"such as '{folder}': {label}, by the card {by_card}"
    )


def _plain(name: str) -> str:
    """A class name without what spellings differ in: case, spaces, punctuation."""
    return re.sub(r"[\W_]+", "", name.lower())


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
    if card.data == "masks":
        pairs = load_mask_splits(card, where)
        return {"train": ReadSplit(folder, pairs.train), "test": ReadSplit(folder, pairs.test)}
    paths: dict[Split, Path] = {
        "train": where.train or find_annotations(card, folder, "train"),
        "test": where.val or find_annotations(card, folder, "test"),
    }
    if card.data == "actions":
        both = load_actions(card, where)
        return {"train": ReadSplit(paths["train"], both.train), "test": ReadSplit(paths["test"], both.test)}
    return read_annotations(card, paths, where.data)
