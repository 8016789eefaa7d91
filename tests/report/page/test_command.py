"""`bench report`: one file, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

from report_lab import write_runs
from support import Run, assert_refused


def test_the_report_is_one_file(bench_command: Run, tmp_path: Path) -> None:
    write_runs(tmp_path / "results", {"random": 0.4, "vjepa-nano": 0.8})
    (tmp_path / "results" / "cut").mkdir()
    (tmp_path / "results" / "cut" / "record.json").write_text("{")
    choice = ("--task", "digits-motion", "--model", "r*,vjepa*", "--reference", "random", "--published", "--strict")
    output = tmp_path / "new" / "report.html"
    done = bench_command("report", "-o", output, "--results", tmp_path / "results", *choice)
    assert done.returncode == 2
    assert "cut/record.json: not a readable record" in done.stderr
    assert done.stdout.startswith(f"{output}: 2 models, 2 runs, ")
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    page = output.read_text(encoding="utf-8")
    assert "difference from random" in page and "digits-appearance" not in page


def test_what_cannot_be_done_is_said_in_one_line(bench_command: Run, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    assert_refused(bench_command("report", "--results", results), "no records yet", "bench run")
    assert_refused(bench_command("report", "--results", tmp_path / "none"), "no such folder")
    write_runs(results, {"random": 0.4})
    report = ("report", "--results", results)
    assert_refused(bench_command(*report, "-o", results), "is a folder", "-o")
    (tmp_path / "file").touch()
    assert_refused(bench_command(*report, "-o", tmp_path / "file" / "x.html"), "cannot write here", "-o")
    assert_refused(bench_command(*report, "--model", "vjepa*"), "no record of model 'vjepa*'")
