"""Which reader an annotation file gets: one entry a format, and the plain list for everything else; and where the files
of its samples are: the data folder is listed once, whatever number of samples it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from bench.cards.load import Format, TaskCard
from bench.core.errors import BenchError
from bench.data.formats import coin, diving48, hmdb51, imagenet, inat, jester, kinetics, ssv2, ucf101
from bench.data.formats.lists import (
    ClassFolders,
    Listed,
    any_there,
    hold_frames,
    leading_number,
    read_rows,
    resolve,
    scan_class_folders,
)
from bench.data.formats.tables import USUAL_VIDEO_SUFFIXES, ClassNumbers, head_of
from bench.data.sample import SPLIT_NAMES, Annotations, Row, Sample, Split, check_rows
from bench.video.image_frames import IMAGE_SUFFIXES

_SUFFIXES = USUAL_VIDEO_SUFFIXES + IMAGE_SUFFIXES
"""Not all that there are: a preview x.gif beside x.mp4 is no sample."""

Index = dict[str, list[str]]
"""File name without suffix, or folder name -> paths relative to the data folder, the least deep first."""


def wanted_names(rows: Iterable[Row]) -> set[str]:
    """The file names, without suffix, that an index must hold for these rows."""
    return {name.rpartition("/")[2] for row in rows for name in row.names}


def index_folder(root: Path, wanted: Collection[str]) -> Index:
    """All videos, images and folders below `root` whose name without suffix is wanted, by that name.

    A folder that is wanted holds frames and is not entered, so that a million samples cost a million entries and not
    their frames. Hidden files are passed over; links to folders are followed, each folder once.
    """
    found: Index = {}
    base = str(root)
    seen = {os.path.realpath(base)}
    folders = [base]
    while folders:
        deeper: list[str] = []
        for folder in folders:
            for entry in _entries(folder):
                name, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a million Path objects take seconds
                if entry.name.startswith(".") and entry.name not in wanted and name not in wanted:
                    continue
                relative = os.path.relpath(entry.path, base) if folder == base else entry.path[len(base) + 1 :]
                if suffix.lower() in _SUFFIXES and name in wanted:
                    found.setdefault(name, []).append(relative)
                elif entry.is_dir():
                    if entry.name in wanted:
                        found.setdefault(entry.name, []).append(relative)
                    elif not entry.is_symlink() or _first_visit(entry.path, seen):
                        deeper.append(entry.path)
        folders = deeper
    return found


def locate(annotations: Annotations, root: Path, index: Index) -> list[Sample]:
    """The samples of the rows, each with the path of its file, or where that is expected if it is not there.

    Raises BenchError where an id leads out of the folder, or two rows to one file.
    """
    samples = []
    lines: dict[tuple[str, float | None, float | None], int] = {}
    for row in annotations.rows:
        where = f"{annotations.path}:{row.line}"
        relative = _find(row, index) or row.expected
        path = resolve(relative, root, absolute_allowed=False, where=where)
        first = lines.setdefault((path, row.start_s, row.end_s), row.line)
        if first != row.line:
            what = f"'{row.id}' and the sample of row {first} are both the file '{relative}'"
            raise BenchError(what, where=where, fix="remove one of the rows, or name the files by their full id")
        samples.append(Sample(row.id, path, row.label, row.start_s, row.end_s, row.fps))
    return samples


def _find(row: Row, index: Index) -> str | None:
    for name in row.names:
        folder, _, last = name.rpartition("/")
        for candidate in index.get(last, ()):
            above = candidate.replace(os.sep, "/").rpartition("/")[0]
            if not folder or above == folder or above.endswith(f"/{folder}"):
                return candidate
    return None


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Sorted, so that of two files of one name every machine takes the same."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BenchError(f"cannot be listed ({error.strerror})", where=folder, fix="check its permissions") from error


def _first_visit(path: str, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    new = real not in seen
    seen.add(real)
    return new


READERS: Mapping[Format, ModuleType] = {
    "kinetics": kinetics,
    "ssv2": ssv2,
    "imagenet": imagenet,
    "inat": inat,
    "diving48": diving48,
    "jester": jester,
    "coin": coin,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
}
"""Format -> module with `recognises(path, head)` and `read(path, split, card)`."""


@dataclass(frozen=True)
class ReadSplit:
    """The samples of a split, with or without their files, and the names that its annotations give the labels."""

    path: Path
    samples: list[Sample]
    class_names: dict[int, str] | None = None
    ids_are_official: bool = False
    """Whether an id names a sample of the dataset, so that it must not be in two splits; else it is a path."""
    notes: tuple[str, ...] = ()
    """What a reader of scores on these samples must know."""


def find_annotations(card: TaskCard, data: Path, split: Split) -> Path:
    """The annotation file or folder of a split: the card's list, else the first official name in the data folder or a
    folder directly below it. Where the card knows no other names, a folder of class folders named after the split, else
    the path of the list, though it is not there."""
    plain = data / (card.train if split == "train" else card.test)
    patterns = card.annotations.train if split == "train" else card.annotations.test
    if plain.is_file():
        return plain
    if not patterns:
        folders = (data / name for name in (plain.stem, *sorted(SPLIT_NAMES[split])))
        return plain if plain.exists() else next((folder for folder in folders if folder.is_dir()), plain)
    for pattern in patterns:
        for place in (pattern, f"*/{pattern}"):
            found = next(iter(sorted(data.glob(place))), None)
            if found is not None:
                return found
    names = dict.fromkeys((*patterns, plain.name))
    raise BenchError(
        f"no annotations of the {split} split: none of {', '.join(names)} here or one folder down",
        where=str(data),
        fix=f"`bench tasks {card.name}` shows the layout; or give --{'train' if split == 'train' else 'val'} FILE",
    )


def read_splits(card: TaskCard, paths: Mapping[Split, Path], data: Path | None) -> dict[Split, ReadSplit]:
    """The samples of splits by their annotation files. `data` is the folder of the files; that of each annotation file
    where it is None. The data folder is listed once for all splits. Raises BenchError naming file and row."""
    done: dict[Split, ReadSplit] = {}
    to_locate: dict[Path, dict[Split, Annotations]] = {}
    lists: dict[Split, Listed] = {}
    folders: dict[Split, ClassFolders] = {}
    for split, path in paths.items():
        annotations = _read_rows(card, path, split)
        if annotations is not None:
            to_locate.setdefault(data or path.parent, {})[split] = check_rows(annotations)
        elif path.is_dir():
            folders[split] = scan_class_folders(path)
        else:
            lists[split] = read_rows(path)
    names = _names_in_order(card, lists, folders)
    number = _number_by_name(card, names)
    for split, listed in lists.items():
        done[split] = ReadSplit(listed.path, _list_samples(card, listed, data, number), dict(enumerate(names)))
    of_frames = hold_frames(list(folders.values()), card)
    for split, found in folders.items():
        root = data or found.path.parent
        by_number = number if names or isinstance(card.classes, tuple) else leading_number
        annotations = check_rows(found.annotations(root, by_number, of_frames=of_frames))
        annotations = replace(annotations, class_names=dict(enumerate(names)) or annotations.class_names)
        to_locate.setdefault(root, {})[split] = annotations
    for root, located in to_locate.items():
        wanted = set[str]().union(*(wanted_names(annotations.rows) for annotations in located.values()))
        index = index_folder(root, wanted) if wanted else {}
        for split, annotations in located.items():
            samples = locate(annotations, root, index)
            done[split] = ReadSplit(annotations.path, samples, annotations.class_names, True, annotations.notes)
    return {split: done[split] for split in paths}


def _read_rows(card: TaskCard, path: Path, split: Split) -> Annotations | None:
    """What the reader of the card's format makes of a file; None where it is none of that format."""
    reader = READERS.get(card.format)
    if not reader or not path.exists():
        return None
    recognises: Callable[[Path, str], bool] = reader.recognises
    read: Callable[[Path, Split, TaskCard], Annotations] = reader.read
    return read(path, split, card) if recognises(path, head_of(path)) else None


