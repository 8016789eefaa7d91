"""Which reader an annotation file gets: one entry a format, and the plain list for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from bench.cards.load import Format, TaskCard
from bench.core.errors import BenchError
from bench.data.formats import Sample, coin, diving48, hmdb51, imagenet, inat, jester, kinetics, ssv2, ucf101
from bench.data.formats.folders import ClassFolders, hold_frames, leading_number, scan_class_folders
from bench.data.formats.index import index_folder, locate, wanted_names
from bench.data.formats.labels import ClassNumbers
from bench.data.formats.lists import Listed, any_there, read_rows
from bench.data.formats.tables import head_of
from bench.data.sample import SPLIT_NAMES, Annotations, Split, check_rows

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
