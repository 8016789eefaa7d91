"""How far each row of a baseline is from the newest run, with its interval and test: what the gate judges.

Everything here is in points, 0 to 100. Shapes: K seeds, n samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import sqrt
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.analysis.change import paired_seeds
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import detectable_difference, unpaired_interval
from bench.metrics.metric import form_of, metric_of
from bench.metrics.resample import Resampled, contributions, is_paired, paired_scores, resampled
from bench.metrics.score import Score
from bench.records.baseline import BaselineRow
from bench.records.conditions import check_conditions, conditions
from bench.records.recomputed import read_sorted
from bench.records.runs import StoredRun, place_names

Status = Literal["pass", "regression", "unknown"]
ALPHA = 0.05
"""Chance of each of the two errors: a drop of the margin that passes, a regression where nothing fell."""
CONFIDENCE = 1 - 2 * ALPHA
"""Level of a two-sided interval whose ends are the one-sided bounds."""


@dataclass(frozen=True)
class Verdict:
    """One row of the gate: one task, model and protocol, all its seeds."""

    task: str
    axis: str | None
    model: str
    probe: str
    protocol: str
    metric: str
    seeds: list[int]
    status: Status
    reason: str
    baseline: float
    """Score then, 0 to 100, mean over the seeds."""
    value: float | None = None
    """Score now; None where it is missing or of other samples."""
    difference: float | None = None
    """Now minus then."""
    low: float | None = None
    """Lower one-sided 95 % bound of the difference."""
    high: float | None = None
    """Upper one-sided 95 % bound."""
    p_value: float | None = None
    """One-sided, of a drop; not corrected for the number of rows."""
    mde: float | None = None
    """The smallest true drop that is called a regression with 80 % power, were this the only row."""
    n: int = 0
    wins: int = 0
    """Answers that are right now and were wrong; in other metrics than accuracy, videos that add more now."""
    losses: int = 0
    paired: bool = False
    """Whether outcomes were compared sample by sample."""
    notes: tuple[str, ...] = ()
    """What changed besides the answers, and what a reader of the score must know."""


@dataclass(frozen=True)
class Outcomes:
    """What two runs got right on the same samples: 0 or 1, [K, n]."""

    before: NDArray[np.int64]
    now: NDArray[np.int64]
    videos: NDArray[np.int64] | None = None
    """[n], where samples share videos."""


def measure(rows: Sequence[BaselineRow], runs: Sequence[StoredRun], accept_training_data: bool) -> Verdict:
    """The difference of one group of rows, still without a status; or why there is none."""
    rows = sorted(rows, key=lambda row: row.seed)
    first = rows[0]
    verdict = Verdict(
        task=first.task,
        axis=first.axis,
        model=first.model,
        probe=first.probe,
        protocol=first.protocol,
        metric=first.metric,
        seeds=[row.seed for row in rows],
        status="unknown",
        reason="",
        baseline=fmean(row.value for row in rows),
        n=first.n,
    )
    try:
        _refuse_rows(rows)
        pairs = [(row, _current(row, runs)) for row in rows]
        verdict = replace(verdict, notes=(*_changes(pairs), *_more_seeds(pairs, runs)))
        known = [
            check_conditions(row.conditions, conditions(run.record), accept_training_data=accept_training_data)
            for row, run in pairs
        ]
        verdict = replace(verdict, notes=(*dict.fromkeys(chain(*known)), *verdict.notes))
        if not any(row.is_paired for row in rows):
            return _unpaired(verdict, rows, [run for _, run in pairs])
        answers = [_same_samples(row, run) for row, run in pairs]
        same = all(row.predictions == one.prediction_digest for row, one in zip(rows, answers, strict=True))
        measured = _paired(verdict, rows, answers, same)
    except BenchError as error:
        return replace(verdict, reason=str(error))
    return replace(measured, status="pass", reason="every sample is predicted as before") if same else measured


def _paired(verdict: Verdict, rows: Sequence[BaselineRow], answers: Sequence[Any], same: bool) -> Verdict:
    """Sample by sample, or by what each video adds to the score; of a single one only that its answers are the same."""
    if isinstance(answers[0], ClassAnswers):
        before, now = np.stack([row.hits() for row in rows]), np.stack([one.hits for one in answers])
        return paired_row(verdict, Outcomes(before, now, answers[0].groups))
    scores = [resampled(metric_of(verdict.metric), one) for one in answers]
    verdict = replace(verdict, n=len(answers[0].samples))
    if same:
        value = fmean(one.value for one in scores)
        return replace(verdict, value=value, difference=0.0, low=0.0, high=0.0, p_value=1.0, paired=True)
    return _paired_scores(verdict, [row.kept() for row in rows], scores)


def _unpaired(verdict: Verdict, rows: Sequence[BaselineRow], runs: Sequence[StoredRun]) -> Verdict:
    """Judge a row by its scores alone."""
    now = [_score(run, verdict.metric) for run in runs]
    if form_of(verdict.metric) == ClassAnswers.form:
        return unpaired_row(verdict, rows, now)
    answers = [read_sorted(run.folder, run.record) for run in runs]
    scores = [resampled(metric_of(verdict.metric), one) for one in answers]
    return replace(_unpaired_scores(verdict, scores), n=now[0].n)


def _refuse_rows(rows: Sequence[BaselineRow]) -> None:
    """Raise BenchError where no test is made of the metric of these rows, or they are not all that were written."""
    if form_of(rows[0].metric) is None:
        raise BenchError(f"{rows[0].metric} is no metric that is known here, so nothing can be tested")
    written = max((row.num_seeds or 0 for row in rows), default=0)
    if written and written != len(rows):
        raise BenchError(f"the baseline was written with {written} seeds, and has {len(rows)}", fix="--update")


def _changes(pairs: Sequence[tuple[BaselineRow, StoredRun]]) -> list[str]:
    """What is not as it was, and is compared all the same: the change may come from there."""
    kinds = {
        "weights of the encoder": [(row.encoder, run.record.digests.get("encoder", "")) for row, run in pairs],
        "input of the encoder": [(row.input, run.record.input) for row, run in pairs],
        "bytes of the test files": [(row.test_list, run.record.digests.get("test_list", "")) for row, run in pairs],
    }
    changed = [name for name, values in kinds.items() if any(a and b and a != b for a, b in values)]
    return [f"other {', other '.join(changed)} than in the baseline"] if changed else []


def _more_seeds(pairs: Sequence[tuple[BaselineRow, StoredRun]], runs: Sequence[StoredRun]) -> list[str]:
    """Which seeds the results hold besides those that are compared, if any."""
    row = pairs[0][0]
    extra = {run.record.seed for run in _fitting(row, alike(row, runs))} - {row.seed for row, _ in pairs}
    return [f"seeds that the baseline does not have: {', '.join(map(str, sorted(extra)))}"] if extra else []


def _current(row: BaselineRow, runs: Sequence[StoredRun]) -> StoredRun:
    """The newest run of a row. Raises BenchError where there is none, or only of another protocol."""
    found = [run for run in alike(row, runs) if (run.record.probe, run.record.seed) == (row.probe, row.seed)]
    if not found:
        raise BenchError(f"no run of {row.model} on {row.task} with {row.probe} and seed {row.seed}", fix="`bench run`")
    fitting = _fitting(row, found)
    if not fitting:
        other = found[-1].record
        theirs = f"{other.protocol}, {other.scores[0].metric}"
        raise BenchError(f"another protocol: {theirs} / {row.protocol}, {row.metric} in the baseline")
    return fitting[-1]


def _fitting(row: BaselineRow, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs of the protocol and metric of a row."""
    return [
        run
        for run in runs
        if run.record.protocol == row.protocol and row.metric in [score.metric for score in run.record.scores]
    ]


