"""What a leaderboard is made of, and which model stands above which: by the mean over the tasks that all share.

A mean over whatever tasks a model has would reward it for having been measured on easy ones only, and comparing two
models at a time by what these two share goes in circles. So all models are compared by the same columns: those of one
metric and one probe, one of each task. Where no column has all models, those of the column that most have come first
(of the harder task where several have as many), and the rest follows in the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist, fmean
from typing import Literal

from bench.metrics.score import Score
from bench.records.summary import Summary

Place = Literal["all", "rows", "columns", "cells"]
_DIGITS = 9
"""Means are rounded to these, so that equal means of other columns are equal."""
_NAMED = 4
"""Tasks that are named before the rest is counted."""


@dataclass(frozen=True)
class Column:
    """What must be equal for two scores to be compared."""

    axis: str | None
    task: str
    probe: str
    protocol: str
    metric: str
    num_train: int
    """Samples on the training list, readable or not."""
    num_test: int
    lists: str
    """Digests of both lists, training first; empty where the record has none."""
    selected_on_test: bool = False
    """Whether its probes were chosen on the test split: shown as a paper's own figure, and never ranked, averaged,
    sorted by or tested."""


@dataclass(frozen=True)
class Run:
    """One record with one of its scores."""

    record: Summary
    score: Score

    @property
    def coverage(self) -> float:
        """Share of the test samples that could be read, 0 to 1."""
        return self.score.n / max(1, self.score.n + self.score.failed)


@dataclass(frozen=True)
class Difference:
    """A model's score minus the reference's, with its 95 % interval; all -100 to 100."""

    value: float
    low: float | None = None
    high: float | None = None
    """Both ends are None where nothing could be paired: for means, and where one of the two has no predictions."""


@dataclass(frozen=True)
class Cell:
    """The runs of one model in one column, in order of their seeds: all their probe seeds are seeds of the model."""

    runs: tuple[Run, ...]
    rank_low: int | None = None
    """1 + the models of the column that are significantly better; None where no pair can be tested."""
    rank_high: int | None = None
    """The ranked models of the column minus those that are significantly worse."""
    difference: Difference | None = None
    """From the reference of the board; None where there is none, and in the reference's own row."""

    @property
    def rank(self) -> int | None:
        """The best rank that the model may have."""
        return self.rank_low

    @property
    def rank_words(self) -> str:
        """The ranks that the model may have, such as `2` or `2-4`; empty where there are none."""
        if self.rank_low is None:
            return ""
        return str(self.rank_low) if self.rank_low == self.rank_high else f"{self.rank_low}-{self.rank_high}"

    @property
    def seeds(self) -> int:
        """Trainings of the probe, over all runs."""
        return sum(run.score.seeds for run in self.runs)

    @property
    def value(self) -> float:
        """Mean over the seeds, 0 to 100."""
        return sum(run.score.seeds * run.score.value for run in self.runs) / self.seeds

    @property
    def low(self) -> float:
        """Low end of the interval, 0 to 100: over test samples, and over trainings where there are several seeds."""
        return self._interval[0]

    @property
    def high(self) -> float:
        """High end of the interval, 0 to 100."""
        return self._interval[1]

    @property
    def interval(self) -> str:
        """How the interval was made."""
        return self.runs[0].score.interval if len(self.runs) == 1 else "Student's t over samples and seeds, 95 %"

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds, in points; None for one seed."""
        if self.seeds == 1:
            return None
        squares = sum(
            (run.score.seeds - 1) * (run.score.training_sd or 0.0) ** 2
            + run.score.seeds * (run.score.value - self.value) ** 2
            for run in self.runs
        )
        return sqrt(squares / (self.seeds - 1))

    @property
    def sampling_se(self) -> float:
        """Standard error over the test samples, in points; all seeds see the same ones."""
        return sum(run.score.seeds * _sampling_se(run.score) for run in self.runs) / self.seeds

    @cached_property
    def _interval(self) -> tuple[float, float]:
        if len(self.runs) == 1:
            return self.runs[0].score.low, self.runs[0].score.high
        from bench.metrics.trainings import pooled_interval

        samples = min(run.score.n for run in self.runs)
        return pooled_interval(self.value, self.sampling_se, self.spread or 0.0, self.seeds, samples)

    @property
    def coverage(self) -> float:
        """Share of the test samples that could be read, 0 to 1; the smallest of the seeds."""
        return min(run.coverage for run in self.runs)


def _sampling_se(score: Score) -> float:
    """The standard error over test samples; that of older scores is what made their interval."""
    if score.sampling_se is not None:
        return score.sampling_se
    return (score.high - score.low) / (2 * NormalDist().inv_cdf(0.975))


@dataclass(frozen=True)
class Lead:
    """How much better motion is read than appearance, in points, beyond what the reference does."""

    value: float
    low: float | None
    high: float | None
    """Both ends of the 95 % interval; None where answers are not there."""
    reference: str | None
    """Label of the reference; None where the board has none, and the lead is the plain difference."""


@dataclass(frozen=True)
class Row:
    """One encoder: a model name and its weights."""

    label: str
    """Model name, with its input or the digest of its weights where the name alone does not identify it."""
    cells: Mapping[Column, Cell]
    motion_lead: Lead | None = None
    """None for the reference itself, and where scores of an axis are not there."""

    @cached_property
    def records(self) -> list[Summary]:
        """The records behind the row, each once."""
        return list({id(run.record): run.record for cell in self.cells.values() for run in cell.runs}.values())

    @property
    def encoder_clips(self) -> int:
        """Clips encoded by the runs of the row; clips read from the cache are not counted."""
        return sum(record.cost.encoder_clips for record in self.records)

    @property
    def seconds(self) -> float:
        """Wall time of the runs of the row."""
        return sum(record.cost.total_s for record in self.records)

    @property
    def devices(self) -> tuple[str, ...]:
        """Kinds of device that the runs of the row used, CPU or GPU, as far as the records tell."""
        kinds = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU"}
        return tuple(sorted({kinds[kind] for r in self.records if (kind := r.device.partition(":")[0]) in kinds}))


@dataclass(frozen=True)
class GroupMean:
    """Unweighted mean over the tasks of one axis, under one probe, that every row has."""

    axis: str
    probe: str
    columns: tuple[Column, ...]

    def of(self, row: Row) -> float:
        """The mean of one row, 0 to 100."""
        return fmean(row.cells[column].value for column in self.columns)


@dataclass(frozen=True)
class Footnote:
    """A note of the records and where its number goes: beside a model, a column heading or single scores."""

    text: str
    place: Place
    cells: frozenset[tuple[int, int]]
    """(row, column) of every score that it is about."""


@dataclass(frozen=True)
class Leaderboard:
    """Rows, best first, and columns grouped by axis: motion, appearance, anticipation, none."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    means: tuple[GroupMean, ...]
    footnotes: tuple[Footnote, ...]
    superseded: int
    """Records left out because a newer one has the same model, task, protocol and seed."""
    order: str
    """What the rows are sorted by, in words."""
    reference: Row | None = None
    """The row that others are compared with."""


