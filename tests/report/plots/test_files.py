"""Plots as files and as parts of a page, and the command that writes them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from made_results import made_results, made_run
from support import Run, assert_refused

from bench.analysis.select import read_evidence
from bench.core.errors import BenchError
from bench.report.plots import KINDS, draw

HOSTILE = ("<script>alert(1)</script>", "$x_1$ \\frac{", "_hidden", "动作", 'id="x" #1b1b1d', "x" * 150, "a\x07b")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of records is kept in a cache of the test's own."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_the_same_records_give_the_same_bytes_whatever_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    evidence, _ = read_evidence([made_results(tmp_path, models=2)], tasks=["made-motion"])
    kinds = ("bars", "confusion")
    first = [(plot.png(), plot.svg(), plot.svg(themed=True)) for kind in kinds for plot in draw(kind, evidence)]
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    second = [(plot.png(), plot.svg(), plot.svg(themed=True)) for kind in kinds for plot in draw(kind, evidence[::-1])]
    assert first == second


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_nothing_else(tmp_path: Path, name: str) -> None:
    made_run(tmp_path, name, "made-motion", 0.5)
    made_run(tmp_path, name, "made-appearance", 0.5)
    evidence, _ = read_evidence([tmp_path])
    for kind in ("scatter", "bars"):
        themed = ET.fromstring(draw(kind, evidence)[0].svg(themed=True))  # noqa: S314
        said = "".join(element.text or "" for element in themed.iter("{http://www.w3.org/2000/svg}text"))
        assert name[:20].replace("\x07", "\ufffd") in said.replace("\u200b", ""), kind
        assert not list(themed.iter("script"))


def test_a_themed_drawing_takes_the_colour_of_its_page_and_keeps_its_ids_to_itself(tmp_path: Path) -> None:
    evidence, _ = read_evidence([made_results(tmp_path, models=2)])
    plots = [draw(kind, evidence)[0] for kind in KINDS] + draw("bars", evidence)[1:]
    ids: list[str] = []
    for plot in plots:
        drawn = plot.svg(themed=True)
        root = ET.fromstring(drawn)  # noqa: S314
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        used = re.findall(r'(?:url\(#|href="#)([^)"]+)', drawn)
        assert used and set(used) <= set(own), plot.name
        assert ":href" not in drawn  # a prefix of its own is no link in a page
        ids += own
        assert "currentColor" in drawn and "#1b1b1d" not in drawn and "<style" not in drawn
        assert drawn.startswith("<svg") and root.attrib["aria-label"] == plot.title
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", drawn)
        assert plot.title in " ".join(" ".join(text.get_text().split()) for text in plot.figure.texts)
    assert len(ids) == len(set(ids))
    # The title is the page's to say.
    assert "Motion against appearance" not in re.sub(r'aria-label="[^"]*"', "", plots[0].svg(themed=True))


def test_files_hold_their_caption(tmp_path: Path) -> None:
    evidence, _ = read_evidence([made_results(tmp_path, models=2)])
    (plot,) = draw("scatter", evidence)
    assert "95 % intervals for the test samples" in plot.svg()
    assert b"95 % intervals for the test samples" in plot.png()


def test_evidence_is_what_the_leaderboard_would_show(tmp_path: Path) -> None:
    made_run(tmp_path, "a", "made-motion", 0.4)
    new = made_run(tmp_path, "a", "made-motion", 0.6)
    made_run(tmp_path, "a", "made-motion", 0.6, seed=1)
    made_run(tmp_path, "b", "made-appearance", 0.6, probe="linear", protocol="linear/1 1x1 center")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{")
    (tmp_path / "curves" / "x").mkdir(parents=True)
    (tmp_path / "curves" / "x" / "curve.csv").write_text("nothing")
    evidence, problems = read_evidence([tmp_path])
    assert len(evidence) == 3 and new in [run.folder for run in evidence]
    assert [problem.where for problem in problems] == [
        str(tmp_path / "broken" / "record.json"),
        str(tmp_path / "curves" / "x" / "curve.csv"),
    ]
    assert [run.record.model for run in read_evidence([tmp_path], models=["b*"])[0]] == ["b"]
    assert [run.record.seed for run in read_evidence([tmp_path], tasks=["made-motion"], probes=["att*"])[0]] == [0, 1]
    with pytest.raises(BenchError, match="no record of task 'made-motoin'"):
        read_evidence([tmp_path], tasks=["made-motoin"])


def test_the_command_numbers_files_where_there_are_several(bench_command: Run, tmp_path: Path) -> None:
    made_results(tmp_path / "results", models=2)
    done = bench_command("plot", "scatter", "-o", "out/both.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ET.parse(tmp_path / "out" / "both.svg")  # noqa: S314
    assert "both.svg: Motion against appearance" in done.stdout and "95 % intervals" in done.stdout
    done = bench_command("plot", "bars", "-o", "bars.PNG", "--results", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("bars*")) == ["bars-1.PNG", "bars-2.PNG"]
    assert (tmp_path / "bars-1.PNG").read_bytes().startswith(b"\x89PNG")
    one = bench_command("plot", "bars", "-o", "one.png", "--task", "made-motion", "--model", "model-1", cwd=tmp_path)
    assert one.returncode == 0 and (tmp_path / "one.png").is_file()


def test_what_cannot_be_drawn_is_refused_in_one_line(bench_command: Run, tmp_path: Path) -> None:
    made_run(tmp_path / "results", "a", "made-motion", 0.5, evidence=False)
    (tmp_path / "empty").mkdir()
    cases = {
        ("scater", "-o", "x.svg"): ("no plot is called 'scater'", "did you mean 'scatter'"),
        ("scatter", "-o", "x.pdf"): ("-o x.pdf", "'.pdf' cannot be written", ".svg or .png"),
        ("scatter", "-o", "x.svg", "--results", "empty"): ("no records yet",),
        ("scatter", "-o", "x.svg", "--results", "gone"): ("no such folder",),
        ("controls", "-o", "x.svg"): ("the records hold nothing for the plot 'controls'", "--controls"),
        ("bars", "-o", "x.svg", "--task", "made-moton"): ("no record of task 'made-moton'",),
    }
    for arguments, words in cases.items():
        assert_refused(bench_command("plot", *arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.glob("x*"))
