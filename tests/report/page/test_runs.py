"""`bench report`: one file, or one line that says why not; and the commands that run its runs again."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from report_lab import write_runs
from support import Run, assert_refused

from bench.cli.app import app
from bench.cli.options import parse_settings
from bench.report.page.runs import DEFAULTS, command
from bench.tasks.options import RunOptions, make_options


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


_OF_THE_MACHINE = {"cache", "results", "workers"}


def understood(line: str) -> dict[str, Any]:
    """What `bench run` takes a command for."""
    program, name, *words = shlex.split(line)
    assert (program, name) == ("bench", "run")
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    given = run.make_context("run", words).params
    (given["task"],), (given["model"],) = given["task"], given["model"]
    given["settings"] = parse_settings(list(given["settings"] or []))
    return {field.name: given[field.name] for field in fields(RunOptions)}


@pytest.mark.parametrize(
    "given",
    [
        {"task": "digits-motion", "model": "random"},
        {
            "task": "ssv2",
            "model": "a b/vit'l$(rm -rf x).pth",
            "data": "/data/s s",
            "limit": 7,
            "seed": 3,
            "timeout_s": 5,
        },
        {"task": "custom", "model": "random", "name": "-x; echo", "axis": "motion", "train": "a.csv", "val": "b.csv"},
        {
            "task": "ssv2",
            "model": "random",
            "settings": {"probe.lr": [1e-3, 0.01], "clip.step": 2, "a": "b c", "d": "{"},
        },
        {"task": "ssv2", "model": "random", "settings": {"probe.title": "yes", "clip.short_side": None, "x": True}},
        {"task": "ssv2", "model": "random", "cache": "/c", "results": "/r", "workers": 3, "max_failed": 0.5},
    ],
)
def test_the_command_asks_for_what_the_record_holds(given: dict[str, Any]) -> None:
    options = make_options(given)
    recorded = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    again = asdict(make_options(understood(command(recorded))))
    assert {k: v for k, v in again.items() if k not in _OF_THE_MACHINE} == {
        k: v for k, v in asdict(options).items() if k not in _OF_THE_MACHINE
    }


def test_what_is_left_out_is_what_bench_run_does_by_itself() -> None:
    own = {}
    for field in fields(RunOptions):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        empty = default is None or default is False or default in ({}, (), [])
        if field.name not in (*_OF_THE_MACHINE, "task", "model", "probe") and not empty:
            own[field.name] = default
    assert own == DEFAULTS


def test_a_record_without_arguments_has_no_command() -> None:
    assert command({}) == ""
