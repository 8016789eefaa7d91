"""Which reader an annotation file gets: one entry a format, and the plain list for everything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType

from bench.annotations import Sample, coin, diving48, hmdb51, imagenet, inat, jester, kinetics, ssv2, ucf101
from bench.annotations.folders import read_class_folders
from bench.annotations.index import index_folder, locate, wanted_names
from bench.annotations.lists import read_list
from bench.annotations.rows import Annotations, Split, check_rows
from bench.annotations.tables import head_of
from bench.cards import Format, TaskCard
from bench.errors import BenchError

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
_ROWS_TO_TRY = 1000


@dataclass(frozen=True)
class ReadSplit:
    """The samples of a split, with or without their files, and the names that its annotations give the labels."""

    path: Path
    samples: list[Sample]
    class_names: dict[int, str] | None = None
    ids_are_official: bool = False
    """Whether an id names a sample of the dataset, so that it must not be in two splits; else it is a path."""


def find_annotations(card: TaskCard, data: Path, split: Split) -> Path:
    """The annotation file or folder of a split: the card's list, else the first official name in the data folder or a
    folder directly below it. The path of the list, though it is not there, where the card knows no other names."""
    plain = data / (card.train if split == "train" else card.test)
    patterns = card.annotations.train if split == "train" else card.annotations.test
    if plain.is_file() or not patterns:
        return plain
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
    for split, path in paths.items():
        root = data or path.parent
        annotations = _read_rows(card, path, root, split)
        if annotations is None:
            done[split] = ReadSplit(path, _read_list(card, path, data))
        else:
            to_locate.setdefault(root, {})[split] = check_rows(annotations)
    for root, found in to_locate.items():
        wanted = set[str]().union(*(wanted_names(annotations.rows) for annotations in found.values()))
        index = index_folder(root, wanted) if wanted else {}
        for split, annotations in found.items():
            samples = locate(annotations, root, index)
            done[split] = ReadSplit(annotations.path, samples, annotations.class_names, ids_are_official=True)
    return {split: done[split] for split in paths}


def _read_rows(card: TaskCard, path: Path, root: Path, split: Split) -> Annotations | None:
    """None for a plain list."""
    reader = READERS.get(card.format)
    if reader and path.exists():
        recognises: Callable[[Path, str], bool] = reader.recognises
        read: Callable[[Path, Split, TaskCard], Annotations] = reader.read
        if recognises(path, head_of(path)):
            return read(path, split, card)
    return read_class_folders(path, root, card) if path.is_dir() else None


def _read_list(card: TaskCard, path: Path, data: Path | None) -> list[Sample]:
    samples = read_list(path, data)
    if data is None or not card.annotations.folders or _any_there(samples):
        return samples
    for folder in card.annotations.folders:
        there = read_list(path, data / folder) if (data / folder).is_dir() else []
        if _any_there(there):
            return there
    return samples


def _any_there(samples: list[Sample]) -> bool:
    # Not Path.exists, which raises where a damaged row names a file of thousands of letters.
    # A remote file that was not fetched is a link that leads nowhere yet.
    return any(os.path.lexists(sample.path) for sample in islice(samples, _ROWS_TO_TRY))
