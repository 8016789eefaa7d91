"""Ranks and differences of a column of the leaderboard, from what the index keeps of each run.

Accuracy is compared sample by sample, other metrics by what each video adds to them (bench.metrics.resample). Array
libraries are loaded where there is something to compare, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from bench.metrics.metric import form_of, metric_of
from bench.metrics.score import Score
from bench.records.schema import read_record
from bench.records.summary import Summary
from bench.records.tables.outcomes import Outcomes, aligned

if TYPE_CHECKING:
    from bench.analysis.ranks import Ranks
    from bench.metrics.resample import Resampled


class ScoredRun(Protocol):
    """One record with one of its scores."""

    @property
    def record(self) -> Summary:
        """Shortened."""

    @property
    def score(self) -> Score:
        """One of the record's."""


Cells = Mapping[int, Sequence[ScoredRun]]
"""The runs of each model of a column, one for each seed."""


def ranks_of(metric: str, cells: Cells, alpha: float) -> dict[int, Ranks]:
    """The ranks that each model may have. Models that cannot be compared, because answers to a seed are not there, have
    none."""
    if form_of(metric) == "classes":
        found, videos = _outcomes(cells)
        if not _testable(found, videos):
            return {}
        from bench.analysis.ranks import hits_of, p_of_hits, rank_intervals

        hits = [hits_of(seeds) for seeds in found.values()]
        made = rank_intervals([one.mean() for one in hits], p_of_hits(hits, videos), alpha)
        return dict(zip(found, made, strict=True))
    scores = _resampled(metric, cells)
    if len(scores) < 2:
        return {}
    from bench.analysis.ranks import p_of_scores, rank_intervals

    models = list(scores.values())
    values = [fmean(one.value for one in seeds) for seeds in models]
    better = metric_of(metric).higher_is_better
    made = rank_intervals(values, p_of_scores(models), alpha, higher_is_better=better)
    return dict(zip(scores, made, strict=True))


def difference_of(
    metric: str, runs: Sequence[ScoredRun], reference: Sequence[ScoredRun]
) -> tuple[float, float, float] | None:
    """How far a model is from the reference, and both ends of the 95 % interval; None where nothing can be paired."""
    cells = {0: runs, 1: reference}
    if form_of(metric) == "classes":
        pair, videos = _outcomes(cells)
        if not _testable(pair, videos):
            return None
        import numpy as np

        from bench.analysis.change import change_of_hits
        from bench.analysis.ranks import hits_of

        groups = None if videos is None else np.asarray(videos)
        found = change_of_hits(hits_of(pair[0]), hits_of(pair[1]), groups)
    else:
        scores = _resampled(metric, cells)
        if len(scores) < 2:
            return None
        from bench.analysis.change import change_of_scores

        found = change_of_scores(scores[0], scores[1], reference[0].score.n)
    return found.difference, found.low, found.high


def _testable(models: Mapping[int, Sequence[Outcomes]], videos: Sequence[int] | None) -> bool:
    """Whether there are two models and two independent samples."""
    return len(models) > 1 and (len(set(videos)) if videos else next(iter(models.values()))[0].n) > 1


def _outcomes(cells: Cells) -> tuple[dict[int, list[Outcomes]], list[int] | None]:
    """Outcomes of the seeds of each model over one order of samples, those that all have; and the videos of these
    samples where they share them. Models without the predictions of every seed are left out."""
    complete = {
        key: [seed for run in runs for seed in run.record.outcomes]
        for key, runs in cells.items()
        if all(run.record.outcomes for run in runs)
    }
    if not complete:
        return {}, None
    common, videos = aligned([seed for seeds in complete.values() for seed in seeds])
    return _dealt(common, complete), videos


def _resampled(metric: str, cells: Cells) -> dict[int, list[Resampled]]:
    """The resampled scores of the seeds of each model, of the samples that all have. Models without the tables of every
    seed are left out; there are none where all that can be scored is of one video."""
    complete = {key: runs for key, runs in cells.items() if all(metric in run.record.resampled for run in runs)}
    if len(complete) < 2:
        return {}
    from bench.metrics.resample import is_paired

    scores = {key: [seed for run in runs for seed in _scores_of(metric, run)] for key, runs in complete.items()}
    if len({seed.samples for seeds in scores.values() for seed in seeds}) > 1:
        scores = _of_common_samples(metric, complete)
    return scores if all(is_paired(seed) for seeds in scores.values() for seed in seeds) else {}


def _of_common_samples(metric: str, cells: Cells) -> dict[int, list[Resampled]]:
    """Scores made anew from the tables of runs that could not all read the same samples; none where none is left."""
    from bench.analysis.pairing import shared_samples
    from bench.metrics.resample import resampled
    from bench.records.recomputed import read_seeds

    paths = {key: [run.record.path for run in runs if run.record.path] for key, runs in cells.items()}
    answers = {
        key: [seed for path in own for seed in read_seeds(path.parent, read_record(path))] for key, own in paths.items()
    }
    samples = shared_samples([seed for seeds in answers.values() for seed in seeds])
    if not samples:
        return {}
    return {key: [resampled(metric_of(metric), seed.of(samples)) for seed in seeds] for key, seeds in answers.items()}


def _scores_of(metric: str, run: ScoredRun) -> tuple[Resampled, ...]:
    """The resampled score of every probe seed of a run."""
    from bench.metrics.resample import Resampled

    samples, seeds = run.record.resampled[metric]
    return tuple(Resampled.from_text(numbers, samples, value) for value, numbers in seeds)


def _dealt(common: Sequence[Outcomes], models: Mapping[int, Sequence[Outcomes]]) -> dict[int, list[Outcomes]]:
    """The outcomes of all models, in their order, to each model as many as it has."""
    left = iter(common)
    return {key: [next(left) for _ in seeds] for key, seeds in models.items()}
