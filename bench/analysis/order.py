"""Which model stands above which: by the mean over the tasks that all models share.

A mean over whatever tasks a model has would reward it for having been measured on easy ones only, and comparing two
models at a time by what these two share goes in circles. So all models are compared by the same columns: those of one
metric and one probe, one of each task. Where no column has all models, those of the column that most have come first
(of the harder task where several have as many), and the rest follows in the same way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.analysis.leaderboard import Column, Row

_DIGITS = 9
"""Means are rounded to these, so that equal means of other columns are equal."""
_NAMED = 4
"""Tasks that are named before the rest is counted."""
_Scores = Mapping["Column", float]


@dataclass(frozen=True)
class _Part:
    """Models that share columns, as places in a list of models."""

    members: frozenset[int]
    columns: tuple[Column, ...]


def best_first(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[Row], str]:
    """The models by their scores in the columns that they share, and the words for it.

    Of equal models the one with more scores comes first, else they keep their order; models without a score come last.
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
