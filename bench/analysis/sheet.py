"""What a board says in printed words: headings, entries, marks, legend; the same for every kind of table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.analysis.board import Cell, Column, Difference, GroupMean, Leaderboard, Row
from bench.analysis.leaderboard import ALPHA
from bench.metrics.metric import form_of

MISSING = "—"
ONE_PROBE = "one probe"
_TITLES = {"motion": "Motion", "appearance": "Appearance", "anticipation": "Anticipation", None: "No axis"}
METRIC_NAMES = {"top1": "top-1 accuracy"}
_Place = tuple[int | None, int | None]
"""(row, column), None for all of them."""


@dataclass(frozen=True)
class Entry:
    """One place of the table."""

    value: str = MISSING
    interval: str = ""
    sampling: str = ""
    """What other samples would change; empty for one seed."""
    spread: str = ""
    """Over seeds; of a single one, that it is one, where others of the board have several."""
    marks: tuple[int, ...] = ()
    """Numbers of its footnotes."""
    best: bool = False
    rank: str = ""
    """The ranks it may have, such as `2-4`; empty where no paired test can be made."""
    difference: str = ""
    """From the reference; empty without one."""
    coverage: str = ""
    """Share of test samples that could be read; empty where it is all."""
    number: float | None = None
    """What the value says, to sort by; None where there is none."""

    @property
    def below(self) -> tuple[str, ...]:
        """What stands below the value, a line each."""
        return tuple(text for text in (self.difference, self.sampling, self.spread, self.coverage) if text)


@dataclass(frozen=True)
class PrintedColumn:
    """One column: its group, the lines of its heading and an entry for each row."""

    group: str
    """Motion, Appearance, Anticipation, No axis or Cost."""
    probe: str
    heading: tuple[str, ...]
    marks: tuple[int, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Sheet:
    """A whole board in words."""

    title: str
    models: tuple[Entry, ...]
    columns: tuple[PrintedColumn, ...]
    legend: tuple[tuple[str, str], ...]
    """(term, meaning), to be read before the footnotes."""
    footnotes: tuple[tuple[str, str], ...]
    """(number, text)."""


def lay_out(board: Leaderboard) -> Sheet:
    """The board in words. Names come as they are in the records: escaping them is the printer's part."""
    protocols = list(dict.fromkeys(column.protocol for column in board.columns))
    marks = _numbers(board)
    columns: list[PrintedColumn] = []
    for axis in _TITLES:
        group = [column for column in board.columns if column.axis == axis]
        for probe in dict.fromkeys(column.probe for column in group):
            columns += [_scores(board, column, protocols, marks) for column in group if column.probe == probe]
            columns += [_mean(board, mean) for mean in board.means if (mean.axis, mean.probe) == (axis, probe)]
    columns += [_leads(board)] if any(row.motion_lead for row in board.rows) else []
    devices = {device for row in board.rows for device in row.devices}
    columns += [
        _cost("clips", [Entry(f"{row.encoder_clips:,}", number=row.encoder_clips) for row in board.rows]),
        _cost(
            ", ".join(["time", *(devices if len(devices) == 1 else [])]),
            [Entry(_time(row, devices), number=row.seconds) for row in board.rows],
        ),
    ]
    models = tuple(Entry(row.label, marks=marks.get((index, None), ())) for index, row in enumerate(board.rows))
    metrics = sorted({METRIC_NAMES.get(column.metric, column.metric) for column in board.columns})
    return Sheet(
        title=f"Frozen encoders: {' and '.join(metrics)} in %, with 95 % interval",
        models=models,
        columns=tuple(columns),
        legend=tuple(_legend(board, protocols)),
        footnotes=tuple(
            (str(number), f"all scores: {note.text}" if note.place == "all" else note.text)
            for number, note in enumerate(board.footnotes, start=1)
        ),
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best: 42 s, 3.5 min, 12.1 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def points(difference: Difference) -> str:
    """A difference in points, with its interval where there is one: +5.5 [+2.9, +8.1]."""
    if difference.low is None or difference.high is None:
        return _signed(difference.value)
    return f"{_signed(difference.value)} [{_signed(difference.low)}, {_signed(difference.high)}]"


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _scores(
    board: Leaderboard, column: Column, protocols: list[str], marks: Mapping[_Place, tuple[int, ...]]
) -> PrintedColumn:
    index = board.columns.index(column)
    ranked = [] if column.selected_on_test else board.rows
    best = _best(row.cells[column].value for row in ranked if column in row.cells)
    entries = []
    for number, row in enumerate(board.rows):
        cell = row.cells.get(column)
        entries.append(_entry(cell, marks.get((number, index), ()), best, several=_several(board)) if cell else Entry())
    return PrintedColumn(
        group=_TITLES[column.axis],
        probe=column.probe,
        heading=_heading(board, column, protocols),
        marks=marks.get((None, index), ()),
        entries=tuple(entries),
    )


def _several(board: Leaderboard) -> bool:
    """Whether a score of the board is a mean over several seeds."""
    return any(cell.seeds > 1 for row in board.rows for cell in row.cells.values())


def _entry(cell: Cell, marks: tuple[int, ...], best: str, *, several: bool) -> Entry:
    value = f"{cell.value:.1f}"
    spread = ONE_PROBE if several else ""
    return Entry(
        value=value,
        interval=f"{cell.low:.1f}–{cell.high:.1f}",
        sampling="" if cell.spread is None else f"se {cell.sampling_se:.1f}",
        spread=spread if cell.spread is None else f"sd {cell.spread:.1f}, {cell.seeds} seeds",
        marks=marks,
        best=value == best,
        rank=cell.rank_words,
        difference="" if cell.difference is None else points(cell.difference),
        coverage="" if cell.coverage == 1 else f"{_percent(cell.coverage)} read",
        number=cell.value,
    )


def _percent(share: float) -> str:
    """A share below 1, never shown as 100 %."""
    return f"{min(100 * share, 99.9):.1f} %"


def _heading(board: Leaderboard, column: Column, protocols: list[str]) -> tuple[str, ...]:
    probe = column.probe if len(protocols) == 1 else f"{column.probe} P{protocols.index(column.protocol) + 1}"
    lines = [column.task, probe, *_metric(board, column), f"n = {column.num_test:,}"]
    if column.selected_on_test:
        lines.append("selected on test")
    # Columns that would read alike although they may not be compared say what sets them apart.
    twins = [
        other
        for other in board.columns
        if (other.task, other.probe, other.protocol, other.num_test)
        == (column.task, column.probe, column.protocol, column.num_test)
    ]
    if len({twin.num_train for twin in twins}) > 1:
        lines.append(f"{column.num_train:,} train")
    if len({twin.lists for twin in twins}) > 1:
        lines.append("lists " + "/".join(digest[:5] for digest in column.lists.split()))
    return tuple(lines)


def _metric(board: Leaderboard, column: Column) -> tuple[str, ...]:
    """The metric of a column, where the board has several."""
    several = len({other.metric for other in board.columns}) > 1
    return (METRIC_NAMES.get(column.metric, column.metric),) if several else ()


def _mean(board: Leaderboard, mean: GroupMean) -> PrintedColumn:
    values = [mean.of(row) for row in board.rows]
    best = _best(values)
    entries = []
    for row, value in zip(board.rows, values, strict=True):
        reference = board.reference if board.reference and board.reference.label != row.label else None
        difference = points(Difference(value - mean.of(reference))) if reference else ""
        entries.append(Entry(f"{value:.1f}", best=f"{value:.1f}" == best, difference=difference, number=value))
    heading = ("mean", mean.probe, *_metric(board, mean.columns[0]), f"{len(mean.columns)} tasks")
    return PrintedColumn(_TITLES[mean.axis], mean.probe, heading, (), tuple(entries))


def _leads(board: Leaderboard) -> PrintedColumn:
    entries = []
    for row in board.rows:
        lead = row.motion_lead
        reach = f"±{(lead.high - lead.low) / 2:.1f}" if lead and lead.low is not None and lead.high is not None else ""
        entries.append(Entry(_signed(lead.value), spread=reach, number=lead.value) if lead else Entry())
    return PrintedColumn("Lead", "", ("motion",), (), tuple(entries))


def _lead_words(board: Leaderboard) -> str:
    named = {row.motion_lead.reference for row in board.rows if row.motion_lead} - {None}
    plain = "mean of motion minus mean of appearance scores, in points"
    over = (
        f", less the same of {'; '.join(sorted(filter(None, named)))}"
        if named
        else "; no reference, so of the tasks too"
    )
    return f"{plain}{over}; ± 95 % interval over samples and seeds"


def _cost(name: str, entries: list[Entry]) -> PrintedColumn:
    return PrintedColumn("Cost", "", (name,), (), tuple(entries))


def _time(row: Row, devices: set[str]) -> str:
    """Wall time, with the device where it is not the same for all rows."""
    return " ".join([duration(row.seconds), *(["+".join(row.devices)] if len(devices) > 1 and row.devices else [])])


def _best(values: Iterable[float]) -> str:
    """The highest value as it is printed; empty where there is nothing to compare."""
    known = list(values)
    return f"{max(known):.1f}" if len(known) > 1 else ""


def _numbers(board: Leaderboard) -> dict[_Place, tuple[int, ...]]:
    """Numbers of the footnotes of each row (row, None), column (None, column) and score (row, column)."""
    found: dict[_Place, list[int]] = defaultdict(list)
    for number, note in enumerate(board.footnotes, start=1):
        if note.place == "rows":
            places: set[_Place] = {(row, None) for row, _ in note.cells}
        elif note.place == "columns":
            places = {(None, column) for _, column in note.cells}
        else:
            places = set(note.cells) if note.place == "cells" else set()
        for place in places:
            found[place].append(number)
    return {place: tuple(numbers) for place, numbers in found.items()}


def _legend(board: Leaderboard, protocols: list[str]) -> list[tuple[str, str]]:
    cells = [cell for row in board.rows for cell in row.cells.values()]
    intervals = sorted({cell.interval for cell in cells})
    legend = [("interval", f"{'; '.join(intervals)}; n test samples")]
    if len(cells) > 1:
        legend.append(("order", f"{board.order}; bold: best of a column"))
    if any(cell.rank_words for cell in cells):
        legend.append(("#", _rank_words(board)))
    if board.reference:
        legend.append(("below", f"difference from {board.reference.label}, with 95 % interval of paired samples"))
    if any(row.motion_lead for row in board.rows):
        legend.append(("lead", _lead_words(board)))
    if _several(board):
        legend.append(("se", "standard error of the score over test samples; with sd, it makes the interval"))
        legend.append(("sd", "standard deviation of the score over seeds (trainings of the probe); it is their mean"))
    if any(cell.seeds == 1 for cell in cells):
        legend.append(
            (ONE_PROBE, "a score of one seed; its interval and ranks say nothing of other trainings of the probe")
        )
    if len(protocols) == 1:
        legend.append(("protocol", protocols[0]))
    else:
        legend += [(f"P{number}", name) for number, name in enumerate(protocols, start=1)]
    if board.means:
        legend.append(("mean", "over the tasks of a group that every model has"))
    legend.append(("cost", "clips encoded for these scores (cached ones are free) and wall time of the runs"))
    if board.superseded:
        runs = "1 older run" if board.superseded == 1 else f"{board.superseded} older runs"
        legend.append(("left out", f"{runs} with a newer one of the same model, task, protocol and seed"))
    return legend


def _rank_words(board: Leaderboard) -> str:
    """What a rank is, and by which tests."""
    ranked = [(column, cell) for row in board.rows for column, cell in row.cells.items() if cell.rank_words]
    single = {form_of(column.metric) == "classes" for column, cell in ranked if cell.seeds == 1}
    tests = ["exact McNemar test on the same samples"] if True in single else []
    tests += ["sign flips of what each video or image adds to both scores in other metrics"] if False in single else []
    if any(cell.seeds > 1 for _, cell in ranked):
        tests.append("Student's t test over the same samples and the seeds")
    words = (
        "the ranks that a model may have, 1 + the models of the column that are significantly better to all but those "
    )
    return f"{words}significantly worse ({', or '.join(tests)}; {100 * ALPHA:g} %, Holm over the column)"