def _names_in_order(
    card: TaskCard, lists: Mapping[Split, Listed], folders: Mapping[Split, ClassFolders]
) -> tuple[str, ...]:
    """The classes that lists and folders name, of all splits together, sorted by name; none where the card names them,
    and none of folders whose card states the number of classes.

    Raises BenchError where one split has names and another numbers.
    """
    if isinstance(card.classes, tuple):
        return ()
    names = {row.label for listed in lists.values() if listed.named for row in listed.rows}
    if card.classes is None:
        names |= {folder.name for found in folders.values() for folder in found.classes}
    numbered = next((listed for listed in lists.values() if not listed.named), None)
    if names and numbered:
        what = "its labels are numbers, and those of the other split are names of classes"
        fix = "write both alike, or state `classes: [NAME, ...]` in a card of your own"
        raise BenchError(what, where=str(numbered.path), fix=fix)
    return tuple(sorted(names))


def _number_by_name(card: TaskCard, names: Sequence[str]) -> Callable[[str, str], int]:
    """The labels of classes by name: by the card where it has them, else by their place among `names`."""
    if isinstance(card.classes, tuple):
        numbers = ClassNumbers(card)
        return lambda name, where: numbers(name, where=where)
    places = {name: place for place, name in enumerate(names)}
    return lambda name, where: places[name]


def _list_samples(card: TaskCard, listed: Listed, data: Path | None, number: Callable[[str, str], int]) -> list[Sample]:
    if data is not None:
        for folder in card.annotations.folders:
            if not (data / folder).is_dir():
                continue
            there = listed.samples(data / folder, number)
            if any_there(there):
                return there
    return listed.samples(data, number)
