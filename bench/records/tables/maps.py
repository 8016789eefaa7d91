"""The tables of answers for the pixels of images: images.parquet and pixels.parquet.

    images.parquet: sample; video: a number, where images were cut from one video
    pixels.parquet: image (its row in the other table), true, predicted, pixels: how many pixels of the true class were
    predicted to be of the other, for every image and pair of classes that has any

Void pixels are in neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.iou import Confusions, MapAnswers
from bench.records.tables import FILES
from bench.records.tables.reading import contradiction, read_columns, refuse_failed, refuse_twice, whole_numbers

if TYPE_CHECKING:
    from bench.records.schema import Record

IMAGES, PIXELS = FILES["maps"]
_MOST_PIXELS = 1 << 32
"""More pixels than any decoder opens of an image."""
_COLUMNS = ["image", "true", "predicted", "pixels"]


def write(folder: Path, answers: MapAnswers) -> None:
    """Write the tables of these answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"sample": pa.array(answers.samples, pa.string())}
    if answers.groups is not None:
        # Numbers instead of names: a path of this machine has no place in a result.
        numbers = {group: number for number, group in enumerate(dict.fromkeys(answers.groups.tolist()))}
        columns["video"] = pa.array([numbers[group] for group in answers.groups.tolist()], pa.int32())
    pq.write_table(pa.table(columns), folder / IMAGES)
    counted = {name: pa.array(getattr(answers.confusions, name)) for name in _COLUMNS}
    pq.write_table(pa.table(counted), folder / PIXELS)


def read(folder: Path, record: Record) -> MapAnswers:
    """The answers of the run in `folder`, in the order of its list.

    Raises BenchError where a table is missing, damaged, or contradicts itself or the record.
    """
    path = folder / IMAGES
    table = read_columns(path, ["sample"], optional=("video",))
    names = [str(name) for name in table["sample"].to_pylist()]
    refuse_twice(names, path)
    refuse_failed(record, names, path)
    groups = whole_numbers(table, path, "video") if "video" in table.column_names else None
    return MapAnswers(tuple(names), _confusions(folder / PIXELS, len(names), record), tuple(record.class_names), groups)


def _confusions(path: Path, num_images: int, record: Record) -> Confusions:
    table = read_columns(path, _COLUMNS, may_be_empty=True)
    image, true, predicted, pixels = (whole_numbers(table, path, name) for name in _COLUMNS)
    C = record.num_classes
    for name, values, size in (("image", image, num_images), ("true", true, C), ("predicted", predicted, C)):
        if len(values) and not 0 <= values.min() <= values.max() < size:
            raise contradiction(path, f"column '{name}' goes from {values.min()} to {values.max()}, of {size}")
    strange = pixels[(pixels < 1) | (pixels > _MOST_PIXELS)]
    if len(strange):
        raise contradiction(path, f"a pair of classes has {strange[0]} pixels in an image")
    order = np.lexsort((predicted, true, image))
    place = (image * C + true) * C + predicted
    if (np.diff(place[order]) == 0).any():
        raise contradiction(path, "a pair of classes of an image is there twice")
    return Confusions(image[order], true[order], predicted[order], pixels[order])
