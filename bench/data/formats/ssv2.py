"""Something-Something v2: `labels.json` with `train.json` and `validation.json`, or the text splits.

- JSON: a list of `{"id": "78687", "template": "Holding [something] next to [something]", ...}`. The class is the
  template without brackets; `labels.json` beside it maps the 174 names to label numbers and must agree with the card.
- Text: `id frames label`, one a line, the label in the order of `labels.json`.

Videos are called `{id}.webm`. The list `category.txt` that goes round with text splits is in another order, and wrong
for their labels.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import (
    ClassNumbers,
    first_row,
    is_json,
    read_entries,
    read_json,
    read_lines,
    whole_number,
)
from bench.data.sample import Annotations, Row, Split

LABEL_FILES = ("labels.json", "something-something-v2-labels.json")
_TEXT_ROW = re.compile(r"(\S+)\s+(\d+)\s+([0-9]{1,9})")
_FOLDER = "20bn-something-something-v2"


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return is_json(head) or _TEXT_ROW.fullmatch(first_row(head)) is not None


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split."""
    samples = _from_json(path, card) if path.suffix == ".json" else _from_text(path)
    rows = [Row(sample, label, line, f"{_FOLDER}/{sample}.webm", (sample,)) for line, sample, label in samples]
    return Annotations(path, rows)


def _from_json(path: Path, card: TaskCard) -> list[tuple[int, str, int]]:
    number = ClassNumbers(card)
    _check_label_file(path.parent, number)
    return [
        (entry, str(content["id"]), number(str(content["template"]), where=f"{path}: entry {entry}"))
        for entry, content in read_entries(path, ("id", "template"))
    ]


def _from_text(path: Path) -> list[tuple[int, str, int]]:
    samples = []
    for line, text in read_lines(path):
        found = _TEXT_ROW.fullmatch(text)
        if not found:
            raise BenchError(f"not `id frames label`: '{text[:60]}'", where=f"{path}:{line}", fix="mend the row")
        samples.append((line, found[1], int(found[3])))
    return samples


def _check_label_file(folder: Path, number: ClassNumbers) -> None:
    path = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if path is None:
        return
    labels = read_json(path)
    if not isinstance(labels, dict):
        raise BenchError("does not map class names to labels", where=str(path), fix="download the file again")
    for name, label in labels.items():
        ours, theirs = number(str(name), where=str(path)), whole_number(label, where=str(path))
        if ours != theirs:
            what = f"'{name}' has label {theirs}, and {ours} in the card"
            raise BenchError(what, where=str(path), fix="use the official labels.json, or a card with this order")