def alike(row: BaselineRow, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs of the model of a row on its task, oldest first.

    Where files of that name lie in several folders, those of the folder in which the row's weights are. Raises
    BenchError where they are in none of them.
    """
    alike = [run for run in runs if run.record.task == row.task and run.is_called(row.model)]
    called = place_names(alike)
    if len(set(called.values())) < 2:
        return alike
    same = {called[run.record.run_id] for run in alike if run.record.digests.get("encoder") == row.encoder}
    if not same:
        several = ", ".join(sorted(set(called.values())))
        raise BenchError(f"'{row.model}' is the name of several weights, and none are the baseline's: {several}")
    return [run for run in alike if called[run.record.run_id] in same]


def _same_samples(row: BaselineRow, run: StoredRun) -> Any:
    """The run's answers. Raises BenchError where they are missing or not to the samples of the row."""
    if not row.is_paired:
        raise BenchError(f"the baseline has outcomes of some seeds only, not of {row.seed}", fix="--update")
    answers = read_sorted(run.folder, run.record)
    classes = isinstance(answers, ClassAnswers)
    samples = answers.sample_digest if classes else resampled(metric_of(row.metric), answers).samples
    if samples != row.samples:
        failed = run.record.scores[0].failed
        detail = f"{len(answers.samples):,} now, {row.n:,} in the baseline"
        detail += f", {failed:,} could not be read now" if failed else ""
        raise BenchError(f"other test samples or labels: {detail}", fix="mend the data, or --update")
    return answers


def _score(run: StoredRun, metric: str) -> Score:
    return next(score for score in run.record.scores if score.metric == metric)


def paired_row(verdict: Verdict, outcomes: Outcomes) -> Verdict:
    now = outcomes.now
    found = paired_seeds(now, outcomes.before, outcomes.videos, CONFIDENCE)
    drop = detectable_difference(int(found.n / found.design_effect), (found.wins + found.losses) / found.n, 2 * ALPHA)
    return replace(
        verdict,
        value=100 * int(now.sum()) / now.size,
        difference=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        p_value=found.p_lower,
        mde=None if drop is None else 100 * drop,
        n=now.shape[1],
        wins=found.wins,
        losses=found.losses,
        paired=True,
    )


def unpaired_row(verdict: Verdict, rows: Sequence[BaselineRow], now: Sequence[Score]) -> Verdict:
    """Judge a row by counts alone, as if its scores came from different samples. More seeds are not more samples."""
    from scipy.stats import fisher_exact

    n_then, n_now = min(row.n for row in rows), min(score.n for score in now)
    right_then = round(n_then * fmean(row.value for row in rows) / 100)
    right_now = round(n_now * fmean(score.value for score in now) / 100)
    interval = unpaired_interval(right_now, n_now, right_then, n_then, CONFIDENCE)
    table = [[right_now, n_now - right_now], [right_then, n_then - right_then]]
    value = fmean(score.value for score in now)
    return replace(
        verdict,
        value=value,
        difference=value - verdict.baseline,
        low=100 * interval.low,
        high=100 * interval.high,
        p_value=float(fisher_exact(table, alternative="less").pvalue),
        n=n_now,
    )


def _paired_scores(verdict: Verdict, before: Sequence[Resampled], now: Sequence[Resampled]) -> Verdict:
    """Two scores in a metric that is no share of samples. Raises BenchError where nothing in them is independent."""
    found = paired_scores(now, before, CONFIDENCE, 2 * ALPHA)
    return replace(
        verdict,
        value=fmean(one.value for one in now),
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_lower,
        mde=found.mde,
        wins=found.wins,
        losses=found.losses,
        paired=True,
    )


def _unpaired_scores(verdict: Verdict, now: Sequence[Resampled]) -> Verdict:
    """As if the score then came from other samples, as many and as uncertain as those of now."""
    from scipy.stats import t

    if not is_paired(now[0]):
        raise BenchError("all that can be scored is of one video: nothing is independent")
    added = contributions(now)
    error = sqrt(2 / len(added)) * max(float(added.std(ddof=1)), 1e-9)
    value = fmean(one.value for one in now)
    difference, reach = value - verdict.baseline, float(t.ppf(1 - ALPHA, len(added) - 1)) * error
    p_value = float(t.cdf(difference / error, len(added) - 1))
    return replace(
        verdict,
        value=value,
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p_value=p_value,
    )