_Scores = Mapping[Column, float]


@dataclass(frozen=True)
class _Part:
    """Models that share columns, as places in a list of models."""

    members: frozenset[int]
    columns: tuple[Column, ...]


def best_first(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[Row], str]:
    """The models by their scores in the columns that they share, and the words for it.

    Among equals the one with more scores comes first, else they keep their order; models without a score come last.
    A model that ran the easier tasks alone is not put first: where most models have further tasks, and scored lower on
    these than on its own, the next one goes first.
    """
    scores = [{column: row.cells[column].value for column in columns if column in row.cells} for row in rows]
    parts = list(_parts(scores, columns))
    order = [place for part in parts for place in _sorted(part, scores)]
    order += [place for place, own in enumerate(scores) if not own]
    first = next((place for place in order if not _ran_easier_tasks(place, scores)), None)
    words = _words(parts[0], columns, len(rows)) if parts else "by name"
    if first is not None and first != order[0]:
        words += f"; {rows[order[0]].label} ran the easier tasks alone"
        order = [first, *(place for place in order if place != first)]
    return [rows[place] for place in order], words


def _parts(scores: Sequence[_Scores], columns: Sequence[Column]) -> Iterable[_Part]:
    """Each model with a score once, those that share the column of most models first."""
    rest = {place for place, own in enumerate(scores) if own}
    kinds = [_kind(column) for column in columns]
    cells = Counter(_kind(column) for own in scores for column in own)
    values = defaultdict(list)
    for column, value in (cell for own in scores for cell in own.items()):
        values[column.task, _kind(column)].append(value)

    def rank(part: _Part) -> tuple[float, ...]:
        kind = _kind(part.columns[0])
        mean = fmean(values[part.columns[0].task, kind])
        return len(part.columns), cells[kind], -kinds.index(kind), -round(mean, _DIGITS)

    while rest:
        having = {column: frozenset(place for place in rest if column in scores[place]) for column in columns}
        most = max(map(len, having.values()))
        found = max(
            (_Part(members, _shared(column, having)) for column, members in having.items() if len(members) == most),
            key=rank,
        )
        yield found
        rest -= found.members


