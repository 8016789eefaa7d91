"""What a run answered, sample by sample, read from its predictions and checked against its record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError
from bench.scores.metrics import METRICS
from bench.scores.records import Record

FILE_NAME = "predictions.parquet"


@dataclass(frozen=True)
class Answers:
    """The scored test samples of one run, in order of their ids. n samples, C classes."""

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
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of the predicted classes."""
        return hashlib.sha256(",".join(map(str, self.predicted.tolist())).encode()).hexdigest()

    def of(self, samples: list[str]) -> Answers:
        """Only these samples; all of them must be there."""
        places = {sample: place for place, sample in enumerate(self.samples)}
        rows = np.array([places[sample] for sample in samples], dtype=np.int64)
        videos = None if self.videos is None else self.videos[rows]
        return Answers(tuple(samples), self.labels[rows], self.probabilities[rows], self.hits[rows], videos)


def read_answers(folder: Path, record: Record) -> Answers:
    """The answers of the run in `folder`.

    Raises BenchError where the predictions are missing, damaged or not those of the record, or its metric has no
    outcome for each sample.
    """
    path, score = folder / FILE_NAME, record.scores[0]
    metric = METRICS.get(score.metric)
    if metric is None:
        raise BenchError(f"{score.metric} is not a sum over samples, so nothing can be paired", where=str(folder))
    names, labels, probabilities, videos = _read(path)
    order = np.argsort(names)
    try:
        hits = metric(labels, probabilities).hits
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if len(set(names)) < len(names):
        raise _unreadable(path, "a sample is there twice")
    if (len(hits), int(hits.sum())) != (score.n, score.correct):
        raise _unreadable(
            path, f"{hits.sum()} of {len(hits)} are right, the record beside it says {score.correct} of {score.n}"
        )
    return Answers(
        samples=tuple(str(name) for name in names[order]),
        labels=labels[order],
        probabilities=probabilities[order],
        hits=hits[order],
        videos=None if videos is None else videos[order],
    )


def _read(
    path: Path,
) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64] | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise BenchError("the predictions are missing", where=str(path), fix="run again, or copy the whole folder")
    try:
        table = pq.read_table(path)
        names = np.array(table["sample"].to_pylist(), dtype=np.str_)
        labels = table["label"].to_numpy().astype(np.int64)
        probabilities = np.stack(table["probabilities"].to_numpy(zero_copy_only=False)).astype(np.float32)
        videos = table["video"].to_numpy().astype(np.int64) if "video" in table.column_names else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise _unreadable(path, str(error).partition("\n")[0]) from error
    return names, labels, probabilities, videos


def _unreadable(path: Path, reason: str) -> BenchError:
    return BenchError(f"not readable predictions ({reason})", where=str(path), fix="run again")
