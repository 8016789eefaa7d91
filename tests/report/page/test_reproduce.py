"""The command of a record asks for the run that the record tells of."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from bench.pipeline.options import RunOptions, make_options

from bench.cli.app import app
from bench.cli.options import parse_settings
from bench.report.page.reproduce import DEFAULTS, command

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