def _kind(column: Column) -> tuple[str, str]:
    return column.metric, column.probe


def _shared(lead: Column, having: Mapping[Column, frozenset[int]]) -> tuple[Column, ...]:
    """The column `lead`, and one of each other task, of its metric and probe, that all models of `lead` have."""
    of_task = {lead.task: lead}
    for column, members in having.items():
        if _kind(column) == _kind(lead) and having[lead] <= members:
            of_task.setdefault(column.task, column)
    return tuple(of_task.values())


def _sorted(part: _Part, scores: Sequence[_Scores]) -> list[int]:
    def key(place: int) -> tuple[float, int]:
        mean = fmean(scores[place][column] for column in part.columns)
        return -round(mean, _DIGITS), -len(scores[place])

    return sorted(sorted(part.members), key=key)


def _ran_easier_tasks(place: int, scores: Sequence[_Scores]) -> bool:
    """Whether most models are others that scored higher on the tasks of this one than on tasks that it has not."""
    own = scores[place]
    tasks = {column.task for column in own}
    easier = 0
    for other in (other for number, other in enumerate(scores) if number != place):
        shared: dict[tuple[str, str], list[float]] = defaultdict(list)
        further: dict[tuple[str, str], list[float]] = defaultdict(list)
        for column, value in other.items():
            if column in own or column.task not in tasks:
                (shared if column in own else further)[_kind(column)].append(value)
        easier += any(fmean(shared[kind]) > fmean(further[kind]) for kind in shared.keys() & further.keys())
    return 2 * easier > len(scores)


def _words(part: _Part, columns: Sequence[Column], num_models: int) -> str:
    """What the first models of a board are sorted by."""
    several = {column.task for column in columns if sum(other.task == column.task for other in columns) > 1}
    named = [f"{column.task} ({column.protocol})" if column.task in several else column.task for column in part.columns]
    if len(named) > _NAMED:
        named = [*named[: _NAMED - 1], f"{len(named) - _NAMED + 1} others"]
    what = f"the mean of {', '.join(named[:-1])} and {named[-1]}"
    if len(named) == 1:
        what = f"the score in {part.columns[0].task} ({part.columns[0].protocol})"
    if len(part.members) == num_models:
        return f"by {what}, which all models share, highest first"
    return f"by {what}, which {len(part.members)} of {num_models} models share, highest first; others after them"
