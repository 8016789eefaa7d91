"""Which models a plot shows: the columns of the leaderboard that some runs make, and the models in each, best first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.board import Cell, Column
from bench.analysis.leaderboard import build
from bench.analysis.select import Evidence
from bench.analysis.sheet import METRIC_NAMES
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import form_of
from bench.records.recomputed import read_sorted

INTERVALS = (
    "Lines through the marks are 95 % intervals for the test samples, and for trainings of the probe where there are "
    "several seeds"
)


@dataclass(frozen=True)
class Model:
    """A row of the leaderboard in one of its columns."""

    number: int
    """Place of the row on the board: what a model's colour goes by, so that it has one in all plots."""
    label: str
    cell: Cell
    runs: tuple[Evidence, ...]
    """In order of their seeds."""

    @property
    def seeds(self) -> list[float]:
        """The score of each seed, 0 to 100; empty where runs have several, of which records keep the mean."""
        if any(run.score.seeds > 1 for run in self.cell.runs):
            return []
        return [run.score.value for run in self.cell.runs]


@dataclass(frozen=True)
class Comparison:
    """A column of the leaderboard: models that may be held against each other."""

    column: Column
    title: str
    """Task and probe, and what else it takes to distinguish the columns."""
    models: tuple[Model, ...]
    """Best first."""

    @property
    def metric(self) -> str:
        """The metric in words, with its unit."""
        return metric_words(self.column)

    @property
    def chance(self) -> float | None:
        """The score of guessing, 0 to 100; None for metrics where it is not known."""
        return 100 / self.models[0].runs[0].record.num_classes if self.column.metric == "top1" else None

    @property
    def facts(self) -> str:
        """Task, protocol and number of samples, for captions."""
        return f"Task {self.column.task} ({self.column.protocol}), {count_words(self.models)}"


def comparisons(evidence: Sequence[Evidence]) -> list[Comparison]:
    """Every column of the board of these runs, in its order."""
    board = build([run.record for run in evidence])
    known = {run.record.run_id: run for run in evidence}
    titles = column_titles(board.columns)
    made = []
    for column in board.columns:
        models = [
            Model(number, row.label, cell, tuple(known[run.record.run_id] for run in cell.runs))
            for number, row in enumerate(board.rows)
            if (cell := row.cells.get(column))
        ]
        models.sort(key=lambda model: -model.cell.value)
        made.append(Comparison(column, titles[column], tuple(models)))
    return made


def of_first_scores(evidence: Sequence[Evidence]) -> list[Comparison]:
    """The columns of the runs' first scores: what sweeps, controls and answers belong to."""
    return [
        found
        for found in comparisons(evidence)
        if all(run.record.scores[0].metric == found.column.metric for model in found.models for run in model.runs)
    ]


def column_titles(columns: Sequence[Column]) -> dict[Column, str]:
    """A heading for each column: the fewest words that distinguish them."""
    words = {
        column: [
            f"{column.task}, {column.probe} probe{', selected on test' if column.selected_on_test else ''}",
            metric_words(column),
            column.protocol,
            f"{column.num_train:,} training and {column.num_test:,} test samples",
            f"lists {column.lists[:7] or 'not known'}",
        ]
        for column in columns
    }
    titles = {column: parts[0] for column, parts in words.items()}
    for depth in range(1, 5):
        alike = defaultdict(set)
        for column, title in titles.items():
            alike[title].add(words[column][depth])
        titles = {c: f"{title}, {words[c][depth]}" if len(alike[title]) > 1 else title for c, title in titles.items()}
    return titles


def metric_words(column: Column) -> str:
    """The metric of a column in words, with its unit."""
    return f"{METRIC_NAMES.get(column.metric, column.metric)} (%)"


def count_words(models: Sequence[Model]) -> str:
    """How many test samples the scores are of."""
    counts = {run.score.n for model in models for run in model.cell.runs}
    least, most = min(counts), max(counts)
    return f"n = {least:,} test samples" if least == most else f"n = {least:,} to {most:,} test samples"


def seed_words(models: Sequence[Model]) -> list[str]:
    """What the marks of several seeds are, for captions; nothing where each model has one."""
    if all(len(model.seeds) < 2 for model in models):
        return []
    return ["a mark is the mean over seeds, and the small dots are the seeds: their spread is that of probe training"]


def answered(found: Comparison, most: int) -> tuple[list[tuple[Model, list[ClassAnswers]]], list[str]]:
    """The best models, at most `most`, with the answers of all their seeds; and what the caption must say of others.

    None where the column's metric is not of one label a sample.
    """
    if form_of(found.column.metric) != ClassAnswers.form:
        return [], []
    kept: list[tuple[Model, list[ClassAnswers]]] = []
    problems = []
    rest = 0
    for model in found.models:
        if len(kept) == most:
            rest += 1
            continue
        try:
            kept.append((model, [one for run in model.runs for one in read_sorted(run.folder, run.record)]))
        except BenchError as error:
            problems.append(f"left out: {model.label}, {_without_folder(error, model.runs)}")
    return kept, [*problems, rest_words(len(kept), len(kept) + rest)]


def rest_words(shown: int, total: int) -> str:
    """What captions say where not all models are shown."""
    return f"The {shown} best of {total} models are shown; --model shows others" if shown < total else ""


def _without_folder(error: BenchError, runs: Sequence[Evidence]) -> str:
    """The error, without the path of this machine."""
    places = {str(run.folder): run.record.run_id for run in runs}
    where = str(Path(error.where or "").parent)
    return f"{error.what} ({places.get(where) or places.get(error.where or '', '')})"


def sentences(*parts: str) -> str:
    """Parts of a caption, each a sentence."""
    return " ".join(f"{part[0].upper()}{part[1:].rstrip('.')}." for part in parts if part)
