"""Jester: one row a clip, which is a folder of JPEG frames at 12 frames a second.

`id;label` without a header (`jester-v1-train.csv`), or a header with at least `video_id,label` (`Train.csv` of the
newer release); label is the name of the gesture. Frames are `{id}/00001.jpg`, `{id}/00002.jpg`, ...
"""

from __future__ import annotations

from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import ClassNumbers, head_of, read_table
from bench.data.sample import Annotations, Row, Split

FPS = 12.0
"""Rate at which the authors took frames from the videos (Materzynska et al. 2019, section 3)."""
_FOLDER = "20bn-jester-v1"


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    first = head.lstrip().partition("\n")[0].strip()
    return ";" in first or first.startswith(("video_id,", "id,")) or first.isdigit()


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split."""
    number = ClassNumbers(card)
    rows = []
    for line, video, label in _pairs(path):
        where = f"{path}:{line}"
        if not label:
            fix = "labels of the test split are not public: give the validation file"
            raise BenchError(f"'{video}' has no label", where=where, fix=fix)
        rows.append(Row(video, number(label, where=where), line, f"{_FOLDER}/{video}", (video,), fps=FPS))
    return Annotations(path, rows)


def _pairs(path: Path) -> list[tuple[int, str, str]]:
    first = head_of(path).partition("\n")[0].strip()
    if "video_id" in first or first.startswith("id,"):
        key = "video_id" if "video_id" in first else "id"
        table = read_table(path, (key, "label"), delimiter=";" if ";" in first else ",")
        return [(line, cells[key], cells["label"]) for line, cells in table]
    if ";" not in first:
        fix = "labels of the test split are not public: give the validation file"
        raise BenchError(f"'{first[:60]}' has no label", where=f"{path}:1", fix=fix)
    rows = read_table(path, (), header=("id", "label"), delimiter=";")
    return [(line, cells["id"], cells["label"]) for line, cells in rows]
