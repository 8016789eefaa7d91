"""A folder of files a class, as ImageNet, Places and iNaturalist are unpacked: the folder itself is the annotation."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.annotations.index import MEDIA_SUFFIXES
from bench.annotations.labels import ClassNumbers
from bench.annotations.rows import Annotations, Row
from bench.cards import TaskCard
from bench.errors import BenchError


def read_class_folders(path: Path, root: Path, card: TaskCard) -> Annotations:
    """All images and videos in the class folders of `path`, which is inside the data folder `root`; in sorted order.

    A folder is called by its class, by the first word of its class (WordNet ids), or, where the card states the number
    of classes alone, by a name that begins with the label (`00017_Animalia_...`). Raises BenchError for other folders.
    """
    rows: list[Row] = []
    prefix = os.path.relpath(path, root).replace(os.sep, "/")
    prefix = "" if prefix == "." else f"{prefix}/"
    number = ClassNumbers(card) if isinstance(card.classes, tuple) else None
    names: dict[int, str] = {}
    with os.scandir(path) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        fix = "sort the files into class folders, or give their labels with --train and --val"
        raise BenchError("no class folders here", where=str(path), fix=fix)
    for folder in folders:
        where = str(path / folder)
        label = number(folder, where=where) if number else _leading_number(folder, where)
        if names.setdefault(label, folder) != folder and number is None:
            what = f"label {label} is another folder's too, '{names[label]}'"
            raise BenchError(what, where=where, fix="remove or rename one of the two")
        with os.scandir(path / folder) as entries:
            files = sorted(e.name for e in entries if e.name.lower().endswith(MEDIA_SUFFIXES) and e.name[0] != ".")
        for file in files:
            relative = f"{prefix}{folder}/{file}"
            rows.append(Row(relative, label, len(rows) + 1, relative))
    return Annotations(path, rows, None if number else names)


def _leading_number(folder: str, where: str) -> int:
    found = re.match(r"\d+", folder)
    if not found:
        fix = "give the annotation file, or a card with `classes: [NAME, ...]`"
        raise BenchError("the name of the folder does not begin with a label", where=where, fix=fix)
    return int(found[0])
