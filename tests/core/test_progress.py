"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.core import progress
from bench.core.progress import Live


def test_a_terminal_sees_a_bar_with_counts() -> None:
    stream = io.StringIO()
    with Live(Console(file=stream, force_terminal=True, width=100)) as live:
        live.stage("encoding [train] clips", 5, 10)
        live.stage("encoding [train] clips", 10, 10)
        live.say("a line [with brackets]")
    shown = stream.getvalue()
    assert "encoding [train] clips" in shown and "10/10" in shown and "a line [with brackets]" in shown


def test_a_file_sees_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with Live(Console(file=stream, width=100)) as live:
        for done in range(10):
            live.stage("encoding", done, 10)
        live.say("finished")
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "finished" and 2 <= len(lines) <= 4
    assert all(line.startswith("encoding: ") for line in lines[:-1])
    assert "\x1b" not in stream.getvalue()


def test_plain_lines_say_how_long_it_takes_from_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Live(Console(file=stream, width=100)) as live:
        live.stage("fetching", 50, 100, "1 MiB/s")
        live.stage("fetching", 60, 100, "1 MiB/s")
    assert stream.getvalue() == "fetching: 60 of 100, 0:06:40 left, 1 MiB/s\n"
