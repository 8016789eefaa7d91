"""The tables of what was predicted for the pixels of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import BenchError
from bench.metrics.iou import VOID, Confusions, MapAnswers, confusion
from bench.records.tables import FILES, maps

RECORD: Any = SimpleNamespace(
    num_classes=3, class_names=["a", "b", "c"], failures=[SimpleNamespace(split="test", sample="lost")]
)


def answers(groups: list[str] | None = None) -> MapAnswers:
    """Of three images, the second of which is void everywhere."""
    images = [([0, 0, 1], [0, 1, 1]), ([VOID, VOID, VOID], [2, 2, 0]), ([2, 1, 0], [2, 1, 1])]
    confusions = Confusions.of(confusion(*image, 3) for image in images)
    names = None if groups is None else np.array(groups, dtype=object)
    return MapAnswers(("a", "b", "c"), confusions, ("a", "b", "c"), names)


@pytest.mark.parametrize("groups", [None, ["x", "y", "x"]])
def test_answers_are_read_as_they_were_written(tmp_path: Path, groups: list[str] | None) -> None:
    maps.write(tmp_path, answers(groups))
    assert {path.name for path in tmp_path.iterdir()} == set(FILES["maps"])
    read = maps.read(tmp_path, RECORD)
    assert read.samples == ("a", "b", "c")
    assert read.sample_digest == answers().sample_digest and read.prediction_digest == answers().prediction_digest
    assert (read.groups is None) if groups is None else read.groups.tolist() == [0, 1, 0]  # type: ignore[union-attr]


def change(name: str, column: str, edit: Callable[[list[Any]], list[Any]]) -> Callable[[Path], None]:
    """Another column in the table of this name."""

    def spoil(folder: Path) -> None:
        columns = pq.read_table(folder / name).to_pydict()
        columns[column] = edit(columns[column])
        pq.write_table(pa.table(columns), folder / name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change(maps.IMAGES, "sample", lambda names: ["a", "a", "c"]), "sample a is there twice"),
        (change(maps.IMAGES, "sample", lambda names: ["a", "lost", "c"]), "an answer to lost"),
        (change(maps.PIXELS, "image", lambda rows: [3, *rows[1:]]), "column 'image' goes from 0 to 3, of 3"),
        (change(maps.PIXELS, "true", lambda rows: [-1, *rows[1:]]), "column 'true' goes from -1 to 2, of 3"),
        (change(maps.PIXELS, "predicted", lambda rows: [7, *rows[1:]]), "column 'predicted' goes from 1 to 7"),
        (change(maps.PIXELS, "pixels", lambda rows: [0, *rows[1:]]), "a pair of classes has 0 pixels"),
        (change(maps.PIXELS, "pixels", lambda rows: [1 << 60, *rows[1:]]), "a pair of classes has 115"),
        (change(maps.PIXELS, "predicted", lambda rows: [rows[1], *rows[1:]]), "is there twice"),
        (change(maps.PIXELS, "pixels", lambda rows: [1.5, *rows[1:]]), "no whole number"),
        (lambda folder: (folder / maps.PIXELS).unlink(), "pixels.parquet is missing"),
        (lambda folder: (folder / maps.IMAGES).write_bytes(b"?"), "not readable answers"),
    ],
)
def test_tables_that_cannot_be_true_are_refused(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    maps.write(tmp_path, answers())
    spoil(tmp_path)
    with pytest.raises(BenchError, match=said):
        maps.read(tmp_path, RECORD)
