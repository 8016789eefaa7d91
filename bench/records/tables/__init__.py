"""What runs answered, on disk: one form of answers a module, written beside the record and checked when it is read."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from bench.metrics.metric import Answers
    from bench.records.schema import Record


FILES: dict[str, tuple[str, ...]] = {
    "classes": ("predictions.parquet",),
    "boxes": ("detections.parquet", "ground_truth.parquet"),
    "ranked": ("top5.parquet",),
    "maps": ("images.parquet", "pixels.parquet"),
}
"""Names of the files of each form of answers."""
CONTROLS, CONTROLS_FOLDER = "controls.parquet", "controls"
"""What was answered in other frame orders (bench.records.tables.controls)."""


SEEDS_FOLDER = "seeds"
"""Where the same tables of a run's other probes lie: seeds/1, seeds/2, ..."""


def seed_folder(run: Path, number: int) -> Path:
    """Where the tables of one of a run's probes lie; that of its first is the run's own folder."""
    return run / SEEDS_FOLDER / str(number) if number else run


class AnswerTable(Protocol):
    """A module of this package, called as the form: `classes`, `boxes`, `maps`, `ranked`."""

    def write(self, folder: Path, answers: Any) -> None:
        """Write the tables of these answers into a folder."""

    def read(self, folder: Path, record: Record) -> Answers:
        """The answers in a folder. Raises BenchError where a table is missing or damaged, or contradicts itself or what
        the record says of classes and failures; its scores are compared by `bench.records.recomputed`."""


def tables_there(folder: str | Path) -> list[str]:
    """Paths in a run's folder of the tables that it has: of the first probe, those of other frame orders last, then of
    the other probes."""
    found, further = _of_probe(folder), Path(folder, SEEDS_FOLDER)
    for number in sorted(_names(further)) if SEEDS_FOLDER in _names(folder) and further.is_dir() else ():
        if (further / number).is_dir():
            found += [f"{SEEDS_FOLDER}/{number}/{name}" for name in _of_probe(further / number)]
    return found


def _of_probe(folder: str | Path) -> list[str]:
    names = [name for files in FILES.values() for name in files]
    there = _names(folder)
    found = [name for name in (*names, CONTROLS) if name in there]
    if CONTROLS_FOLDER in there and Path(folder, CONTROLS_FOLDER).is_dir():
        for reading in sorted(_names(Path(folder, CONTROLS_FOLDER))):
            found += [f"{CONTROLS_FOLDER}/{reading}/{name}" for name in names]
    return [name for name in found if Path(folder, name).is_file()] if CONTROLS_FOLDER in there else found


def _names(folder: str | Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def table_of(form: str) -> AnswerTable:
    """The tables of a form of answers."""
    if form not in FILES:
        raise ValueError(f"no form of answers is called {form}")
    return cast("AnswerTable", importlib.import_module(f"bench.records.tables.{form}"))


def write_answers(folder: Path, answers: Answers) -> None:
    """Write answers of any form into a folder."""
    table_of(answers.form).write(folder, answers)
