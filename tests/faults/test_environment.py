"""A shell that allows little, streams that lead nowhere, names that would steer a terminal: one true line."""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_lab import Bench

ESCAPES = "\x1b[2J\n::error::forged"


@dataclass(frozen=True)
class Limited:
    """At most so much of a resource for the process."""

    kind: int
    most: int

    def __call__(self) -> None:
        resource.setrlimit(self.kind, (self.most, self.most))


@dataclass(frozen=True)
class Leading:
    """A stream of the process leads to a file, or to a pipe without a reader."""

    name: str
    place: str

    def __call__(self) -> None:
        if self.place == "nowhere":
            reader, writer = os.pipe()
            os.close(reader)
        else:
            writer = os.open(self.place, os.O_WRONLY)
        setattr(sys, self.name, os.fdopen(writer, "w"))


def test_too_few_open_files_are_said_to_be_just_that(bench: Bench) -> None:
    line = bench.start(
        *("extract", "--task", "custom", "--data", bench.data, "--model", "random", "--workers", 12),
        fault=Limited(resource.RLIMIT_NOFILE, 30),
    )().line
    assert "too many open files - raise the limit" in line and "--cache" not in line


@pytest.mark.parametrize(
    ("place", "reason"), [("/dev/full", "No space left on device"), ("nowhere", "its reader has ended")]
)
@pytest.mark.parametrize("command", [("tasks", "--json"), ("models",), ("tasks", "--help")])
def test_output_that_goes_nowhere_is_one_line(bench: Bench, command: tuple[str, ...], place: str, reason: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    line = bench.start(*command, fault=Leading("stdout", place))().line
    assert f"stdout: the output could not be written ({reason})" in line


@pytest.mark.parametrize("place", ["/dev/full", "nowhere"])
def test_a_run_does_not_need_anyone_to_tell(bench: Bench, place: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert bench.start_run(fault=Leading("stderr", place))().code == 0
    assert len(bench.results) == 1


def test_names_of_folders_and_records_steer_nothing(bench: Bench) -> None:
    record = bench.run().record
    folder = bench.home / "results" / record["run_id"]
    (folder / "record.json").write_text(json.dumps({**record, "model": f"={ESCAPES}", "notes": [ESCAPES]}))
    strange = folder.with_name(f"20260101-{ESCAPES}")
    strange.mkdir()
    (strange / "record.json").write_text("{")
    for form in ("table", "csv", "json", "markdown", "latex", "html"):
        shown = bench.start("leaderboard", "--format", form)()
        text = shown.out + shown.err
        assert shown.code == 0 and "forged" in text, form
        assert all(letter.isprintable() or letter == "\n" for letter in text), form
        assert "::error" not in text, form
