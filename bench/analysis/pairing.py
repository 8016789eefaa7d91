"""Runs of several models on the same samples: their answers to what all of them scored, one score against another.

Everything here is in points, 0 to 100, as in records; `bench.metrics.intervals` counts in shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.core.errors import BenchError
from bench.metrics.intervals import Paired
from bench.metrics.metric import Metric
from bench.metrics.resample import PairedDifference, paired_scores, resampled
from bench.records.recomputed import read_answers
from bench.records.schema import Record


@dataclass(frozen=True)
class Change:
    """A minus B, in points."""

    difference: float
    low: float
    """Low end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided."""
    p_lower: float
    """One-sided, of a drop."""
    mde: float | None
    """The smallest true difference that such a comparison finds with 80 % power; None where it finds none."""
    wins: int
    """Answers that only A got right; in other metrics than accuracy, groups that add more to the score of A."""
    losses: int
    """Answers that only B got right, or groups that add more to the score of B."""
    clusters: int
    """Videos that the samples are of, or samples."""
    interval: str
    """How the interval was made."""
    test: str


def change_of_hits(found: Paired, interval: str) -> Change:
    """The difference of two accuracies."""
    test = "exact McNemar" if found.clusters == found.n else "exact sign flips of whole clusters"
    return Change(
        difference=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=None if found.mde is None else 100 * found.mde,
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=interval,
        test=test,
    )


def change_of_scores(found: PairedDifference, n: int) -> Change:
    """The difference of two scores in another metric, of n samples."""
    units = "samples" if found.clusters == n else "videos"
    return Change(
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=found.mde,
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=f"paired bootstrap over {found.clusters:,} {units}, {100 * found.confidence:g} %",
        test=f"sign flips of what each of the {units} adds",
    )


def change_of_answers(metric: Metric[Any], a: Sequence[Any], b: Sequence[Any]) -> Change:
    """The difference in a metric that is no accuracy, of answers [K] to the same samples."""
    side_a, side_b = ([resampled(metric, answers) for answers in side] for side in (a, b))
    return change_of_scores(paired_scores(side_a, side_b), len(a[0].samples))


def mean_score(metric: Metric[Any], answers: Sequence[Any]) -> tuple[float, float, float]:
    """The score and both ends of its interval, means over the seeds."""
    scores = [metric.score(one, failed=0) for one in answers]
    return fmean(s.value for s in scores), fmean(s.low for s in scores), fmean(s.high for s in scores)


def common_answers(runs: Sequence[tuple[Path, Record]], where: str) -> tuple[list[Any], int]:
    """The answers of runs, given with their folders, to the samples that all of them scored, in order of the ids; and
    how many samples that leaves out at most.

    Raises BenchError where there is no such sample, or what is true of one differs.
    """
    read = [read_answers(folder, record) for folder, record in runs]
    samples = shared_samples(read)
    if not samples:
        raise BenchError("they have no test sample in common", where=where, fix="compare runs on one list")
    aligned = [answers.of(samples) for answers in read]
    for answers in aligned[1:]:
        if answers.sample_digest != aligned[0].sample_digest:
            found = _first_difference(aligned[0], answers, samples)
            what = f"the labels of test samples differ, such as {found}"
            raise BenchError(what, where=where, fix="compare runs on one list")
    return aligned, max(len(answers.samples) for answers in read) - len(samples)


def shared_samples(answers: Sequence[Any]) -> list[str]:
    """The samples that all of them have, in order of their ids."""
    return sorted(set.intersection(*(set(one.samples) for one in answers)))


def _first_difference(a: Any, b: Any, samples: Sequence[str]) -> str:
    """The first sample whose truth differs, found by halves."""
    while len(samples) > 1:
        half = samples[: len(samples) // 2]
        alike = a.of(half).sample_digest == b.of(half).sample_digest
        samples = samples[len(half) :] if alike else half
    return samples[0]
