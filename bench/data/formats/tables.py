"""Annotation files as text, JSON and tables, with errors that name file and row; names of classes and of files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.cards.load import TaskCard
from bench.core.errors import BenchError, nearest
from bench.core.files import lines_of
from bench.core.inputs import ANNOTATIONS, read_bytes
from bench.core.inputs import read_text as read_text_of
from bench.video.image_frames import IMAGE_SUFFIXES

USUAL_VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
"""Suffixes of the files that official datasets are made of."""
VIDEO_SUFFIXES = (
    *USUAL_VIDEO_SUFFIXES,
    ".3g2",
    ".3gp",
    ".asf",
    ".divx",
    ".f4v",
    ".flv",
    ".gif",
    ".m2ts",
    ".m2v",
    ".mjpeg",
    ".mjpg",
    ".mts",
    ".mxf",
    ".ogg",
    ".ogv",
    ".ts",
    ".vob",
    ".wmv",
)
"""Suffixes of the files that count as videos in a folder, in upper or lower case."""
MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES


_HEAD_BYTES = 4096


def head_of(path: Path) -> str:
    """The first characters of a file, whatever is in it; empty for a folder."""
    if path.is_dir():
        return ""
    try:
        return read_bytes(path, ANNOTATIONS, first=_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise _unreadable(path, error) from error


def read_text(path: Path, kind: str = "annotation file", fix: str = "download it again") -> str:
    """A text file. Raises BenchError where it is missing, empty or not UTF-8; `kind` is what errors call it, and `fix`
    what to do about an empty one."""
    try:
        text = read_text_of(path, ANNOTATIONS, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, kind) from error
    if not text.strip():
        raise BenchError(f"the {kind} is empty", where=str(path), fix=fix)
    return text


def read_lines(path: Path, kind: str = "annotation file", fix: str = "download it again") -> list[tuple[int, str]]:
    """The `lines_of` a text file. Raises as `read_text`."""
    return lines_of(read_text(path, kind, fix))


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises BenchError naming the line where it is none."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise BenchError(f"not JSON ({error.msg})", where=where, fix="download the file again") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists without end
        raise BenchError(f"not JSON ({error})", where=str(path), fix="download the file again") from error


def read_entries(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The entries of a JSON list of mappings that have `fields`, counted from 1."""
    content = read_json(path)
    if not isinstance(content, list):
        raise BenchError("not a list of samples", where=str(path), fix="give the official annotation file")
    for number, entry in enumerate(content, start=1):
        yield number, with_fields(entry, fields, where=f"{path}: entry {number}")


def with_fields(entry: Any, fields: Sequence[str], *, where: str) -> dict[str, Any]:
    """The mapping `entry`. Raises BenchError where it is none or a field is missing."""
    missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
    if missing:
        labels = {"label", "template", "class"} & set(missing)
        fix = "labels of this split are not public: give the validation file" if labels else "download the file again"
        raise BenchError(f"no field '{missing[0]}'", where=where, fix=fix)
    return dict(entry)


def read_table(
    path: Path, columns: Sequence[str], *, header: Sequence[str] | None = None, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a delimited file with their line numbers. `columns` must be there; the first row names them unless
    `header` does.

    Raises BenchError where the header is missing, lacks a column, or a row is short.
    """
    rows = read_cells(path, delimiter)
    if header is None:
        line, first = next(rows, (1, []))
        header = [cell.strip() for cell in first]
        absent = [column for column in columns if column not in header]
        if absent:
            shown = delimiter.join(first)[:60]
            raise BenchError(
                f"no column '{absent[0]}' in the header '{shown}'",
                where=f"{path}:{line}",
                fix="labels of this split are not public: give the validation file"
                if absent == ["label"]
                else f"the first row names the columns {', '.join(columns)}",
            )
    for line, row in rows:
        if len(row) < len(header):
            what = f"{len(row)} columns instead of {len(header)}"
            raise BenchError(what, where=f"{path}:{line}", fix="mend the row, or download the file again")
        yield line, {name: cell.strip() for name, cell in zip(header, row, strict=False)}


def read_cells(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row of a delimited file that is not blank. Raises BenchError naming the row."""
    reader = csv.reader(io.StringIO(read_text(path)), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:  # a quote that is never closed makes a cell of the rest; a zero byte, in Python 3.10
        where, fix = f"{path}:{reader.line_num}", "mend the row, or download the file again"
        raise BenchError(f"not a row of cells ({error})", where=where, fix=fix) from error


def whole_number(text: Any, *, where: str) -> int:
    """A number that is whole, such as `12`, `12.0` or 12. Raises BenchError for anything else."""
    try:
        number = float(text)
        if not isinstance(text, bool) and number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise BenchError(f"'{text}' is not a whole number", where=where, fix="mend the row")


def _unreadable(path: Path, error: Exception, kind: str = "annotation file") -> BenchError:
    if isinstance(error, FileNotFoundError):
        return BenchError(f"no such {kind}", where=str(path), fix="check --data, --train and --val")
    return BenchError(f"cannot be read as text ({error})", where=str(path), fix=f"give the {kind} in UTF-8")


def is_json(head: str) -> bool:
    """Whether a file that begins with `head` is JSON: a list or a mapping."""
    return head.lstrip()[:1] in ("[", "{")


def first_row(head: str) -> str:
    """The first row of a file that begins with `head`, without the blanks around it."""
    return head.lstrip().partition("\n")[0].strip()


class ClassNumbers:
    """The labels of a card's classes, by name: case, brackets, and underscores for spaces are passed over."""

    def __init__(self, card: TaskCard) -> None:
        if not isinstance(card.classes, tuple):
            raise BenchError(
                f"annotations in the format {card.format} name their classes, and card {card.name} does not",
                fix="state `classes: [NAME, ...]` in label order in the card",
            )
        self._card, self._names = card.name, card.classes
        self._numbers = {plain(name): number for number, name in enumerate(card.classes)}
        if card.format == "imagenet":  # named as in LOC_synset_mapping.txt: WordNet id, then words
            self._numbers |= {name.split()[0]: number for number, name in enumerate(card.classes)}

    def __call__(self, name: str, *, where: str) -> int:
        """The label of a class. Raises BenchError with the nearest names for one that the card does not have."""
        number = self._numbers.get(plain(name))
        if number is None:
            fix = nearest(name, self._names)
            if fix.startswith("known: "):
                fix = f"`bench tasks {self._card} --json` lists the classes"
            raise BenchError(f"'{name[:80]}' is not a class of card {self._card}", where=where, fix=fix)
        return number


def plain(name: str) -> str:
    """A class name without what spellings differ in."""
    return " ".join(re.sub(r"[\[\]]", "", name).replace("_", " ").casefold().split())
