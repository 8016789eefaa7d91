"""What a run answered, sample by sample: its predictions, checked against themselves and against its record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
from bench.core.inputs import PREDICTIONS, check_input
from bench.metrics.accuracy import METRICS, score_of
from bench.metrics.score import Score
from bench.records.schema import Record

FILE_NAME = "predictions.parquet"
_ROUNDING = 1e-3
"""How far probabilities may lie beside 0 to 1, and their sum beside 1: they are sums of float32."""
SAME = 1e-6
"""Scores that differ by no more, in points, are equal: machines round the last digits differently."""


@dataclass(frozen=True)
class Answers:
    """The scored test samples of one run. n samples, C classes."""

    samples: tuple[str, ...]
    labels: NDArray[np.int64]
    """[n]"""
    probabilities: NDArray[np.float32]
    """[n, C]"""
    hits: NDArray[np.int64]
    """[n], 1 where the first metric of the record calls the sample right."""
    videos: NDArray[np.int64] | None
    """[n], equal where two samples are of one video; None where every sample has its own."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class [n]."""
        classes: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return classes

    @property
    def sample_digest(self) -> str:
        """SHA-256 of all ids with their labels."""
        rows = (f"{sample} {label}" for sample, label in zip(self.samples, self.labels.tolist(), strict=True))
        return text_digest("\n".join(rows))

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of the predicted classes."""
        return text_digest(",".join(map(str, self.predicted.tolist())))

    def of(self, samples: list[str]) -> Answers:
        """Only these samples; all of them must be there."""
        places = {sample: place for place, sample in enumerate(self.samples)}
        return self.rows(np.array([places[sample] for sample in samples], dtype=np.int64))

    def rows(self, rows: NDArray[np.int64]) -> Answers:
        """The samples of these numbers, in their order."""
        return Answers(
            tuple(self.samples[row] for row in rows.tolist()),
            self.labels[rows],
            self.probabilities[rows],
            self.hits[rows],
            None if self.videos is None else self.videos[rows],
        )


def read_answers(folder: Path, record: Record) -> Answers:
    """The answers of the run in `folder`, in order of their ids.

    Raises BenchError where the predictions are missing, damaged, contradict themselves or the record, or its metric
    has no outcome for each sample.
    """
    answers = answers_as_written(folder, record)
    return answers.rows(np.argsort(np.array(answers.samples, dtype=np.str_)))


def answers_as_written(folder: Path, record: Record) -> Answers:
    """The answers of the run in `folder`, in the order of its list. Raises what `read_answers` raises."""
    path, score = folder / FILE_NAME, record.scores[0]
    if score.metric not in METRICS:
        raise BenchError(f"{score.metric} is not a sum over samples, so nothing can be paired", where=str(folder))
    names, labels, said, probabilities, videos = _read(path)
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
    if len(record.scores) > 1:
        more = ", ".join(other.metric for other in record.scores[1:])
        raise contradiction(path, f"they give one score, and the record has {len(record.scores)}: {more} too")
    compare_scores(path, score, score_of(score.metric, labels, probabilities, score.failed))
    hits = METRICS[score.metric](labels, probabilities).hits
    return Answers(tuple(names), labels, probabilities, hits, videos)


def compare_scores(table: Path, said: Score, made: Score) -> None:
    """Raises BenchError where the record's score is not the one that its table gives."""
    if (said.correct, said.n) != (made.correct, made.n):
        there = f"{made.correct} of {made.n} are right" if made.correct is not None else f"they are {made.n} samples"
        here = f"{said.correct} of {said.n}" if said.correct is not None else f"{said.n}"
        raise contradiction(table, f"{there}, and the record says {here}")
    for field in ("value", "low", "high"):
        here, there = getattr(said, field), getattr(made, field)
        if abs(here - there) > SAME:
            name = said.metric if field == "value" else f"the {field} end of the interval of {said.metric}"
            raise contradiction(table, f"{name} is {there:.6f} by them, and {here:.6f} in the record")
    if said.interval != made.interval:
        raise contradiction(table, f"their interval is '{made.interval}', and the record calls it '{said.interval}'")


def contradiction(table: Path, reason: str) -> BenchError:
    """That a table beside a record and the record contradict each other, or the table itself."""
    return BenchError(
        f"its {table.name} contradicts it ({reason})",
        where=str(table.parent / "record.json"),
        fix="one of the files was changed: move the run away, or run again",
    )


