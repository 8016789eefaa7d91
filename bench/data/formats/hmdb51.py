"""HMDB51: a folder of text files, one a class and split: `brush_hair_test_split1.txt`, ...

`NAME.avi 1`, where 1 is a training sample, 2 a test sample and 0 neither. One of the files stands for all of its split
number, a folder for split 1. A single list `NAME frames label`, labels in the order of the sorted names, is read too.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import ClassNumbers, first_row, read_lines
from bench.data.sample import Annotations, Row, Split

_FILE = re.compile(r"(?P<name>.+)_test_split(?P<number>[123])\.txt")
_LIST_ROW = re.compile(r"(\S+)\s+(\d+)\s+([0-9]{1,9})")


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head`, or a folder, is meant as this format."""
    if path.is_dir():
        return any(_FILE.fullmatch(entry.name) for entry in path.iterdir())
    return _FILE.fullmatch(path.name) is not None or _is_list(head)


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of a split, class by class."""
    if path.is_file() and not _FILE.fullmatch(path.name):
        return _read_list(path, card)
    found = _FILE.fullmatch(path.name)
    folder, number = (path.parent, found["number"]) if found else (path, "1")
    mark = {"train": "1", "test": "2"}[split]
    class_number = ClassNumbers(card)
    rows: list[Row] = []
    for file in sorted(folder.glob(f"*_test_split{number}.txt")):
        name = file.name.removesuffix(f"_test_split{number}.txt")
        label = class_number(name, where=str(file))
        for line, text in read_lines(file):
            video, _, kind = text.rpartition(" ")
            if kind not in ("0", "1", "2"):
                raise BenchError(f"not `NAME.avi 0|1|2`: '{text[:60]}'", where=f"{file}:{line}", fix="mend the row")
            if kind == mark:
                rows.append(_row(name, video.strip(), label, len(rows) + 1))
    return Annotations(folder, rows)


def _is_list(head: str) -> bool:
    return _LIST_ROW.fullmatch(first_row(head)) is not None


def _read_list(path: Path, card: TaskCard) -> Annotations:
    names = card.classes if isinstance(card.classes, tuple) else ()
    rows = []
    for line, text in read_lines(path):
        found = _LIST_ROW.fullmatch(text)
        if not found or int(found[3]) >= len(names):
            what = f"not `NAME frames label` with a label below {len(names)}: '{text[:60]}'"
            raise BenchError(what, where=f"{path}:{line}", fix="mend the row")
        rows.append(_row(names[int(found[3])], found[1], int(found[3]), line))
    return Annotations(path, rows)


def _row(folder: str, video: str, label: int, line: int) -> Row:
    # Only with its class: some names occur in several of them.
    name = f"{folder}/{video.removesuffix('.avi')}"
    return Row(name, label, line, f"{name}.avi", (name,))
