"""ImageNet: class folders, or lists of the Kaggle download, with which images that are missing are noticed.

- `train_cls.txt`: `n01440764/n01440764_10026 1`, class folder and image, and a number that says nothing.
- `LOC_val_solution.csv`: `ImageId,PredictionString`, where the string begins with the WordNet id (`n01978930 85 1`).

Labels are positions of the sorted WordNet ids; the numbers of `ILSVRC2012_validation_ground_truth.txt` are in another
order.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import ClassNumbers, head_of, read_lines, read_table
from bench.data.sample import Annotations, Row, Split

_TRAIN_ROW = re.compile(r"(?P<image>(?P<wnid>n\d{8})/[^\s.]+)(\s+\d+)?")


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    first = head.partition("\n")[0].strip()
    return "ImageId" in first or _TRAIN_ROW.fullmatch(first) is not None


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split."""
    number = ClassNumbers(card)
    if "ImageId" not in head_of(path):
        return Annotations(path, _training_rows(path, number))
    rows = []
    for line, cells in read_table(path, ("ImageId", "PredictionString")):
        image, words = cells["ImageId"], cells["PredictionString"].split()
        where = f"{path}:{line}"
        if not words:
            raise BenchError(f"'{image}' has no class", where=where, fix="give the file of the validation split")
        folder = "val" if split == "test" else f"train/{words[0]}"
        rows.append(Row(image, number(words[0], where=where), line, f"{folder}/{image}.JPEG", (image,)))
    return Annotations(path, rows)


def _training_rows(path: Path, number: ClassNumbers) -> list[Row]:
    rows = []
    for line, text in read_lines(path):
        found = _TRAIN_ROW.fullmatch(text)
        if not found:
            raise BenchError(f"not `WNID/IMAGE [number]`: '{text[:60]}'", where=f"{path}:{line}", fix="mend the row")
        label = number(found["wnid"], where=f"{path}:{line}")
        rows.append(Row(found["image"], label, line, f"train/{found['image']}.JPEG", (found["image"],)))
    return rows
