"""A folder of files a class, as ImageNet, Places and iNaturalist are unpacked: the folder itself is the annotation."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.suffixes import MEDIA_SUFFIXES
from bench.data.sample import Annotations, Row
from bench.video.image_frames import is_image

Number = Callable[[str, str], int]
"""(name of a class folder, where it is) -> its label."""


@dataclass(frozen=True)
class ClassFolder:
    """What lies in the folder of a class, and in those below it. Hidden files are passed over."""

    name: str
    media: dict[str, list[str]]
    """Folder, by its path below the class folder, "" for itself -> names of the images and videos in it."""
    others: tuple[str, ...]
    """Suffixes of the other files."""

    def image_folders(self) -> list[str]:
        """The folders below it that hold images."""
        return [folder for folder, names in self.media.items() if folder and any(map(is_image, names))]

    def samples(self, *, of_frames: bool) -> list[str]:
        """Paths below the class folder, sorted: of files, and of folders of images where these are the frames of a
        video."""
        frames = set(self.image_folders()) if of_frames else set()
        found = [f"{folder}/{name}" for folder, names in self.media.items() if folder not in frames for name in names]
        return sorted([*(path.removeprefix("/") for path in found), *frames])


@dataclass(frozen=True)
class ClassFolders:
    """A folder of class folders."""

    path: Path
    classes: list[ClassFolder] = field(default_factory=list)

    def annotations(self, root: Path, number: Number, *, of_frames: bool) -> Annotations:
        """The samples, class by class, and the names of the folders by label; the files are below `root`.

        Raises BenchError where `number` does, and where two folders have one label by the number they begin with.
        """
        prefix = os.path.relpath(self.path, root).replace(os.sep, "/")
        prefix = "" if prefix == "." else f"{prefix}/"
        rows: list[Row] = []
        names: dict[int, str] = {}
        for folder in self.classes:
            where = str(self.path / folder.name)
            label = number(folder.name, where)
            if names.setdefault(label, folder.name) != folder.name and number is leading_number:
                what = f"label {label} is another folder's too, '{names[label]}'"
                raise BenchError(what, where=where, fix="remove or rename one of the two")
            for name in folder.samples(of_frames=of_frames):
                relative = f"{prefix}{folder.name}/{name}"
                rows.append(Row(relative, label, len(rows) + 1, relative))
        return Annotations(self.path, rows, names, self._notes(of_frames=of_frames))

    def _notes(self, *, of_frames: bool) -> tuple[str, ...]:
        notes = []
        others = Counter(suffix for folder in self.classes for suffix in folder.others)
        if others:
            kinds = ", ".join(f"{count:,} {suffix or 'without any'}" for suffix, count in others.most_common(5))
            more = ", ..." if len(others) > 5 else ""
            notes.append(f"{others.total():,} files with other endings in class folders are left out: {kinds}{more}")
        if of_frames and (count := sum(len(folder.image_folders()) for folder in self.classes)):
            notes.append(f"{count:,} folders of images in class folders are read as a video each")
        return tuple(notes)


def scan_class_folders(path: Path) -> ClassFolders:
    """The class folders of `path`, sorted by name, and what is in them. Raises BenchError where there are none."""
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        fix = "sort the files into class folders, or give their labels with --train and --val"
        raise BenchError("no class folders here", where=str(path), fix=fix)
    return ClassFolders(path, [_scan(path / name) for name in names])


def hold_frames(found: Sequence[ClassFolders], card: TaskCard) -> bool:
    """Whether folders of images below class folders are videos, rather than more images of the class: where a class
    folder has several of them, no class folder has images of its own, and the card does not say that samples are
    images."""
    classes = [folder for part in found for folder in part.classes]
    if card.media == "image" or any(any(map(is_image, folder.media.get("", ()))) for folder in classes):
        return False
    return any(len(folder.image_folders()) > 1 for folder in classes)


def leading_number(folder: str, where: str) -> int:
    """The number that the name of a folder begins with. Raises BenchError where it begins with none."""
    found = re.match(r"\d+", folder)
    if not found:
        fix = "give the annotation file, or a card with `classes: [NAME, ...]`"
        raise BenchError("the name of the folder does not begin with a label", where=where, fix=fix)
    return int(found[0])


def _scan(path: Path) -> ClassFolder:
    """All that is below a class folder. Links to folders are followed, each folder once."""
    media: dict[str, list[str]] = {}
    others: list[str] = []
    seen = {os.path.realpath(path)}
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in _entries(path / folder if folder else path):
            if entry.name.startswith("."):
                continue
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.lower().endswith(MEDIA_SUFFIXES):
                media.setdefault(folder, []).append(entry.name)
            elif not entry.is_dir():
                others.append(os.path.splitext(entry.name)[1].lower())  # noqa: PTH122 - as for a million files
            elif not entry.is_symlink() or os.path.realpath(entry.path) not in seen:
                seen.add(os.path.realpath(entry.path))
                folders.append(below)
    return ClassFolder(path.name, media, tuple(others))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BenchError(f"cannot be listed ({error.strerror})", where=str(folder), fix="check its rights") from error
