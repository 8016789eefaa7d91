"""What someone might do to the folder of a run, for tests of what is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.records.index import examine
from bench.records.summary import Summary

Spoil = Callable[[Path], None]
"""Does something to the folder of a run."""


def in_record(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change what `record.json` holds."""

    def spoil(folder: Path) -> None:
        path = folder / "record.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return spoil


def in_table(name: str, column: str, change: Callable[[list[Any]], list[Any]]) -> Spoil:
    """Change the values of a column of a table beside the record."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / name)
        place = table.column_names.index(column)
        values = pa.array(change(table[column].to_pylist()), table[column].type)
        pq.write_table(table.set_column(place, column, values), folder / name)

    return spoil


def in_rows(name: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Spoil:
    """Change the rows of a table beside the record."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / name)
        pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), folder / name)

    return spoil


def without(name: str) -> Spoil:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


def said_of(run: Path, spoil: Spoil, place: Path) -> str:
    """Why a copy of the run at `place` is left out, once it is spoilt; or its doubts; empty where there are none."""
    copy = Path(shutil.copytree(run, place / run.name))
    whole = examine(copy / "record.json")
    assert isinstance(whole, Summary) and not whole.doubts, whole
    spoil(copy)
    found = examine(copy / "record.json")
    if isinstance(found, Summary):
        return "; ".join(found.doubts)
    assert found.where and found.where.startswith(str(copy)) and found.fix
    return f"left out: {found.what}"
