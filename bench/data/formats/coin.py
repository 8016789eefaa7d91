"""COIN: `COIN.json`, all videos of both splits with their task, its span, and the steps in it.

`{"database": {YOUTUBE_ID: {"class": "ReplaceCDDriveWithSSD", "recipe_type": 131, "subset": "training", "start": 56.6,
"end": 85.7, "annotation": [{"id": "212", "segment": [60.0, 69.0], "label": "take out ..."}, ...]}}}`

The 180 classes are the tasks, one a video, which is what V-JEPA 2 recognises; `recipe_type` numbers them. A sample is
the span from `start` to `end` (seconds) in which the task is done. The kinds of steps are another benchmark.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import is_json, read_json, whole_number, with_fields
from bench.data.sample import SPLIT_NAMES, Annotations, Row, Split


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return is_json(head)


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of a split, and the names of the tasks that occur in either."""
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise BenchError("no videos under 'database'", where=str(path), fix="give COIN.json")
    rows, names = [], dict[int, str]()
    for number, (video, entry) in enumerate(database.items(), start=1):
        where = f"{path}: '{video}'"
        facts = with_fields(entry, ("class", "recipe_type", "subset"), where=where)
        label = whole_number(facts["recipe_type"], where=where)
        task = str(facts["class"])
        known = names.setdefault(label, task)
        if known != task:
            what = f"recipe_type {label} is '{task}' here and '{known}' above"
            raise BenchError(what, where=where, fix="download the file again")
        if str(facts["subset"]) in SPLIT_NAMES[split]:
            start, end = _span(facts, where)
            expected = f"videos/{label}/{video}.mp4"
            rows.append(Row(video, label, number, expected, (video,), start_s=start, end_s=end))
    return Annotations(path, rows, names)


def _span(facts: dict[str, Any], where: str) -> tuple[float | None, float | None]:
    start, end = facts.get("start"), facts.get("end")
    if start is None or end is None:
        return None, None
    numbers = isinstance(start, int | float) and isinstance(end, int | float)
    if not numbers or not 0 <= start < end <= sys.float_info.max:
        raise BenchError(f"a span from {start} s to {end} s", where=where, fix="mend the entry")
    return float(start), float(end)
