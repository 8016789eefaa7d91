"""One figure for a model: by how much it reads motion better than appearance, beyond what another model does.

    lead = (mean of motion scores - mean of appearance scores) - the same of a reference, an untrained encoder by
           default

Tasks differ in difficulty, so that the plain difference says as much of the tasks as of the model; the reference takes
that out. Scores of the same clips are paired, on the clips that all of these runs could read: what a clip adds to the
lead is one number. Other clips are independent, and so are all trainings of probes; their variances add up
(bench.metrics.trainings). In points.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.analysis.board import Cell, Column, Lead, Row
from bench.metrics.metric import form_of
from bench.records.tables.outcomes import Outcomes, aligned, sample_ids

if TYPE_CHECKING:
    from bench.metrics.trainings import Trainings

UNTRAINED = "random"
"""The reference where the user names none and the board has it."""


def with_leads(rows: Sequence[Row], columns: Sequence[Column], reference: Row | None) -> list[Row]:
    """The rows with their leads over the reference, or over nothing where there is none; none where the board has no
    probe that read both axes."""
    used = _columns(rows, columns)
    base = reference or next((row for row in rows if row.label == UNTRAINED), None)
    if base is not None and _terms(base, 1.0, used) is None:
        base = None
    lists = _lists([row.cells[column] for row in rows for column in used if column in row.cells])
    return [replace(row, motion_lead=_lead(row, base, used, lists) if used else None) for row in rows]


def _columns(rows: Sequence[Row], columns: Sequence[Column]) -> list[Column]:
    """The accuracies of both axes under the probe that most rows have in both."""
    fair = [one for one in columns if form_of(one.metric) == "classes" and not one.selected_on_test]
    of_probe: dict[str, list[Column]] = defaultdict(list)
    for column in fair:
        if column.axis in ("motion", "appearance"):
            of_probe[column.probe].append(column)
    counted = {probe: sum(_terms(row, 1.0, used) is not None for row in rows) for probe, used in of_probe.items()}
    best = max(counted, key=lambda probe: counted[probe], default="")
    return of_probe[best] if counted.get(best) else []


def _terms(row: Row, sign: float, columns: Sequence[Column]) -> list[tuple[float, Cell]] | None:
    """The scores of a row with their weights in its lead; None where it lacks an axis."""
    motion, appearance = (
        [row.cells[column] for column in columns if column.axis == axis and column in row.cells]
        for axis in ("motion", "appearance")
    )
    if not motion or not appearance:
        return None
    return [(sign / len(motion), cell) for cell in motion] + [(-sign / len(appearance), cell) for cell in appearance]


def _lists(cells: Sequence[Cell]) -> dict[str, int]:
    """The list that each set of samples is of, by the digest of the set: sets of one list share most of their clips,
    and differ in those that could not be read."""
    sets = {one.samples: one for cell in cells for one in _outcomes(cell)}
    if len(sets) < 2:
        return dict.fromkeys(sets, 0)
    found: dict[str, int] = {}
    known: list[set[str]] = []
    for digest, one in sorted(sets.items(), key=lambda item: (-item[1].n, item[0])):
        ids = set(sample_ids(one))
        alike = (number for number, other in enumerate(known) if 2 * len(ids & other) > len(other))
        found[digest] = next(alike, len(known))
        known += [ids] if found[digest] == len(known) else []
    return found


def _outcomes(cell: Cell) -> list[Outcomes]:
    """What every probe of a cell got right; nothing where a run of it lacks its answers."""
    if not all(run.record.outcomes for run in cell.runs):
        return []
    return [seed for run in cell.runs for seed in run.record.outcomes]


def _lead(row: Row, base: Row | None, columns: Sequence[Column], lists: Mapping[str, int]) -> Lead | None:
    if base is not None and row.label == base.label:
        return None
    shared = [column for column in columns if column in row.cells and (base is None or column in base.cells)]
    own = _terms(row, 1.0, shared)
    other = _terms(base, -1.0, shared) if base is not None else []
    if own is None or other is None:
        return None
    terms = [*own, *other]
    value = sum(weight * cell.value for weight, cell in terms)
    low, high = _interval(value, terms, lists) or (None, None)
    return Lead(value, low, high, base.label if base is not None else None)


def _interval(
    value: float, terms: Sequence[tuple[float, Cell]], lists: Mapping[str, int]
) -> tuple[float, float] | None:
    """Both ends of the 95 % interval; None where answers are not there, or nothing in them is independent."""
    outcomes = [(weight, _outcomes(cell)) for weight, cell in terms]
    if not all(seeds for _, seeds in outcomes):
        return None
    import numpy as np
    from scipy.stats import t

    of_list: dict[int, list[tuple[float, list[Outcomes]]]] = defaultdict(list)
    for weight, seeds in outcomes:
        of_list[lists[seeds[0].samples]].append((weight, seeds))
    variance, freedom, shared, sampled = 0.0, 0.0, 0.0, 0.0
    for alike in of_list.values():
        found = _on_common_clips(alike)
        if found is None:
            return None
        added = np.sum([weight * one.added for weight, one in found], axis=0)
        sampling = float(added.var(ddof=1)) / len(added)
        sampled += sampling
        variance, freedom = variance + sampling, freedom + sampling**2 / (len(added) - 1)
        for weight, one in found:
            training = weight**2 * one.training_variance
            variance, shared = variance + training, shared + weight**2 * one.interaction
            freedom += training**2 / max(1, one.seeds - 1)
    total = max(variance - shared, sampled)
    reach = float(t.ppf(0.975, max(1.0, total**2 / freedom)) * total**0.5) if freedom else 0.0
    return value - reach, value + reach


def _on_common_clips(terms: Sequence[tuple[float, list[Outcomes]]]) -> list[tuple[float, Trainings]] | None:
    """What the terms of one list of clips say of its clips that could be read for all of them, or of their videos; None
    where fewer than two are independent."""
    import numpy as np

    from bench.analysis.change import trained_hits
    from bench.analysis.ranks import hits_of

    kept, videos = aligned([seed for _, seeds in terms for seed in seeds])
    groups = None if videos is None else np.asarray(videos)
    if (kept[0].n if groups is None else len(np.unique(groups))) < 2:
        return None
    rest = iter(kept)
    return [(weight, trained_hits(hits_of([next(rest) for _ in seeds]), groups)) for weight, seeds in terms]
