"""Checks of every table beside a record: its columns and samples, and the errors for contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BenchError
from bench.core.inputs import PREDICTIONS, check_input

if TYPE_CHECKING:
    from bench.metrics.score import Score
    from bench.records.schema import Record

SAME = 1e-6
"""Scores that differ by no more, in points, are equal: machines round the last digits differently."""


def contradiction(table: Path, reason: str) -> BenchError:
    """The error for a table that contradicts its record or itself."""
    run = _run_of(table)
    return BenchError(
        f"its {table.relative_to(run)} contradicts it ({reason})",
        where=str(run / "record.json"),
        fix="one of the files was changed: move the run away, or run again",
    )


def compare_scores(table: Path, said: Score, made: Score) -> None:
    """Raises BenchError where the record's score is not the one that its table gives."""
    if (said.correct, said.n, said.seeds) != (made.correct, made.n, made.seeds):
        answers, claimed = made.n * made.seeds, said.n * said.seeds
        there = f"{made.correct} of {answers} are right" if made.correct is not None else f"they are {answers} samples"
        here = f"{said.correct} of {claimed}" if said.correct is not None else f"{claimed}"
        raise contradiction(table, f"{there}, and the record says {here}")
    for field in ("value", "low", "high", "sampling_se", "training_sd"):
        here, there = getattr(said, field), getattr(made, field)
        if here is None and there is None:
            continue
        if here is None or there is None:
            raise contradiction(table, f"the {field} of {said.metric} is {there} by them, and {here} in the record")
        if abs(here - there) > SAME:
            ends = {"value": said.metric} | {
                end: f"the {end} end of the interval of {said.metric}" for end in ("low", "high")
            }
            name = ends.get(field, f"the {field} of {said.metric}")
            raise contradiction(table, f"{name} is {there:.6f} by them, and {here:.6f} in the record")
    if said.interval != made.interval:
        raise contradiction(table, f"their interval is '{made.interval}', and the record calls it '{said.interval}'")


def _run_of(table: Path) -> Path:
    """The folder of the run that a table is of; those of other probes and other frame orders lie deeper."""
    return next((folder for folder in table.parents if (folder / "record.json").is_file()), table.parent)


def refuse_failed(record: Record, samples: Iterable[str], table: Path) -> None:
    """Raises BenchError where a sample that could not be read has an answer."""
    failed = {failure.sample for failure in record.failures if failure.split == "test"}
    both = failed.intersection(samples)
    if both:
        raise contradiction(table, f"it has an answer to {min(both)}, which the record lists under failures")


def refuse_twice(names: Sequence[str], table: Path) -> None:
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
        run = _run_of(path)
        what = f"its {path.relative_to(run)} is missing, so no score of it can be checked"
        raise BenchError(what, where=str(run / "record.json"), fix="copy the whole folder, or run again")
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
    """The error for a damaged table beside a record."""
    kind = "predictions" if path.name == "predictions.parquet" else "answers"
    return BenchError(f"not readable {kind} ({reason})", where=str(path), fix="move the run away, or run again")
