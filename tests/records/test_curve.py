"""Score curves: what is written, what a resumed run leaves, and how names and damaged files are met."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support import ROOT

from bench import BenchError
from bench.records.curve import CurvePoint, ScoreCurve, read_curve, write_curve
from bench.report.plots.curve import curve_pictures


def point(step: int, task: str = "digits-motion", score: float = 50.0, **fields: Any) -> CurvePoint:
    place = fields or {"samples": 64 * step}
    return CurvePoint(**place, step=step, task=task, axis="motion", score=score, low=score - 3, high=score + 3)


NOWHERE = CurvePoint.model_construct(
    samples=None, epoch=None, step=3, task="t", axis=None, score=20.0, low=15.0, high=25.0
)


def texts(svg: Path) -> str:
    """What the drawing says: matplotlib notes every text in a comment beside its outlines."""
    ET.parse(svg)  # noqa: S314 - raises where a name has broken the drawing
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.read_text(), re.DOTALL))


def test_the_csv_gives_the_points_back(tmp_path: Path) -> None:
    points = [point(0, score=1 / 3 + 3), point(1, "a,b", epoch=7), NOWHERE.model_copy(update={"epoch": 1})]
    with pytest.raises(ValueError, match="all know their samples, or all their epoch"):
        write_curve(tmp_path, points, curve_pictures, title="mixed")
    assert not list(tmp_path.iterdir())
    write_curve(tmp_path, points[1:], curve_pictures, title="two")
    assert read_curve(tmp_path / "curve.csv") == points[1:]
    assert (tmp_path / "curve.csv").read_text().splitlines()[0] == "samples,epoch,step,task,axis,score,low,high"


def test_the_drawing_names_tasks_axes_chance_and_title(tmp_path: Path) -> None:
    points = [point(step, task) for step in (0, 10) for task in ("push", "pull")]
    write_curve(tmp_path, points, curve_pictures, title="demo, attentive probe", chance={"push": 12.5, "pull": 12.5})
    said = texts(tmp_path / "curve.svg")
    words = ["push (motion)", "pull (motion)", "chance", "demo, attentive probe", "samples seen", "95 % interval"]
    assert [word for word in words if word not in said] == []
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    write_curve(tmp_path, points, curve_pictures, title="demo", chance={"push": 12.5, "pull": 10.0})
    assert "chance, push" in texts(tmp_path / "curve.svg") and "chance, pull" in texts(tmp_path / "curve.svg")


def test_epochs_are_the_axis_where_samples_are_unknown(tmp_path: Path) -> None:
    write_curve(tmp_path, [point(100, epoch=100), point(300, epoch=300)], curve_pictures, title="vitl16")
    said = texts(tmp_path / "curve.svg")
    assert "epochs of pretraining" in said and "samples" not in said


@pytest.mark.parametrize("name", ["$x_1$", r"$\frac{$", "_hidden", "<b>&--></b>", "动作", "x" * 90])
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    write_curve(tmp_path, [point(1, name), point(2, name)], curve_pictures, title=name)
    assert read_curve(tmp_path / "curve.csv")[0].task == name
    said = texts(tmp_path / "curve.svg").split("\n")
    in_comments = html.escape(name[:26], quote=False).replace("--", "- -")
    assert sum(in_comments in line.replace("\u200b", "") for line in said) >= 2  # title and legend


def test_the_same_points_give_the_same_bytes_whatever_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    write_curve(tmp_path / "a", [point(1), point(2)], curve_pictures, title="demo")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    write_curve(tmp_path / "b", [point(1), point(2)], curve_pictures, title="demo")
    for name in ("curve.csv", "curve.svg", "curve.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert matplotlib.rcParams["lines.linewidth"] == 9.0


def test_a_resumed_run_leaves_the_curve_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = ScoreCurve(tmp_path / "whole", resume_step=None, title="demo")
    for step in (10, 20, 30):
        whole.append([point(step), point(step, "digits-appearance")], curve_pictures)
    first = ScoreCurve(tmp_path / "parts", resume_step=None, title="demo")
    for step in (10, 20, 25):
        first.append([point(step), point(step, "digits-appearance")], curve_pictures)
    second = ScoreCurve(tmp_path / "parts", resume_step=20, title="demo")
    second.append([point(30), point(30, "digits-appearance")], curve_pictures)
    for name in ("curve.csv", "curve.svg"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_curve_of_another_run_is_never_overwritten(tmp_path: Path) -> None:
    ScoreCurve(tmp_path, resume_step=None, title="demo").append([point(1)], curve_pictures)
    with pytest.raises(BenchError, match=r"curve\.csv: holds the curve of another run \(1 points\)"):
        ScoreCurve(tmp_path, resume_step=None, title="demo")
    assert ScoreCurve(tmp_path, resume_step=-1, title="demo").points == []


@pytest.mark.parametrize(
    "content",
    [
        "name,price\napple,3\n",
        "samples,epoch,step,task,axis,score,low,high\n64,,1,t,motion,much,1,2\n",
        "samples,epoch,step,task,axis,score,low,high\n64,,1,t\n",
        "samples,epoch,step,task,axis,score,low,high\n64,,1,t,motion,1,1,2,5\n",
        "samples,epoch,step,task,axis,score,low,high\n,,1,t,motion,1,1,2\n",
        "\x00\x01",
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "curve.csv").write_text(content)
    with pytest.raises(BenchError, match=r"curve\.csv: not a"):
        read_curve(tmp_path / "curve.csv")


def test_a_point_needs_a_place_on_the_axis() -> None:
    with pytest.raises(ValidationError, match="neither samples nor epoch"):
        CurvePoint.model_validate(NOWHERE.model_dump())


def test_importing_the_module_does_not_import_matplotlib() -> None:
    code = "import sys, bench.records.curve, bench.analysis.checkpoint_curve; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
