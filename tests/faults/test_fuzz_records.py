"""Damaged records: named, or shown with the score that their predictions have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fault_lab import Bench
from fuzzing import Edit, edited, edits, fuzz
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.records.index import read_runs
from bench.records.runs import load_runs
from bench.records.summary import Summary

VALUES = [
    None,
    True,
    -1,
    0,
    1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "9999-99-99",
    [],
    {},
    [[]],
    {"": 0},
]


@pytest.fixture
def run(bench: Bench) -> Path:
    bench.run()
    return bench.results[0]


def seen(run: Path) -> None:
    """What is read of the run is an error, or a score that its predictions have."""
    everything = read_runs([run.parent], run.parent.parent / "index.sqlite")
    for problem in (found for found in everything if isinstance(found, BenchError)):
        raise problem
    for found in everything:
        assert isinstance(found, Summary)
        score = found.scores[0]
        assert found.outcomes and score.correct is not None
        assert found.outcomes[0].right.bit_count() == score.correct and found.outcomes[0].n == score.n
        assert abs(score.value - 100 * score.correct / score.n) < 1e-6 and score.low <= score.value <= score.high
    load_runs([run.parent])


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


def test_bytes_of_a_record_that_change_never_give_another_score(run: Path, long: bool) -> None:
    file = run / "record.json"
    whole = file.read_bytes()

    def check(changes: list[Edit]) -> None:
        file.write_bytes(edited(whole, changes))
        seen(run)

    fuzz(edits, check, examples=500 if long else 40)


def test_values_of_a_record_that_change_never_give_another_score(run: Path, long: bool) -> None:
    file = run / "record.json"
    whole = file.read_text()
    where = [
        path for path in places(json.loads(whole)) if path and path[0] not in ("arguments", "resolved", "versions")
    ]

    def check(change: tuple[tuple[Any, ...], Any]) -> None:
        content = json.loads(whole)
        (*above, last), value = change
        part = content
        for key in above:
            part = part[key]
        part[last] = value
        file.write_text(json.dumps(content))
        if change[0] != ("scores",):
            seen(run)

    fuzz(st.tuples(st.sampled_from(where), st.sampled_from(VALUES)), check, examples=500 if long else 60)


def test_predictions_that_change_never_give_another_score(run: Path, long: bool) -> None:
    file = run / "predictions.parquet"
    whole = file.read_bytes()

    def check(changes: list[Edit]) -> None:
        file.write_bytes(edited(whole, changes))
        seen(run)

    fuzz(edits, check, examples=500 if long else 40)
