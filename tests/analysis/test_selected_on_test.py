"""Scores that were chosen on the test split stand in a column of their own, and nothing is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import BenchError
from bench.analysis.board import Leaderboard
from bench.analysis.compare import compare
from bench.analysis.gate import check, renew
from bench.analysis.select import Choice, Evidence, load_board
from bench.analysis.sheet import lay_out
from bench.records.baseline import read_baseline
from bench.records.runs import load_runs
from bench.records.schema import read_record
from bench.report.export import to_json
from bench.report.page.page import overview
from bench.report.plots import scatter

PAPER = {"probe": "vjepa2-paper", "protocol": "vjepa2-paper/3 2x3 random", "selected_on_test": True}
HONEST = {"probe": "vjepa2", "protocol": "vjepa2/1 2x3 random"}
GOOD, POOR = np.arange(200) < 180, np.arange(200) < 90


@pytest.fixture
def results(make_run, tmp_path: Path) -> Path:
    """By the honest choice `b` is far ahead; by the paper's `a` is."""
    for task, axis in (("one", "motion"), ("two", "motion"), ("three", "appearance")):
        for model, honest, paper in (("a", POOR, GOOD), ("b", GOOD, POOR)):
            digests = {"encoder": model * 16}
            make_run(honest, task=task, axis=axis, model=model, digests=digests, **HONEST)
            make_run(paper, task=task, axis=axis, model=model, digests=digests, **PAPER)
    return tmp_path / "results"


@pytest.fixture
def board(results: Path) -> Leaderboard:
    found, problems = load_board([results])
    assert not problems
    return found


def test_they_have_a_column_of_their_own_that_says_so(board: Leaderboard) -> None:
    headings = [column.heading for column in lay_out(board).columns if column.probe == "vjepa2-paper"]
    assert len(headings) == 3 and all("selected on test" in heading for heading in headings)
    assert {column.selected_on_test for column in board.columns if column.probe == "vjepa2"} == {False}


def test_they_are_not_ranked_nor_marked_as_best(board: Leaderboard) -> None:
    for column in board.columns:
        ranks = {row.cells[column].rank for row in board.rows}
        assert ranks == ({None} if column.selected_on_test else {1, 2})
    for printed in lay_out(board).columns:
        if printed.probe == "vjepa2-paper":
            assert not any(entry.best for entry in printed.entries)
    assert not any("no rank" in note.text for note in board.footnotes)


def test_they_are_not_averaged(board: Leaderboard) -> None:
    assert {mean.probe for mean in board.means} == {"vjepa2"}


def test_rows_are_not_ordered_by_them(board: Leaderboard, results: Path) -> None:
    assert [row.label for row in board.rows] == ["b", "a"]
    for sort in ("motion", "one", "one/vjepa2"):
        assert [row.label for row in load_board([results], choice=Choice(sort=sort))[0].rows] == ["b", "a"]
    with pytest.raises(BenchError, match="selected on test"):
        load_board([results], choice=Choice(sort="one/vjepa2-paper"))


def test_a_board_of_nothing_else_is_in_order_of_names(results: Path) -> None:
    found, _ = load_board([results], choice=Choice(probes=["vjepa2-paper"]))
    assert [row.label for row in found.rows] == ["a", "b"]


def test_a_reference_gives_them_no_difference(results: Path) -> None:
    found, _ = load_board([results], choice=Choice(reference="a"))
    (other,) = (row for row in found.rows if row.label == "b")
    assert all((cell.difference is None) == column.selected_on_test for column, cell in other.cells.items())


def test_programs_see_it(board: Leaderboard) -> None:
    rows = json.loads(to_json(board))
    assert {(row["probe"], row["selected_on_test"]) for row in rows} == {("vjepa2", False), ("vjepa2-paper", True)}


def test_no_lead_is_made_of_them_and_no_point_of_the_plot(board: Leaderboard, results: Path) -> None:
    evidence = [Evidence(read_record(path), path.parent) for path in sorted(results.glob("*/record.json"))]
    material = SimpleNamespace(board=board, evidence={item.record.run_id: item for item in evidence}, problems=[])
    assert {lead.model for lead in overview(material).leads} == {"b"}  # type: ignore[arg-type]
    assert [plot.title for plot in scatter.draw_scatter(evidence)] == ["Motion against appearance, vjepa2 probe"]


def test_the_gate_leaves_them_out_and_says_so(results: Path, tmp_path: Path) -> None:
    runs, _ = load_runs([results])
    baseline = tmp_path / "baseline.json"
    assert len(renew(baseline, runs)) == 6
    known = read_baseline(baseline)
    assert {row.probe for row in known.rows} == {"vjepa2"}
    found = check(known, runs)
    assert found.status == "pass" and len(found.tasks) == 6
    (note,) = (note for note in found.notes if "selected on test" in note)
    assert note.startswith("not gated") and "a on one" in note
    assert not any("not in the baseline" in note for note in found.notes)


def test_a_folder_of_nothing_else_makes_no_baseline(make_run, tmp_path: Path) -> None:
    make_run(GOOD, **PAPER)
    with pytest.raises(BenchError, match="no readable record to make a baseline of"):
        renew(tmp_path / "baseline.json", load_runs([tmp_path / "results"])[0])


def test_a_comparison_says_so(make_run, results: Path) -> None:
    paths = {
        record.model: path
        for path in results.glob("*/record.json")
        if (record := read_record(path)).task == "one" and record.selected_on_test
    }
    found = compare(str(paths["a"].parent), str(paths["b"].parent), [results])
    assert any(note.startswith("selected on test") for note in found.notes)
