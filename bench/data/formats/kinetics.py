"""Kinetics: a csv with a header, one row a clip of a YouTube video.

`label,youtube_id,time_start,time_end,split[,is_cc]`; label is the name of the class, times are whole seconds. Clips are
called `{youtube_id}_{time_start:06d}_{time_end:06d}.mp4` by the official downloads, `{youtube_id}.mp4` by others, in
folders by split or class or in none. Either is taken to be the clip itself, already cut.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import ClassNumbers, read_table, whole_number
from bench.data.sample import SPLIT_NAMES, Annotations, Row, Split

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_ROW_WITHOUT_HEADER = re.compile(r"[^,]+,[\w-]{11},\d+(\.0)?,\d+")


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    first = head.lstrip().partition("\n")[0]
    return "youtube_id" in first or first.startswith("label,") or _ROW_WITHOUT_HEADER.match(first) is not None


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of a split. A file of several splits gives the rows of that one."""
    table = list(read_table(path, _COLUMNS))
    kept = _of_split(path, {cells.get("split", "") for _, cells in table}, split)
    table = [(line, cells) for line, cells in table if cells.get("split", "") in kept]
    number = ClassNumbers(card)
    clips_of_video = Counter(cells["youtube_id"] for _, cells in table)
    folder = "train" if split == "train" else "val"
    rows = []
    for line, cells in table:
        where = f"{path}:{line}"
        video = cells["youtube_id"]
        start, end = (whole_number(cells[column], where=where) for column in ("time_start", "time_end"))
        if not 0 <= start < end:
            raise BenchError(f"a clip from {start} s to {end} s", where=where, fix="mend the row")
        name = f"{video}_{start:06d}_{end:06d}"
        # Where a video gives several clips, its bare name would not tell which.
        names = (name, video) if clips_of_video[video] == 1 else (name,)
        rows.append(Row(name, number(cells["label"], where=where), line, f"{folder}/{name}.mp4", names))
    return Annotations(path, rows)


def _of_split(path: Path, found: set[str], split: Split) -> set[str]:
    """Which of the split names in the file are meant: validation before test, and all where the file tells none.

    Training rows are never scored, while one may train on rows of another split: those that are tested on are refused
    later.
    """
    mine = found & SPLIT_NAMES[split]
    validation = {name for name in mine if not name.startswith("test")}
    if not mine and found != {""} and split == "test":
        other = ", ".join(sorted(found))
        raise BenchError(f"no {split} rows, only '{other}'", where=str(path), fix="give the file of the other split")
    return validation or mine or found
