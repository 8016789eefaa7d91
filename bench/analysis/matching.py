"""Which runs two names stand for, and whether they may be compared: same task, protocol and samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.records.runs import StoredRun, called, load_runs, open_run, pooled, row_labels

_SHOWN = 90
"""Characters of a value that an error shows."""


@dataclass(frozen=True)
class Match:
    """Runs of two models that may be compared: all probe seeds of the runs of a side are seeds of one model."""

    a: tuple[StoredRun, ...]
    b: tuple[StoredRun, ...]
    notes: tuple[str, ...]
    """What a reader must know: runs left out, what does not fit in a record."""
    names: tuple[str, str] = ("", "")
    """Names of the two rows, as a leaderboard of all runs calls them."""


def match(name_a: str, name_b: str, folders: Sequence[Path]) -> Match:
    """The runs that two names stand for. Folders of records are read only where a name is no folder itself.

    Raises BenchError where a name means nothing or too much, or the runs are not of one measurement: with the fields.
    """
    given = [open_run(name_a), open_run(name_b)]
    runs, problems = ([], []) if all(given) else load_runs(folders)
    a, b = ([run] if run else called(name, runs, problems) for run, name in zip(given, (name_a, name_b), strict=True))
    everyone = {run.record.run_id: run for run in (*runs, *a, *b)}
    shown = row_labels(list(everyone.values()))
    if len(a) == len(b) == 1 and a[0].record == b[0].record:
        found = Match((a[0],), (b[0],), ("both names stand for one run",))
    else:
        found = _of_one_measurement(name_a, name_b, a, b)
    one, other = (shown[side[0].record.run_id] for side in (found.a, found.b))
    sides = {run.record.run_id: run for run in (*found.a, *found.b)}
    doubts = [f"{run_id}: {doubt}" for run_id, run in sides.items() for doubt in run.doubts]
    left_out = [f"left out: {problem}" for problem in problems]
    return replace(found, notes=(*found.notes, *doubts, *left_out), names=(one, other))


def _of_one_measurement(name_a: str, name_b: str, a: Sequence[StoredRun], b: Sequence[StoredRun]) -> Match:
    sides = [_by_measurement(side) for side in (a, b)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise _refusal(name_a, name_b, a, b)
    if len(common) > 1:
        raise _ambiguous(name_a, name_b, [sides[0][key] for key in common], [sides[1][key] for key in common])
    return _of_all_seeds(sides[0][common[0]], sides[1][common[0]])


def _by_measurement(side: Sequence[StoredRun]) -> dict[tuple[Any, ...], list[StoredRun]]:
    groups: dict[tuple[Any, ...], list[StoredRun]] = defaultdict(list)
    for run in side:
        groups[tuple(run.measurement.values())].append(run)
    return groups


def _of_all_seeds(a: Sequence[StoredRun], b: Sequence[StoredRun]) -> Match:
    kept = pooled(a), pooled(b)
    notes = [note for side, own in zip((a, b), kept, strict=True) for note in _left_out(side, own)]
    return Match(tuple(kept[0]), tuple(kept[1]), tuple(notes))


def _left_out(side: Sequence[StoredRun], kept: Sequence[StoredRun]) -> list[str]:
    """Which runs of a side are not compared: those of other weights or inputs, and older ones of the same seeds."""
    encoder = kept[0].encoder
    rest = [run for run in side if run not in kept]
    kinds = {
        "with other weights": [run for run in rest if run.encoder[1] != encoder[1]],
        "with another input": [run for run in rest if run.encoder[1] == encoder[1] and run.encoder != encoder],
    }
    older = sum(run.encoder == encoder for run in rest)
    notes = [f"{older} older run{'s' * (older > 1)} of {encoder[0]} left out"] if older else []
    return notes + [
        f"{len(runs)} run{'s' * (len(runs) > 1)} of {encoder[0]} {kind} left out"
        for kind, runs in kinds.items()
        if runs
    ]


def _ambiguous(
    name_a: str, name_b: str, a: Sequence[Sequence[StoredRun]], b: Sequence[Sequence[StoredRun]]
) -> BenchError:
    tasks = list(dict.fromkeys(side[-1].record.task for side in a))
    where = f"{name_a} against {name_b}"
    if len(tasks) > 1:
        models = a[0][-1].record.model, b[0][-1].record.model
        shown = " or ".join(f"{models[0]}@{task} {models[1]}@{task}" for task in tasks[:4])
        return BenchError(f"they share {len(tasks)} tasks", where=where, fix=f"say which: {shown}")
    shown = " or ".join(
        f"{one[-1].record.run_id} {other[-1].record.run_id} ({one[-1].record.protocol})"
        for one, other in zip(a[:3], b[:3], strict=True)
    )
    what = f"they share {len(a)} measurements of {tasks[0]}, which differ in {_fields(a[0][-1], a[1][-1])}"
    return BenchError(what, where=where, fix=f"name the runs: {shown}")


def _refusal(name_a: str, name_b: str, a: Sequence[StoredRun], b: Sequence[StoredRun]) -> BenchError:
    """Why no run of one side can be compared with one of the other: the fields of the closest pair."""
    pairs = [(one, other) for one in a for other in b]
    one, other = max(
        pairs,
        key=lambda pair: (
            pair[0].record.task == pair[1].record.task,
            -len(differing(pair[0].measurement, pair[1].measurement)),
            pair[0].record.moment,
            pair[1].record.moment,
        ),
    )
    return BenchError(
        f"they cannot be compared: {_fields(one, other)}",
        where=f"{name_a} against {name_b}",
        fix="only runs of one task, protocol and sample list can",
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The fields of two measurements that are not equal."""
    return [field for field in a if a[field] != b[field]]


def _fields(a: StoredRun, b: StoredRun) -> str:
    """Every field that differs, with both values."""
    one, other = a.measurement, b.measurement
    fields = differing(one, other)
    # Another task brings other classes and samples with it.
    fields = ["task"] if "task" in fields else fields
    return "; ".join(f"{field}: {_short(one[field])} / {_short(other[field])}" for field in fields)


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value) or "(none)"
    if len(text) == 64 and text.isalnum():
        return text[:8]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
