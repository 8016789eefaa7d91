"""The table of answers where each sample has one label: predictions.parquet.

sample, label, prediction, probabilities (of all classes); video: a number, where samples were cut from one video
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.metrics.accuracy import ClassAnswers
from bench.records.tables import FILES
from bench.records.tables.reading import contradiction, matrix, read_columns, refuse_failed, refuse_twice, whole_numbers

if TYPE_CHECKING:
    from bench.records.schema import Record

(FILE_NAME,) = FILES["classes"]
_ROUNDING = 1e-3
"""How far probabilities may lie beside 0 to 1, and their sum beside 1: they are sums of float32."""


def write(folder: Path, answers: ClassAnswers) -> None:
    """Write the table of these answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "sample": pa.array(answers.samples, pa.string()),
        "label": pa.array(answers.labels.tolist(), pa.int32()),
        "prediction": pa.array(answers.predicted.tolist(), pa.int32()),
        "probabilities": pa.array(list(answers.probabilities), pa.list_(pa.float32())),
    }
    groups = [] if answers.groups is None else answers.groups.tolist()
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < len(groups):
        # Numbers instead of names: a path of this machine has no place in a result.
        columns["video"] = pa.array([numbers[group] for group in groups], pa.int32())
    pq.write_table(pa.table(columns), folder / FILE_NAME)


def read(folder: Path, record: Record) -> ClassAnswers:
    """The answers of the run in `folder`, in the order of its list.

    Raises BenchError where the table is missing, damaged, or contradicts itself or the record.
    """
    path = folder / FILE_NAME
    table = read_columns(path, ["sample", "label", "prediction", "probabilities"], optional=("video",))
    names = [str(name) for name in table["sample"].to_pylist()]
    labels, said = whole_numbers(table, path, "label"), whole_numbers(table, path, "prediction")
    probabilities = matrix(table, path, "probabilities").astype(np.float32)
    videos = whole_numbers(table, path, "video") if "video" in table.column_names else None
    refuse_twice(names, path)
    _check_probabilities(record, names, probabilities, path)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != said)
    if len(wrong):
        what = (
            f"{len(wrong)} of {len(said)} predictions are not the most probable class, the first of {names[wrong[0]]}"
        )
        raise contradiction(path, what)
    if labels.min() < 0 or labels.max() >= record.num_classes:
        what = f"labels are {labels.min()} to {labels.max()}, and the record has {record.num_classes} classes"
        raise contradiction(path, what)
    refuse_failed(record, names, path)
    return ClassAnswers(tuple(names), labels, probabilities, videos)


def _check_probabilities(record: Record, names: list[str], values: NDArray[np.float32], path: Path) -> None:
    """Raises BenchError where there is not one probability for each class, or they are none."""
    if values.shape[1] != record.num_classes:
        raise contradiction(
            path, f"probabilities of {values.shape[1]} classes, and the record has {record.num_classes}"
        )
    with np.errstate(invalid="ignore"):
        total = values.sum(axis=1, dtype=np.float64)
        good = (values >= -_ROUNDING).all(axis=1) & (total <= 1 + _ROUNDING)
    # A released probe may know classes that the task has not.
    if not record.resolved.get("probe_weights"):
        good &= total >= 1 - _ROUNDING
    if not good.all():
        first = names[int(np.argmin(good))]
        what = (
            f"probabilities of {int((~good).sum())} samples are not finite or do not add up to 1, the first of {first}"
        )
        raise contradiction(path, what)
