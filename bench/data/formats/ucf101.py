"""UCF101: `trainlist01.txt` and `testlist01.txt` (splits 1 to 3).

`ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`: class folder, file, and in training lists a label that counts from 1.
Test lists have no label. The folder is the class, in the order of `classInd.txt`; lists that count from 0 are read too,
and a number that fits neither is refused: sorting the names with capitals first gives another order for four classes.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import ClassNumbers, first_row, read_lines, whole_number
from bench.data.sample import Annotations, Row, Split

_ROW = re.compile(r"(?P<folder>[^/]+)/(?P<file>v_[^/]+?)(\.\w+)?([ ,\t]+(?P<label>\d+))?")


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return _ROW.fullmatch(first_row(head)) is not None


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split."""
    number = ClassNumbers(card)
    rows, offsets = [], set[int]()
    for line, text in read_lines(path):
        where = f"{path}:{line}"
        found = _ROW.fullmatch(text)
        if not found:
            raise BenchError(f"not `Class/v_FILE.avi [label]`: '{text[:60]}'", where=where, fix="mend the row")
        folder, file = found["folder"], found["file"]
        label = number(folder, where=where)
        if found["label"] is not None:
            offsets.add(whole_number(found["label"], where=where) - label)
            if offsets not in ({0}, {1}):
                what = f"label {found['label']} of '{folder}', which is class {label} of card {card.name}"
                raise BenchError(what, where=where, fix="count as classInd.txt does, from 1 or from 0")
        rows.append(Row(f"{folder}/{file}", label, line, f"UCF-101/{folder}/{file}.avi", (f"{folder}/{file}", file)))
    return Annotations(path, rows)
