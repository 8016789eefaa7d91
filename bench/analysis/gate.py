"""The regression gate: did a score fall, and is that more than chance? Non-inferiority on paired outcomes.

Per row of the baseline, with d = accuracy now minus accuracy then, on the same samples:

    pass        every sample is predicted as before, or d is shown to be above -margin: its one-sided 95 % bound is
    regression  not that, and a drop is shown: d < 0 by an exact one-sided test at 5 %, Holm-corrected over the rows
    unknown     neither: the run is missing or not comparable (of other samples, settings, classes or training data), or
                there are too few samples for this margin

So a drop of the margin or more passes in at most 5 % of cases, and where nothing fell at all, the chance that any
row says regression is at most 5 %, whatever the number of samples. docs/statistics.md has the measurements.

Everything here is in points, 0 to 100. Shapes: K seeds, n samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from statistics import NormalDist, fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.analysis.compare import paired_seeds
from bench.core.errors import BenchError
from bench.metrics.accuracy import METRICS, ClassAnswers
from bench.metrics.intervals import unpaired_interval
from bench.metrics.mcnemar import detectable_difference
from bench.records.baseline import Baseline, BaselineRow, left_out, why_not_gated
from bench.records.conditions import check_conditions, conditions
from bench.records.recomputed import read_sorted
from bench.records.runs import StoredRun, place_names

Status = Literal["pass", "regression", "unknown"]
ALPHA = 0.05
"""Chance of each of the two errors: a drop of the margin that passes, a regression where nothing fell."""
CONFIDENCE = 1 - 2 * ALPHA
"""Of a two-sided interval whose ends are the one-sided bounds."""
_POWER = 0.8
EXIT_CODES: dict[Status, int] = {"pass": 0, "regression": 1, "unknown": 2}


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
    """Answers that are right now and were wrong."""
    losses: int = 0
    paired: bool = False
    """Whether outcomes were compared sample by sample."""
    notes: tuple[str, ...] = ()
    """What changed besides the answers, and what a reader of the score must know."""


@dataclass(frozen=True)
class Check:
    """What the gate says of all rows."""

    status: Status
    margin: float
    tasks: list[Verdict]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 2 cannot tell."""
        return EXIT_CODES[self.status]


def check(
    baseline: Baseline, runs: Sequence[StoredRun], *, margin: float = 1.0, accept_training_data: bool = False
) -> Check:
    """Hold the newest runs against a baseline; `margin` in points is the drop that is tolerated.

    Probes that were trained on other data than the baseline's cannot be told, unless `accept_training_data`. Raises
    BenchError where the margin is no share of 100 points.
    """
    if not 0 <= margin <= 100:
        raise BenchError(f"--margin {margin:g} is not a number of points", fix="give 0 to 100, such as 1")
    fair = [run for run in runs if not why_not_gated(run.record)]
    groups: dict[tuple[str, ...], list[BaselineRow]] = defaultdict(list)
    for row in baseline.rows:
        groups[row.task, row.model, row.probe, row.protocol, row.metric].append(row)
    verdicts = settle([_measure(rows, fair, accept_training_data) for rows in groups.values()], margin)
    statuses = {verdict.status for verdict in verdicts}
    overall: Status = "regression" if "regression" in statuses else "unknown" if "unknown" in statuses else "pass"
    notes = dict.fromkeys(f"{row.model} on {row.task}: {note}" for row in verdicts for note in row.notes)
    return Check(overall, margin, verdicts, [*_notes(baseline, fair), *notes, *left_out(runs)])


def settle(verdicts: Sequence[Verdict], margin: float) -> list[Verdict]:
    """Rows that have a difference get their status. Those of status pass or without a difference have theirs."""
    open_rows = [row for row in verdicts if row.status == "unknown" and row.difference is not None]
    # A row without a discordant sample cannot be a false alarm, and the tests are exact given the discordant ones.
    tested = sorted((row.p_value or 0.0) for row in open_rows if row.wins or row.losses or not row.paired)
    limit = _holm_limit(tested)
    return [_settled(row, margin, limit) if row in open_rows else row for row in verdicts]


@dataclass(frozen=True)
class Outcomes:
    """What two runs got right on the same samples: 0 or 1, [K, n]."""

    before: NDArray[np.int64]
    now: NDArray[np.int64]
    videos: NDArray[np.int64] | None = None
    """[n], where samples share videos."""


def judge(rows: Sequence[Outcomes], margin: float) -> list[Status]:
    """What the gate says of rows of outcomes, without records; answers that differ in no outcome count as changed."""
    blank = Verdict("", None, "", "", "", "", [], "unknown", "", 0.0)
    return [row.status for row in settle([_paired(blank, row) for row in rows], margin)]


def _holm_limit(p_values: Sequence[float]) -> float:
    """The largest of the sorted p values that Holm's procedure rejects; below 0 where there is none."""
    rejected = -1.0
    for step, p_value in enumerate(p_values):
        if p_value > ALPHA / (len(p_values) - step):
            break
        rejected = p_value
    return rejected


