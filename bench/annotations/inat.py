"""iNaturalist 2021: `train.json` and `val.json` as COCO writes them, or class folders `00000_Animalia_...`.

`images` have `id` and `file_name` (`val/00000_Animalia_.../x.jpg`), `annotations` `image_id` and `category_id`,
`categories` `id` and `name`. Category ids count from 0 and are what the folders' names begin with.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.annotations.rows import Annotations, Row, Split
from bench.annotations.tables import read_json, whole_number, with_fields
from bench.cards import TaskCard
from bench.errors import BenchError


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return head.lstrip()[:1] in ("[", "{")


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split, and the names of its categories."""
    content = with_fields(read_json(path), ("images", "categories"), where=str(path))
    if "annotations" not in content:
        fix = "labels of the test split are not public: give val.json"
        raise BenchError("no 'annotations': the images have no labels", where=str(path), fix=fix)
    names = {whole_number(c["id"], where=str(path)): str(c["name"]) for c in content["categories"]}
    labels = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
    rows = []
    for number, entry in enumerate(content["images"], start=1):
        where = f"{path}: image {number}"
        image = with_fields(entry, ("id", "file_name"), where=where)
        if image["id"] not in labels:
            raise BenchError(f"'{image['file_name']}' has no annotation", where=where, fix="download the file again")
        file = str(image["file_name"])
        rows.append(Row(file, whole_number(labels[image["id"]], where=where), number, file))
    return Annotations(path, rows, _distinct(names))


def _distinct(names: dict[int, str]) -> dict[int, str]:
    """Names that occur twice get their number."""
    count = Counter(names.values())
    return {number: f"{name} ({number})" if count[name] > 1 else name for number, name in names.items()}
