"""AVA: `ava_train_v2.2.csv` and its kin, rows of one action of one box in one key frame.

    video,timestamp,x1,y1,x2,y2,action,person      a labelled box; corners are shares of the frame, 0 to 1
    video,timestamp                                an evaluated key frame without actions; an excluded one elsewhere
    video,timestamp,x1,y1,x2,y2,[action,]score     a box that a detector found

Timestamps are whole seconds of the whole film, however its file was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.errors import BenchError
from bench.data.formats.tables import read_cells, read_text

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2: left, top, right, bottom, as shares of the frame, 0 to 1."""
Key = tuple[str, int]
"""Video and timestamp, seconds."""

_LIST_ENTRY = re.compile(r"\bname:\s*(['\"])(?P<name>.*?)\1\s*(?:label_)?id:\s*(?P<id>[0-9]{1,9})\b", flags=re.S)
_ROUNDING = 1e-3


@dataclass(frozen=True)
class KeyFrame:
    """What was annotated, or found, in one frame."""

    video: str
    timestamp: int
    boxes: Mapping[Corners, frozenset[int]]
    """Box -> numbers of its actions; none for a detected box, and none evaluated for some annotated ones."""

    @property
    def id(self) -> str:
        """As the annotation files write it."""
        return f"{self.video},{self.timestamp:04d}"

    @property
    def key(self) -> Key:
        return self.video, self.timestamp


@dataclass
class _Frames:
    """Key frames as they are read, in the order of the file."""

    boxes: dict[Key, dict[Corners, set[int]]] = field(default_factory=dict)

    def done(self) -> dict[Key, KeyFrame]:
        return {
            key: KeyFrame(*key, {corners: frozenset(actions) for corners, actions in boxes.items()})
            for key, boxes in self.boxes.items()
        }


def read_action_list(path: Path) -> dict[int, str]:
    """Number -> name of the actions in a `.pbtxt` list, in rising order. Raises BenchError where there are none."""
    text = read_text(path)
    found = {int(entry["id"]): entry["name"] for entry in _LIST_ENTRY.finditer(text)}
    entries = len(re.findall(r"\b(?:item|label)\s*\{", text))
    if len(found) < 2 or len(found) != entries:
        raise BenchError(
            f"{len(found)} actions with a name and a number of their own in {entries} entries",
            where=str(path),
            fix='give entries such as item { name: "walk" id: 14 }',
        )
    return dict(sorted(found.items()))


def read_ground_truth(path: Path, last_action: int) -> dict[Key, KeyFrame]:
    """The key frames of an annotation file, those without actions included.

    Raises BenchError naming file and row for a box outside the frame or inverted, and for an action that is not
    numbered from 1 to `last_action`.
    """
    frames = _Frames()
    for where, cells in _rows(path):
        boxes = frames.boxes.setdefault(_key(cells, where), {})
        if not any(cells[2:]):
            continue
        if len(cells) not in (7, 8):
            what = f"{len(cells)} columns"
            raise BenchError(what, where=where, fix="give video,timestamp,x1,y1,x2,y2,action,person")
        action = _whole(cells[6], "action", where)
        if not 1 <= action <= last_action:
            raise BenchError(
                f"action {action} is not in the list, which goes from 1 to {last_action}",
                where=where,
                fix="mend the row, or state the actions in a card of your own",
            )
        boxes.setdefault(_corners(cells[2:6], where), set()).add(action)
    return frames.done()


def read_detections(path: Path, min_score: float) -> dict[Key, KeyFrame]:
    """The boxes of score `min_score` and above in a detector's file, whatever actions it gives them.

    Raises BenchError naming file and row.
    """
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise BenchError("a pickle can hold code, so it is not read", where=str(path), fix="convert it to csv")
    frames = _Frames()
    for where, cells in _rows(path):
        boxes = frames.boxes.setdefault(_key(cells, where), {})
        if not any(cells[2:]):
            continue
        if len(cells) not in (7, 8):
            raise BenchError(
                f"{len(cells)} columns", where=where, fix="give video,timestamp,x1,y1,x2,y2,score, or an action before"
            )
        corners = _corners(cells[2:6], where)
        score = _number(cells[-1], "score", where)
        if not 0 <= score <= 1:
            raise BenchError(f"score {score:g} is not in 0 to 1", where=where, fix="mend the row")
        if score >= min_score:
            boxes.setdefault(corners, set())
    return frames.done()


def read_excluded(path: Path) -> set[Key]:
    """Key frames that do not count: rows of `video,timestamp`. An empty file excludes none."""
    return {_key(cells, where) for where, cells in _rows(path, may_be_empty=True)}


def read_included(path: Path) -> set[int]:
    """Seconds that count: one a row."""
    return {_whole(cells[0], "timestamp", where) for where, cells in _rows(path)}


def _rows(path: Path, *, may_be_empty: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of every row that is not blank."""
    if may_be_empty and path.is_file() and path.stat().st_size == 0:
        return
    for line, row in read_cells(path):
        yield f"{path}:{line}", [cell.strip() for cell in row]


def _key(cells: list[str], where: str) -> Key:
    if len(cells) < 2 or not cells[0]:
        raise BenchError("no video and timestamp", where=where, fix="the first two columns name the key frame")
    timestamp = _whole(cells[1], "timestamp", where)
    if timestamp < 0:
        raise BenchError(f"timestamp {timestamp} is negative", where=where, fix="mend the row")
    return cells[0], timestamp


def _corners(cells: list[str], where: str) -> Corners:
    x1, y1, x2, y2 = (_number(cell, name, where) for cell, name in zip(cells, ("x1", "y1", "x2", "y2"), strict=True))
    shown = f"box {x1:g},{y1:g},{x2:g},{y2:g}"
    if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in (x1, y1, x2, y2)):
        fix = "corners are shares of width and height, not pixels: mend the row"
        raise BenchError(f"{shown} leaves the frame (0 to 1)", where=where, fix=fix)
    if x1 >= x2 or y1 >= y2:
        raise BenchError(f"{shown} is inverted or empty", where=where, fix="the order is x1,y1,x2,y2: mend the row")
    left, top, right, bottom = (min(1.0, max(0.0, value)) for value in (x1, y1, x2, y2))
    return left, top, right, bottom


def _number(cell: str, name: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise BenchError(f"{name} '{cell}' is no number", where=where, fix="mend the row")
    return value


def _whole(cell: str, name: str, where: str) -> int:
    value = _number(cell, name, where)
    if value != int(value):
        raise BenchError(f"{name} '{cell}' is no whole number", where=where, fix="mend the row")
    return int(value)