def _settled(row: Verdict, margin: float, limit: float) -> Verdict:
    if row.low is None or row.high is None or row.p_value is None:
        return row
    if row.low > -margin:
        worst = f"at most {-row.low:.1f} points worse" if row.low < 0 else "better"
        return replace(row, status="pass", reason=worst)
    span = f"{row.low:+.1f} to {row.high:+.1f} points"
    if row.p_value <= limit:
        return replace(row, status="regression", reason=f"it fell: {span}")
    wanted = _margin_that_tells(row)
    reason = f"neither a drop is shown nor that it is within the margin: {span}"
    if wanted > margin:
        more = f"about {ceil(row.n * (wanted / margin) ** 2):,} samples or " if margin else ""
        reason += f"; n = {row.n:,} is too small for a margin of {margin:g}, {more}--margin {wanted:.1f} would tell"
    return replace(row, reason=reason)


def _margin_that_tells(row: Verdict) -> float:
    """The margin, in points, at which equal models would pass in 80 % of cases; rounded up to a tenth."""
    normal = NormalDist()
    bound = normal.inv_cdf(1 - ALPHA)
    standard_error = ((row.high or 0.0) - (row.low or 0.0)) / (2 * bound)
    return ceil(10 * (bound + normal.inv_cdf(_POWER)) * standard_error) / 10


def _measure(rows: Sequence[BaselineRow], runs: Sequence[StoredRun], accept_training_data: bool) -> Verdict:
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
        if all(row.outcomes is None for row in rows):
            return _unpaired(verdict, rows, [run for _, run in pairs])
        answers = [_same_samples(row, run) for row, run in pairs]
    except BenchError as error:
        return replace(verdict, reason=str(error))
    before, now = np.stack([row.hits() for row in rows]), np.stack([one.hits for one in answers])
    measured = _paired(verdict, Outcomes(before, now, answers[0].groups))
    if all(row.predictions == one.prediction_digest for row, one in zip(rows, answers, strict=True)):
        return replace(measured, status="pass", reason="every sample is predicted as before")
    return measured


def _refuse_rows(rows: Sequence[BaselineRow]) -> None:
    """Raise BenchError where no test is made of the metric of these rows, or they are not all that were written."""
    if rows[0].metric not in METRICS:
        raise BenchError(f"{rows[0].metric} is not a sum over samples, so nothing can be tested")
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
    extra = {run.record.seed for run in _fitting(row, _alike(row, runs))} - {row.seed for row, _ in pairs}
    return [f"seeds that the baseline does not have: {', '.join(map(str, sorted(extra)))}"] if extra else []


def _current(row: BaselineRow, runs: Sequence[StoredRun]) -> StoredRun:
    """The newest run of a row. Raises BenchError where there is none, or only of another protocol."""
    alike = [run for run in _alike(row, runs) if (run.record.probe, run.record.seed) == (row.probe, row.seed)]
    if not alike:
        raise BenchError(f"no run of {row.model} on {row.task} with {row.probe} and seed {row.seed}", fix="`bench run`")
    fitting = _fitting(row, alike)
    if not fitting:
        other = alike[-1].record
        theirs = f"{other.protocol}, {other.scores[0].metric}"
        raise BenchError(f"another protocol: {theirs} / {row.protocol}, {row.metric} in the baseline")
    return fitting[-1]


def _fitting(row: BaselineRow, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs of the protocol and metric of a row."""
    return [run for run in runs if (run.record.protocol, run.record.scores[0].metric) == (row.protocol, row.metric)]


def _alike(row: BaselineRow, runs: Sequence[StoredRun]) -> list[StoredRun]:
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


def _same_samples(row: BaselineRow, run: StoredRun) -> ClassAnswers:
    """The run's answers. Raises BenchError where they are missing or not to the samples of the row."""
    if row.outcomes is None:
        raise BenchError(f"the baseline has outcomes of some seeds only, not of {row.seed}", fix="--update")
    answers: ClassAnswers = read_sorted(run.folder, run.record)
    if answers.sample_digest != row.samples:
        failed = run.record.scores[0].failed
        detail = f"{len(answers.samples):,} now, {row.n:,} in the baseline"
        detail += f", {failed:,} could not be read now" if failed else ""
        raise BenchError(f"other test samples or labels: {detail}", fix="mend the data, or --update")
    return answers


def _paired(verdict: Verdict, outcomes: Outcomes) -> Verdict:
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


def _unpaired(verdict: Verdict, rows: Sequence[BaselineRow], runs: Sequence[StoredRun]) -> Verdict:
    """From counts alone, as if both scores came from samples of their own. More seeds are not more samples."""
    from scipy.stats import fisher_exact

    now = [run.record.scores[0] for run in runs]
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


def _notes(baseline: Baseline, runs: Sequence[StoredRun]) -> list[str]:
    """What of the runs the baseline does not have, and what it does not know."""
    held: set[str] = set()
    for row in baseline.rows:
        try:
            held |= {run.record.run_id for run in _alike(row, runs) if run.record.protocol == row.protocol}
        except BenchError:  # the reason of its verdict
            continue
    called = place_names(runs)
    fresh = {
        f"{called[run.record.run_id]} on {run.record.task} ({run.record.protocol})"
        for run in runs
        if run.record.run_id not in held
    }
    notes = [f"not in the baseline: {', '.join(sorted(fresh))}; --update adds them"] if fresh else []
    silent = sum(row.conditions is None or row.conditions.training is None for row in baseline.rows)
    if silent:
        what = f"{silent} of {len(baseline.rows)} rows of the baseline do not say what their probes were trained on"
        notes.append(f"{what}, so that is not compared; --update keeps it")
    return notes