def refuse_twice(names: list[str], table: Path) -> None:
    """Raises BenchError where a sample is there more than once."""
    (name, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise contradiction(table, f"sample {name} is there {'twice' if count == 2 else f'{count} times'}")


def read_columns(path: Path, names: list[str], *, optional: tuple[str, ...] = (), may_be_empty: bool = False) -> Any:
    """The columns of a table beside a record, as a pyarrow table, and of `optional` those that it has.

    Raises BenchError where it is missing, damaged, lacks a column, or has no rows and may not be empty.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        what = f"its {path.name} is missing, so no score of it can be checked"
        raise BenchError(what, where=str(path.parent / "record.json"), fix="copy the whole folder, or run again")
    check_input(path, PREDICTIONS)
    try:
        there = pq.read_schema(path).names
        absent = [name for name in names if name not in there]
        if absent:
            raise ValueError(f"no column '{absent[0]}'")
        # Most of these tables are small: handing their columns to threads takes longer than reading them.
        columns = [*names, *(name for name in optional if name in there)]
        table = pq.read_table(path, columns=columns, use_threads=False)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise unreadable(path, str(error).partition("\n")[0]) from error
    if not table.num_rows and not may_be_empty:
        raise unreadable(path, "it has no rows")
    return table


def whole_numbers(table: Any, path: Path, name: str) -> NDArray[np.int64]:
    """The numbers in a column [n]. Raises BenchError where it has gaps or other things."""
    column = table[name]
    values = column.to_numpy()
    if column.null_count or not np.issubdtype(values.dtype, np.integer):
        raise unreadable(path, f"column '{name}' has gaps or is no whole number")
    numbers: NDArray[np.int64] = values.astype(np.int64)
    return numbers


def matrix(table: Any, path: Path, name: str) -> NDArray[Any]:
    """The lists of numbers in a column [n, m]. Raises BenchError where they differ in length or hold no numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[name]
    try:
        lengths = pc.list_value_length(column)
        size = lengths[0].as_py() or 0
        values = pc.list_flatten(column).to_numpy()
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise unreadable(path, f"column '{name}': {str(error).partition(chr(10))[0]}") from error
    if column.null_count or not size or set(lengths.unique().to_pylist()) != {size} or values.dtype.kind not in "fiu":
        raise unreadable(path, f"column '{name}' has no list of equally many numbers in each row")
    numbers: NDArray[Any] = values.reshape(table.num_rows, size)
    return numbers


def unreadable(path: Path, reason: str) -> BenchError:
    """That a table beside a record is damaged."""
    kind = "predictions" if path.name == FILE_NAME else "answers"
    return BenchError(f"not readable {kind} ({reason})", where=str(path), fix="move the run away, or run again")


def _read(
    path: Path,
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64] | None]:
    """Samples, labels, predictions, probabilities and videos."""
    table = read_columns(path, ["sample", "label", "prediction", "probabilities"], optional=("video",))
    return (
        [str(name) for name in table["sample"].to_pylist()],
        whole_numbers(table, path, "label"),
        whole_numbers(table, path, "prediction"),
        matrix(table, path, "probabilities").astype(np.float32),
        whole_numbers(table, path, "video") if "video" in table.column_names else None,
    )


def _check_probabilities(record: Record, names: list[str], values: NDArray[np.float32], path: Path) -> None:
    """Raises BenchError where there is not one probability for each class, or they are none."""
    if values.shape[1] != record.num_classes:
        raise contradiction(
            path, f"probabilities of {values.shape[1]} classes, and the record has {record.num_classes}"
        )
    with np.errstate(invalid="ignore"):
        total = values.sum(axis=1, dtype=np.float64)
        good = (values >= -_ROUNDING).all(axis=1) & (total <= 1 + _ROUNDING)
    # A probe that was given may know classes that the task has not.
    if not record.resolved.get("probe_weights"):
        good &= total >= 1 - _ROUNDING
    if not good.all():
        first = names[int(np.argmin(good))]
        what = (
            f"probabilities of {int((~good).sum())} samples are not finite or do not add up to 1, the first of {first}"
        )
        raise contradiction(path, what)
