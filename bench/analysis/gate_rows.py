"""How far each row of a baseline is from the newest run, with its interval and test: what the gate judges.

Everything here is in points, 0 to 100. Shapes: K seeds, n samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import sqrt
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.analysis.change import Change, change_of_hits, change_of_scores
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import unpaired_interval
from bench.metrics.metric import form_of, metric_of
from bench.metrics.resample import Resampled, contributions, is_paired, resampled
from bench.metrics.score import Score
from bench.records.baseline import BaselineRow
from bench.records.conditions import check_conditions, conditions
from bench.records.recomputed import read_sorted
from bench.records.runs import StoredRun, place_names, pooled
from bench.records.summary import probe_seeds

Status = Literal["pass", "regression", "unknown"]
ALPHA = 0.05
"""Chance of each of the two errors: a drop of the margin that passes, a regression where nothing fell."""
CONFIDENCE = 1 - 2 * ALPHA
"""Level of a two-sided interval whose ends are the one-sided bounds."""


@dataclass(frozen=True)
class Verdict:
    """One row of the gate: one task, model, protocol and metric, all its seeds."""

    task: str
    axis: str | None
    model: str
    probe: str
    protocol: str
    metric: str
    seeds: list[int]
    """Probe seeds of the baseline."""
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
    """Samples that are right more often now, over the seeds; in other metrics than accuracy, videos that add more."""
    losses: int = 0
    paired: bool = False
    """Whether outcomes were compared sample by sample."""
    seeds_now: list[int] = field(default_factory=list)
    """Probe seeds that the baseline was compared with."""
    one_probe: bool = False
    """Whether the test is about the test samples alone, because the baseline has one training of the probe."""
    notes: tuple[str, ...] = ()
    """What changed besides the answers, and what a reader of the score must know."""


@dataclass(frozen=True)
class Outcomes:
    """What a model got right on the same samples, then and now: 0 or 1, [K, n]; K may differ."""

    before: NDArray[np.int64]
    now: NDArray[np.int64]
    videos: NDArray[np.int64] | None = None
    """[n], where samples share videos."""


def measure(rows: Sequence[BaselineRow], runs: Sequence[StoredRun], accept_training_data: bool) -> Verdict:
    """The difference of one model's rows (one, or one a seed in older baselines), still without a status; or why there
    is none."""
    rows = sorted(rows, key=lambda row: row.probe_seeds)
    first = rows[0]
    seeds = [seed for row in rows for seed in row.probe_seeds]
    verdict = Verdict(
        task=first.task,
        axis=first.axis,
        model=first.model,
        probe=first.probe,
        protocol=first.protocol,
        metric=first.metric,
        seeds=seeds,
        status="unknown",
        reason="",
        baseline=mean_then(rows),
        n=first.n,
        one_probe=len(seeds) == 1,
    )
    try:
        _refuse_rows(rows, seeds)
        now = _current(first, seeds, runs)
        verdict = replace(verdict, notes=(*_changes(rows, now), *_more_seeds(first, seeds, runs)))
        known = [
            check_conditions(row.conditions, conditions(run.record), accept_training_data=accept_training_data)
            for row in rows
            for run in now
        ]
        verdict = replace(verdict, notes=(*dict.fromkeys(chain(*known)), *verdict.notes))
        if not any(row.is_paired for row in rows):
            return _unpaired(verdict, rows, now)
        answers = {seed: one for run in now for seed, one in _same_samples(rows, run).items()}
        if len(seeds) == 1:
            answers = {seeds[0]: answers[seeds[0]]}
        then = dict(zip(seeds, chain(*(row.predictions or [] for row in rows)), strict=True))
        same = then == {seed: one.prediction_digest for seed, one in answers.items()}
        verdict = replace(verdict, seeds_now=list(answers))
        measured = _paired(verdict, rows, list(answers.values()), same)
    except BenchError as error:
        return replace(verdict, reason=str(error))
    return replace(measured, status="pass", reason="every sample is predicted as before") if same else measured


def mean_then(rows: Sequence[BaselineRow]) -> float:
    """The score of a baseline's rows of one model, mean over their seeds."""
    return fmean(value for row in rows for value in row.values or [row.value] * len(row.probe_seeds))


def _paired(verdict: Verdict, rows: Sequence[BaselineRow], answers: Sequence[Any], same: bool) -> Verdict:
    """Sample by sample, or by what each video adds to the score; of a single one only that its answers are the same."""
    if isinstance(answers[0], ClassAnswers):
        before, now = np.concatenate([row.hits() for row in rows]), np.stack([one.hits for one in answers])
        return paired_row(verdict, Outcomes(before, now, answers[0].groups))
    scores = [resampled(metric_of(verdict.metric), one) for one in answers]
    verdict = replace(verdict, n=len(answers[0].samples))
    value = fmean(one.value for one in scores)
    if same:
        return replace(verdict, value=value, difference=0.0, low=0.0, high=0.0, p_value=1.0, paired=True)
    before_scores = [one for row in rows for one in row.kept()]
    return _judged(verdict, value, change_of_scores(scores, before_scores, verdict.n, CONFIDENCE, 2 * ALPHA))


def _unpaired(verdict: Verdict, rows: Sequence[BaselineRow], runs: Sequence[StoredRun]) -> Verdict:
    """Judge a row by its scores alone."""
    now = [_score(run, verdict.metric) for run in runs]
    if form_of(verdict.metric) == ClassAnswers.form:
        return unpaired_row(verdict, rows, now)
    answers = [one for run in runs for one in sorted_answers(run)]
    scores = [resampled(metric_of(verdict.metric), one) for one in answers]
    return replace(_unpaired_scores(verdict, scores), n=now[0].n)


