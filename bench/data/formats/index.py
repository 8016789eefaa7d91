"""Where the files of annotated samples are: the data folder is listed once, whatever number of samples it has."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from bench.core.errors import BenchError
from bench.data.formats import Sample
from bench.data.formats.lists import resolve
from bench.data.formats.suffixes import USUAL_VIDEO_SUFFIXES
from bench.data.sample import Annotations, Row
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
