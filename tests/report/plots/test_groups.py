"""Tasks of every group, and of none, have their place in plots of all tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import made_run

from bench.analysis.select import read_evidence
from bench.records.curve import CurvePoint, write_curve
from bench.report.plots import Plot, draw
from bench.report.plots.curve import curve_pictures

GROUPS = {"a-look": "appearance", "b-next": "anticipation", "c-other": None, "d-move": "motion"}
ORDER = ["d-move", "a-look", "b-next", "c-other"]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model on a task of each group, and its curve."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for task, axis in GROUPS.items():
        made_run(tmp_path / "results", "m", task, 0.5, axis=axis)
    points = [
        CurvePoint(samples=1, task=task, axis=axis, score=50.0, low=45.0, high=55.0)  # type: ignore[arg-type]
        for task, axis in GROUPS.items()
    ]
    write_curve(tmp_path / "results" / "curves" / "m-attentive", points, curve_pictures, title="m")
    return tmp_path / "results"


def drawn(kind: str, results: Path) -> list[Plot]:
    return draw(kind, read_evidence([results])[0])


def test_bars_of_each_group_have_a_colour_of_their_own(results: Path) -> None:
    plots = drawn("bars", results)
    assert [next(task for task in GROUPS if task in plot.title) for plot in plots] == ORDER
    assert len({plot.figure.axes[0].patches[0].get_facecolor() for plot in plots}) == len(GROUPS)


def test_lines_of_a_curve_are_in_the_order_of_the_groups(results: Path) -> None:
    (plot,) = drawn("curve", results)
    labels = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert [label.partition(" ")[0] for label in labels if label.partition(" ")[0] in GROUPS] == ORDER


def test_motion_against_appearance_holds_nothing_that_is_foreseen(results: Path) -> None:
    (plot,) = drawn("scatter", results)
    assert "d-move" in plot.caption and "a-look" in plot.caption and "b-next" not in plot.caption