def sorted_answers(run: StoredRun) -> tuple[Any, ...]:
    """The answers of every probe seed, in order of the samples' ids."""
    return read_sorted(run.folder, run.record)


def _refuse_rows(rows: Sequence[BaselineRow], seeds: Sequence[int]) -> None:
    """Raise BenchError where no test is made of the metric of these rows, or they are not all that were written."""
    if form_of(rows[0].metric) is None:
        raise BenchError(f"{rows[0].metric} is no metric that is known here, so nothing can be tested")
    written = max((row.num_seeds or 0 for row in rows), default=0)
    if (written and written != len(seeds)) or len(set(seeds)) < len(seeds):
        count = f"{written} seeds" if written else "other seeds"
        raise BenchError(f"the baseline was written with {count}, and has {len(seeds)}", fix="--update")


def _changes(rows: Sequence[BaselineRow], runs: Sequence[StoredRun]) -> list[str]:
    """What is not as it was, and is compared all the same: the change may come from there."""
    pairs = [(row, run) for row in rows for run in runs]
    kinds = {
        "weights of the encoder": [(row.encoder, run.record.digests.get("encoder", "")) for row, run in pairs],
        "input of the encoder": [(row.input, run.record.input) for row, run in pairs],
        "bytes of the test files": [(row.test_list, run.record.digests.get("test_list", "")) for row, run in pairs],
    }
    changed = [name for name, values in kinds.items() if any(a and b and a != b for a, b in values)]
    return [f"other {', other '.join(changed)} than in the baseline"] if changed else []


def _more_seeds(row: BaselineRow, seeds: Sequence[int], runs: Sequence[StoredRun]) -> list[str]:
    """Which seeds the results hold besides the one that is compared, where the baseline has one."""
    if len(seeds) > 1:
        return []
    there = {seed for run in _fitting(row, alike(row, runs)) for seed in probe_seeds(run.record)}
    extra = there - set(seeds)
    return [f"seeds that the baseline does not have: {', '.join(map(str, sorted(extra)))}"] if extra else []


def _current(row: BaselineRow, seeds: Sequence[int], runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs that a row with these seeds is held against: the newest one of the same seed where it has one, else all
    seeds that the newest run's encoder has, whatever they are called.

    Raises BenchError where there are none, only of another protocol, or only one seed of several.
    """
    found = [run for run in alike(row, runs) if run.record.probe == row.probe]
    if len(seeds) == 1:
        found = [run for run in found if seeds[0] in probe_seeds(run.record)]
    if not found:
        seed = f" and seed {seeds[0]}" if len(seeds) == 1 else ""
        raise BenchError(f"no run of {row.model} on {row.task} with {row.probe}{seed}", fix="`bench run`")
    fitting = _fitting(row, found)
    if not fitting:
        other = found[-1].record
        theirs = f"{other.protocol}, {other.scores[0].metric}"
        raise BenchError(f"another protocol: {theirs} / {row.protocol}, {row.metric} in the baseline")
    if len(seeds) == 1:
        return fitting[-1:]
    kept = seeds_of_newest(fitting)
    if sum(len(probe_seeds(run.record)) for run in kept) < 2:
        what = f"one probe now, and {len(seeds)} in the baseline: nothing is known of what another training would score"
        raise BenchError(what, fix=f"`bench run --seeds {len(seeds)}`")
    return kept


def seeds_of_newest(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs, oldest first, that are of one measurement and under the same conditions as the newest one, and of other
    seeds."""
    newest = runs[-1]
    wanted = newest.measurement, conditions(newest.record)
    return pooled([run for run in runs if (run.measurement, conditions(run.record)) == wanted])


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


def _same_samples(rows: Sequence[BaselineRow], run: StoredRun) -> dict[int, Any]:
    """The run's answers by seed. Raises BenchError where they are missing or not to the samples of the rows."""
    bare = next((row for row in rows if not row.is_paired), None)
    if bare:
        raise BenchError(f"the baseline has outcomes of some seeds only, not of {bare.seed}", fix="--update")
    row = rows[0]
    answers = sorted_answers(run)
    first = answers[0]
    classes = isinstance(first, ClassAnswers)
    samples = first.sample_digest if classes else resampled(metric_of(row.metric), first).samples
    if any(one.samples != samples for one in rows):
        failed = run.record.scores[0].failed
        detail = f"{len(first.samples):,} now, {row.n:,} in the baseline"
        detail += f", {failed:,} could not be read now" if failed else ""
        raise BenchError(f"other test samples or labels: {detail}", fix="mend the data, or --update")
    return dict(zip(probe_seeds(run.record), answers, strict=True))


def _score(run: StoredRun, metric: str) -> Score:
    return next(score for score in run.record.scores if score.metric == metric)


def paired_row(verdict: Verdict, outcomes: Outcomes) -> Verdict:
    """The difference of outcomes, and its test."""
    now, before = outcomes.now, outcomes.before
    found = change_of_hits(now, before, outcomes.videos, CONFIDENCE, 2 * ALPHA)
    return _judged(replace(verdict, n=now.shape[1]), 100 * int(now.sum()) / now.size, found)


def _judged(verdict: Verdict, value: float, found: Change) -> Verdict:
    return replace(
        verdict,
        value=value,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_lower,
        mde=found.mde,
        wins=found.wins,
        losses=found.losses,
        paired=True,
    )


def unpaired_row(verdict: Verdict, rows: Sequence[BaselineRow], now: Sequence[Score]) -> Verdict:
    """Judge a row by counts alone, as if its scores came from different samples. More seeds are not more samples."""
    from scipy.stats import fisher_exact

    n_then, n_now = min(row.n for row in rows), min(score.n for score in now)
    right_then = round(n_then * verdict.baseline / 100)
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
