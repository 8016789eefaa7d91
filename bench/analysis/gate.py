"""The regression gate: did a score fall, and is that more than chance? Non-inferiority on paired outcomes; and a
baseline written anew from the newest runs.

Per row of the baseline, with d = score now minus score then, on the same samples:

    pass        every sample is predicted as before, or d is shown to be above -margin: its one-sided 95 % bound is
    regression  not that, and a drop is shown: d < 0 by a one-sided test at 5 %, Holm-corrected over the rows
    unknown     neither: the run is missing or not comparable (of other samples, settings, classes or training data), or
                there are too few samples for this margin

With several probe seeds then and now, interval and test hold what other trainings would score, too; a row of one seed
is judged by the test samples alone (bench.analysis.change). So a drop of the margin or more passes in at most 5 % of
cases, and where nothing fell at all, the chance that any row says regression is at most 5 %, whatever the number of
samples. docs/statistics.md has the measurements.

Everything here is in points, 0 to 100. Shapes: K seeds, n samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import NormalDist

from bench.analysis.gate_rows import (
    ALPHA,
    Outcomes,
    Status,
    Verdict,
    alike,
    mean_then,
    measure,
    paired_row,
    seeds_of_newest,
    sorted_answers,
)
from bench.core.errors import BenchError
from bench.records.baseline import (
    Baseline,
    BaselineRow,
    left_out,
    make_row,
    read_baseline,
    why_not_gated,
    why_not_held,
    write_baseline,
)
from bench.records.conditions import shared_note, shared_videos
from bench.records.runs import StoredRun, place_names

_POWER = 0.8
EXIT_CODES: dict[Status, int] = {"pass": 0, "regression": 1, "unknown": 2}


@dataclass(frozen=True)
class Check:
    """The verdicts of the gate on all rows."""

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
    verdicts = settle([measure(rows, fair, accept_training_data) for rows in groups.values()], margin)
    statuses = {verdict.status for verdict in verdicts}
    overall: Status = "regression" if "regression" in statuses else "unknown" if "unknown" in statuses else "pass"
    notes = dict.fromkeys(f"{row.model} on {row.task}: {note}" for row in verdicts for note in row.notes)
    held = [run for run in fair if not why_not_held(run)]
    return Check(overall, margin, verdicts, [*_notes(baseline, held), *notes, *left_out(runs)])


def settle(verdicts: Sequence[Verdict], margin: float) -> list[Verdict]:
    """Rows that have a difference get their status. Those of status pass or without a difference have theirs."""
    open_rows = [row for row in verdicts if row.status == "unknown" and row.difference is not None]
    # A row without a discordant sample cannot be a false alarm, and the tests are exact given the discordant ones.
    tested = sorted((row.p_value or 0.0) for row in open_rows if row.wins or row.losses or not row.paired)
    limit = _holm_limit(tested)
    return [_settled(row, margin, limit) if row in open_rows else row for row in verdicts]


def judge(rows: Sequence[Outcomes], margin: float) -> list[Status]:
    """What the gate says of rows of outcomes, without records; answers that differ in no outcome count as changed."""
    blank = Verdict("", None, "", "", "", "", [], "unknown", "", 0.0)
    return [row.status for row in settle([paired_row(blank, row) for row in rows], margin)]


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


def _notes(baseline: Baseline, runs: Sequence[StoredRun]) -> list[str]:
    """What of the runs the baseline does not have, and what it does not know."""
    held: set[str] = set()
    for row in baseline.rows:
        try:
            held |= {run.record.run_id for run in alike(row, runs) if run.record.protocol == row.protocol}
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


Key = tuple[str, str, str, str]
"""Task, model, protocol and metric of a row."""


@dataclass(frozen=True)
class Change:
    """What became of one row; scores are 0 to 100, None where there is none."""

    task: str
    model: str
    protocol: str
    metric: str
    seeds: list[int]
    """Probe seeds now, or then of a row that is gone."""
    then: float | None
    now: float | None

    @property
    def what(self) -> str:
        """added, removed or renewed."""
        return "added" if self.then is None else "removed" if self.now is None else "renewed"


def renew(path: Path, runs: Sequence[StoredRun]) -> list[Change]:
    """Write the baseline at `path`: a row for each score of each task, model and protocol, with all probe seeds of the
    newest run's encoder, and no others; none for runs that no baseline can hold (`why_not_held`).

    Returns the changes against the baseline that was there. Raises BenchError where there is no run, predictions are
    missing, or another kind of file is at `path`.
    """
    old: dict[Key, list[BaselineRow]] = defaultdict(list)
    for row in read_baseline(path).rows if path.exists() else ():
        old[row.task, row.model, row.protocol, row.metric].append(row)
    kept = {key: seeds_of_newest(of_key) for key, of_key in _by_key(runs).items()}
    if not kept:
        what = "; ".join(["no readable record to make a baseline of", *left_out(runs)])
        raise BenchError(what, where=str(path), fix="`bench run` writes one")
    rows = {key: _row(key, of_key) for key, of_key in kept.items()}
    write_baseline(path, list(rows.values()))
    return [_change(key, old.get(key, []), rows.get(key)) for key in sorted(rows.keys() | old.keys())]


def _row(key: Key, runs: Sequence[StoredRun]) -> BaselineRow:
    """The row of these runs; those that could not read the samples of the newest one are left out."""
    read = [(run, sorted_answers(run)) for run in runs]
    newest = max(read, key=lambda one: (one[0].record.moment, one[0].record.run_id))
    samples = newest[1][0].sample_digest
    alike = [(run.record, answers) for run, answers in read if answers[0].sample_digest == samples]
    return make_row(alike, key[3]).model_copy(update={"model": key[1]})


def other_encoders(runs: Sequence[StoredRun]) -> list[str]:
    """A line for each row of `renew` that took the newest of several encoders which nothing but weights or input tells
    apart."""
    lines = []
    for (task, model, protocol, _), of_key in _by_key(runs).items():
        kept = of_key[-1].encoder
        others = list({run.encoder: None for run in of_key if run.encoder != kept})
        if others:
            digests = ", ".join(f"weights {digest[:7]} ({shape})" for _, digest, shape in others)
            kind = f"weights {kept[1][:7]} ({kept[2]})"
            lines.append(f"{model} on {task} ({protocol}): kept {kind}, left out older runs of {digests}")
    return list(dict.fromkeys(lines))


def leaks(runs: Sequence[StoredRun]) -> list[str]:
    """A line for each row of `renew` whose probe was trained on some of the test videos."""
    lines = []
    for (task, model, protocol, _), of_key in _by_key(runs).items():
        shared = shared_videos(of_key[-1].record.notes)
        if shared:
            lines.append(f"{model} on {task} ({protocol}): {shared_note(shared)}")
    return list(dict.fromkeys(lines))


def _by_key(runs: Sequence[StoredRun]) -> dict[Key, list[StoredRun]]:
    """The runs of each row, oldest first; weights of one file name are different rows where their folders differ."""
    called = place_names(runs)
    found: dict[Key, list[StoredRun]] = defaultdict(list)
    for run in runs:
        record = run.record
        for score in () if why_not_held(run) else record.scores:
            found[record.task, called[record.run_id], record.protocol, score.metric].append(run)
    return found


def _change(key: Key, then: Sequence[BaselineRow], now: BaselineRow | None) -> Change:
    seeds = now.probe_seeds if now else [seed for row in then for seed in row.probe_seeds]
    return Change(*key, seeds, mean_then(then) if then else None, now.value if now else None)
