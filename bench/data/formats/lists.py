"""The official list format: one `path label` a line, no header (protocol.md 3.1).

A line is read as the official reader does, pandas.read_csv with a space as delimiter, and takes quotes off a path that
holds one. The delimiter may also be a comma, a tab or `::` (V-JEPA 2), the same in the whole file. The label is what
follows the last delimiter, so that paths with spaces survive without quotes; it is a number, or the name of a class in
the whole file. Other layouts that lists are known to have are refused by their name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.core.files import BLANKS
from bench.data.formats.tables import MEDIA_SUFFIXES, read_lines
from bench.data.sample import Annotations, Row, Sample
from bench.video.image_frames import is_image

DELIMITERS = ("::", "\t", ",", " ")
_IN_WORDS = {"::": "'::'", "\t": "a tab", ",": "a comma", " ": "a space"}
_FIX = "a path, one delimiter, a whole number; no header"
_LABEL = re.compile(r'-?[0-9]{1,9}|"-?[0-9]{1,9}"')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_HEADER = re.compile(r"(label|class|category|action|target)(es|s)?([_ ]?(name|id|idx|index))?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?|nan", re.IGNORECASE)
_ROWS_TO_TRY = 1000

Number = Callable[[str, str], int]
"""(name of a class, file and row) -> its label."""


@dataclass(frozen=True)
class ListRow:
    """One row of a list."""

    line: int
    name: str
    """The path as the list gives it."""
    label: str
    """A whole number, or the name of a class."""


@dataclass(frozen=True)
class Listed:
    """What a list says, before its files are looked for."""

    path: Path
    rows: list[ListRow]
    named: bool
    """Whether labels are names of classes."""
    layout: str = ""
    """The other layout that all rows might have, such as `folder frames label`; empty where there is none."""

    def samples(self, data: Path | None = None, number: Number | None = None) -> list[Sample]:
        """The samples in order. Relative paths are resolved against `data`, else the list's folder; `number` gives the
        labels of named classes.

        Raises BenchError naming file and line for a path that leaves the data folder or is given twice, and for a list
        of another layout.
        """
        root = data if data is not None else self.path.parent
        samples: dict[str, Sample] = {}  # by path, so that a.mp4 and ./a.mp4 are one
        for row in self.rows:
            where = f"{self.path}:{row.line}"
            label = number(row.label, where) if self.named and number else _whole(row.label, where)
            path = resolve(row.name, root, absolute_allowed=data is None, where=where)
            if path in samples:
                raise BenchError(f"'{row.name}' is listed twice", where=where, fix="remove one of the rows")
            samples[path] = Sample(id=row.name, path=path, label=label)
        found = list(samples.values())
        if self.layout and not any_there(found):
            what = f"the rows are `{self.layout}`, as in '{self.rows[0].name} {self.rows[0].label}'"
            raise BenchError(what, where=f"{self.path}:{self.rows[0].line}", fix="write `path label`, a label a row")
        return found


def read_rows(path: Path) -> Listed:
    """The rows of a list. Raises BenchError naming file and line for a bad one."""
    lines = read_lines(path, "list", "one `path label` a line, no header")
    texts = [text for _, text in lines]
    delimiter = find_delimiter(texts)
    if _num_labels(texts, delimiter) and not _most_name_classes(texts[:_ROWS_TO_TRY]):
        rows = [_numbered(line, text, delimiter, texts, path) for line, text in lines]
        return Listed(path, rows, named=False, layout=_other_layout(rows, texts, delimiter))
    delimiter = _delimiter_of_names(texts)
    return Listed(path, [_named(line, text, delimiter, path) for line, text in lines], named=True)


def any_there(samples: list[Sample]) -> bool:
    """Whether any of the first samples has its file."""
    # Not Path.exists, which raises where a damaged row names a file of thousands of letters.
    # A remote file that was not fetched is a link that leads nowhere yet.
    return any(os.path.lexists(sample.path) for sample in islice(samples, _ROWS_TO_TRY))


def find_delimiter(lines: list[str]) -> str:
    """The delimiter under which most lines end in a number."""
    return max(DELIMITERS, key=lambda delimiter: _num_labels(lines, delimiter))


def unquoted(cell: str) -> str:
    """A cell without the quotes that pandas and spreadsheets put round the whole of it; without blanks at its ends."""
    cell = cell.strip(BLANKS)
    found = _QUOTED.fullmatch(cell)
    return found[1].replace('""', '"') if found else cell


def has_labels(lines: list[str]) -> bool:
    """Whether a list says more than a path in each line: a number in any, or the name of a class in most."""
    return any(_num_labels(lines, delimiter) for delimiter in DELIMITERS) or _most_name_classes(lines[:_ROWS_TO_TRY])


def resolve(name: str, root: Path, *, absolute_allowed: bool, where: str) -> str:
    """The path of the file `name` of an annotation file. Raises BenchError where it leaves the folder `root`, or is no
    text that records and lists can hold."""
    if "\0" in name:
        raise BenchError("the path holds a zero byte", where=where, fix="mend the row, or download the file again")
    path = _inside(name, root, absolute_allowed=absolute_allowed, where=where)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        fix = "rename the file or its folder"
        raise BenchError(f"the name of '{shown}' is not in UTF-8", where=where, fix=fix) from error
    return path


def _inside(name: str, root: Path, *, absolute_allowed: bool, where: str) -> str:
    if absolute_allowed and Path(name).is_absolute():
        return os.path.normpath(name)
    base = os.path.abspath(root)  # noqa: PTH100 - does not follow links
    if os.sep == "/" and base != "/" and name[:1] not in (".", "/") and "/." not in name and "//" not in name:
        return f"{base}/{name.rstrip('/')}"  # as below, for millions of rows
    path = os.path.normpath(Path(base) / name)
    if os.path.commonpath([base, path]) != base:
        raise BenchError(f"'{name}' leaves the data folder {base}", where=where, fix="check --data, or the row")
    return path


def _numbered(line: int, text: str, delimiter: str, texts: list[str], path: Path) -> ListRow:
    """A row that ends in a number. Raises BenchError where it does not, or has another delimiter than most."""
    name, found, label = text.rpartition(delimiter)
    name = unquoted(name)
    if not found or not name or not _is_label(label):
        other = next((d for d in DELIMITERS if d != delimiter and d in text and _is_label(text.rpartition(d)[2])), None)
        if other is None:
            raise _bad_row(text, f"{path}:{line}")
        usual = f"{_num_labels(texts, delimiter)} of {len(texts)} rows have {_IN_WORDS[delimiter]}"
        raise BenchError(
            f"not `path label` with {_IN_WORDS[delimiter]} between: '{_shortened(text)}'",
            where=f"{path}:{line}",
            fix=f"{usual} before the label and this one has {_IN_WORDS[other]}: use one delimiter in the whole file",
        )
    return ListRow(line, name, unquoted(label))


def _named(line: int, text: str, delimiter: str, path: Path) -> ListRow:
    """A row that ends in the name of a class. Raises BenchError where it does not."""
    name, label = _halves(text, delimiter)
    if not name or not label or _is_file(label) or _HEADER.fullmatch(label) or _NUMBER.fullmatch(label):
        raise _bad_row(text, f"{path}:{line}")
    return ListRow(line, name, label)


def _halves(line: str, delimiter: str) -> tuple[str, str]:
    """Path and name of a class; the first is empty where the line does not have both.

    A name may hold the delimiter: in quotes, or after a file of a known suffix.
    """
    if line[-1] == '"' and (found := re.fullmatch(rf'(.+){re.escape(delimiter)}("(?:[^"]|"")*")', line)):
        return unquoted(found[1]), unquoted(found[2])
    start = 0
    while (place := line.find(delimiter, start)) >= 0:
        name, label = unquoted(line[:place]), line[place + len(delimiter) :].strip(BLANKS)
        if _is_file(name) and not _is_file(label):
            return name, label
        start = place + len(delimiter)
    name, _, label = line.rpartition(delimiter)
    return unquoted(name), unquoted(label)


def _delimiter_of_names(lines: list[str]) -> str:
    """The delimiter under which most lines have a file of a known suffix before it, or else most lines hold."""

    def fits(delimiter: str) -> tuple[int, int]:
        found = [_halves(line, delimiter)[0] for line in lines if delimiter in line]
        return sum(map(_is_file, found)), len(found)

    return max(DELIMITERS, key=fits)


def _most_name_classes(lines: list[str]) -> bool:
    """Whether most lines have a file of a known suffix and then a word, and fewer such a file and then a number."""
    words, numbers = _delimiter_of_names(lines), find_delimiter(lines)
    halves = [_halves(line, words) for line in lines]
    named = sum(_is_file(name) and label != "" and not _is_label(label) for name, label in halves)
    counted = [line.rpartition(numbers) for line in lines]
    return (
        max(len(lines) // 2, sum(_is_file(unquoted(name)) and _is_label(label) for name, _, label in counted)) < named
    )


def _other_layout(rows: list[ListRow], texts: list[str], delimiter: str) -> str:
    """A layout with more than a path before the label that all rows might have; empty where there is none."""
    if any(text[0] == '"' or delimiter not in row.name for row, text in zip(rows, texts, strict=True)):
        return ""
    if all(_is_label(row.name.rpartition(delimiter)[2]) for row in rows):
        return "folder frames label"
    if all(_is_label(row.name.partition(delimiter)[0]) for row in rows):
        return "number path label"
    return ""


def _num_labels(lines: list[str], delimiter: str) -> int:
    return sum(_is_label(line.rpartition(delimiter)[2]) for line in lines if delimiter in line)


def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text.strip(BLANKS)) is not None


def _is_file(name: str) -> bool:
    return name.lower().endswith(MEDIA_SUFFIXES)


def _whole(label: str, where: str) -> int:
    if not _is_label(label):
        raise BenchError(f"'{label}' is not a whole number", where=where, fix="give labels that are numbers")
    if int(label) < 0:
        raise BenchError(f"label {label} is negative", where=where, fix="labels count from 0")
    return int(label)


def _bad_row(text: str, where: str) -> BenchError:
    fix = "the label comes last" if _is_label(re.split(r"::|[\t, ]", text, maxsplit=1)[0]) else _FIX
    return BenchError(f"not `path label`: '{_shortened(text)}'", where=where, fix=fix)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


FolderLabel = Callable[[str, str], int]
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

    def annotations(self, root: Path, number: FolderLabel, *, of_frames: bool) -> Annotations:
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
