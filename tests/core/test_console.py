"""What reaches a terminal, and what is said where nothing can reach it."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest
from rich.text import Text

import bench
from bench.cli.printing import print_list, table
from bench.core import console
from bench.core.errors import BenchError
from bench.core.progress import Live

ESCAPES = "a\x1b]0;owned\x07\x9b2J\n::error::x [red]b[/red] :smile: ##vso[c]"
PLAIN = "a�]0;owned��2J�: :error: :x [red]b[/red] :smile: ## vso[c]"


def test_lines_and_tables_show_text_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(ESCAPES)
    console.show(table([{"name": ESCAPES}]))
    console.show(Text(ESCAPES.replace("\n", "")))
    console.tell(ESCAPES)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [lines[0], lines[2].rstrip()] == [PLAIN] * 2
    assert lines[3].isprintable() and lines[3].endswith(": :error: :x [red]b[/red] :smile: ## vso[c]")
    assert shown.err == f"bench: {PLAIN.replace('�: :', ' : :')}\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_plain_and_steers_the_terminal_itself_alone(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("bench.core.progress.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setenv("COLUMNS", "200")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    with Live() as live:
        for done in range(3):
            live.stage(ESCAPES, done, 2, detail=ESCAPES)
        live.say(ESCAPES)
    shown = capsys.readouterr().err
    assert "owned" in shown and not any(part in shown for part in ("\x1b]0", "\x07", "\x9b", "::error", "##vso["))
    assert ("\x1b" in shown) is terminal


@pytest.mark.parametrize(
    ("said", "width"),
    [
        ("", 80), ("0", 80), ("000", 80), ("-5", 80), ("wide", 80), ("1e3", 80), ("²", 80), ("٣", 80), ("120 ", 80),
        ("1", 40), ("39", 40), ("100", 100), ("0100", 100), ("99999", 10_000), ("9" * 50, 10_000),
    ],
)  # fmt: skip
def test_tables_have_a_width_whatever_the_environment_says(
    said: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", said)
    monkeypatch.setenv("LINES", said)
    assert console.console().width == width
    print_list([{"name": "x " * 3000, "value": -1}], [], as_json=False)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


class Broken:
    """A stream that cannot be written to."""

    encoding, errors, closed = "utf-8", "strict", False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        return False


FAILURES = {
    "full": (OSError(28, "No space left on device"), "No space left on device"),
    "left": (BrokenPipeError(32, "Broken pipe"), "its reader has ended"),
}


@pytest.mark.parametrize(("error", "reason"), FAILURES.values(), ids=FAILURES)
def test_output_that_goes_nowhere_is_said_to_be_just_that(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(error))
    for write in (console.say, console.show, console.write, console.print_json):
        with pytest.raises(BenchError, match=rf"stdout: the output could not be written \(.*{reason}"):
            write("x")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_output_without_a_stdout_is_an_error(stream: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", stream and closed)
    with pytest.raises(BenchError, match="it is closed"):
        console.say("x")


@pytest.mark.parametrize("error", [None, *(error for error, _ in FAILURES.values())])
def test_nobody_is_told_where_nobody_listens(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", error and Broken(error))
        console.tell("told")
        with Live() as live:
            live.stage("encoding", 1, 2)
            live.say("said")
    console.tell("told again")
    assert capsys.readouterr() == ("", "bench: told again\n")


def test_nothing_is_printed_past_the_console() -> None:
    folder = Path(bench.__file__).parent
    named = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "Console")
    }
    assert named == {"console.py"}
