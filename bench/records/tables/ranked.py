"""The table of the best answers of several heads: top5.parquet.

    sample, video; for each of verb, noun and action: the label, the five classes of highest score in falling order,
    and their scores

Recall at 5 follows from it without the probe.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.recall import BEST, HEADS, RankedAnswers, Ranking
from bench.records.tables import FILES
from bench.records.tables.reading import contradiction, matrix, read_columns, refuse_failed, refuse_twice, whole_numbers

if TYPE_CHECKING:
    from bench.records.schema import Record

(FILE_NAME,) = FILES["ranked"]


def write(folder: Path, answers: RankedAnswers) -> None:
    """Write the table of these answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {group: number for number, group in enumerate(dict.fromkeys(answers.groups.tolist()))}
    columns = {
        "sample": pa.array(answers.samples, pa.string()),
        # Numbers instead of names: a path of this machine has no place in a result.
        "video": pa.array([numbers[group] for group in answers.groups.tolist()], pa.int32()),
    }
    for head, ranking in answers.heads.items():
        columns[f"{head}_label"] = pa.array(ranking.labels, pa.int32())
        columns[f"{head}_top5"] = pa.array(list(ranking.best.astype(np.int32)), pa.list_(pa.int32()))
        columns[f"{head}_scores"] = pa.array(list(ranking.scores), pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), folder / FILE_NAME)


def read(folder: Path, record: Record) -> RankedAnswers:
    """The answers of the run in `folder`, in the order of its list.

    Raises BenchError where the table is missing, damaged, or contradicts itself or the record.
    """
    path = folder / FILE_NAME
    columns = [f"{head}_{part}" for head in HEADS for part in ("label", "top5", "scores")]
    table = read_columns(path, ["sample", "video", *columns])
    names = [str(name) for name in table["sample"].to_pylist()]
    refuse_twice(names, path)
    refuse_failed(record, names, path)
    heads = {}
    for head in HEADS:
        labels, best = whole_numbers(table, path, f"{head}_label"), matrix(table, path, f"{head}_top5")
        heads[head] = Ranking(labels, best, matrix(table, path, f"{head}_scores"))
        _check_order(path, head, heads[head])
    return RankedAnswers(tuple(names), whole_numbers(table, path, "video"), heads)


def _check_order(path: Path, head: str, ranking: Ranking) -> None:
    """Raises BenchError where the best answers of a head are not different classes in falling order of their scores."""
    best, scores = ranking.best, ranking.scores
    ordered = np.sort(best, axis=1)
    falling = bool(np.isfinite(scores).all()) and scores.shape == best.shape and bool((np.diff(scores) <= 0).all())
    if best.shape[1] > BEST or (np.diff(ordered) == 0).any() or not falling:
        raise contradiction(path, f"the answers of {head} are not the {BEST} classes of highest score, best first")
