"""iNaturalist 2021: `train.json` and `val.json` as COCO writes them, or class folders `00000_Animalia_...`.

`images` have `id` and `file_name` (`val/00000_Animalia_.../x.jpg`), `annotations` `image_id` and `category_id`,
`categories` `id` and `name`. Category ids count from 0 and are what the folders' names begin with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import is_json, read_json, whole_number, with_fields
from bench.data.sample import Annotations, Row, Split


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return is_json(head)


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split, and the names of its categories."""
    content = with_fields(read_json(path), ("images", "categories"), where=str(path))
    if "annotations" not in content:
        fix = "labels of the test split are not public: give val.json"
        raise BenchError("no 'annotations': the images have no labels", where=str(path), fix=fix)
    names = {
        whole_number(category["id"], where=where): str(category["name"])
        for where, category in _entries(path, content, "categories", ("id", "name"))
    }
    labels = {
        str(entry["image_id"]): whole_number(entry["category_id"], where=where)
        for where, entry in _entries(path, content, "annotations", ("image_id", "category_id"))
    }
    rows = []
    for number, (where, image) in enumerate(_entries(path, content, "images", ("id", "file_name")), start=1):
        file, label = str(image["file_name"]), labels.get(str(image["id"]))
        if label is None:
            raise BenchError(f"'{file}' has no annotation", where=where, fix="download the file again")
        rows.append(Row(file, label, number, file))
    return Annotations(path, rows, _distinct(names))


def _entries(
    path: Path, content: dict[str, Any], kind: str, fields: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands, and the mapping, of each entry of one of the lists of the file."""
    if not isinstance(content[kind], list):
        raise BenchError(f"'{kind}' is not a list", where=str(path), fix="download the file again")
    for number, entry in enumerate(content[kind], start=1):
        where = f"{path}: {kind} {number}"
        yield where, with_fields(entry, fields, where=where)


def _distinct(names: dict[int, str]) -> dict[int, str]:
    """Names that occur twice get their number."""
    count = Counter(names.values())
    return {number: f"{name} ({number})" if count[name] > 1 else name for number, name in names.items()}
