"""Folders that may be read and not written: one line that names the folder, and what is there stays as it is."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_lab import Bench


def give_up_root() -> None:
    """What root may do beyond its own files' modes, it may no longer."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, nothing) == 0


@pytest.fixture
def frozen(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of a finished run, read-only for the time of the test."""
    bench.run()
    folder = bench.home / str(request.param)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize("frozen", ["cache", "results"], indirect=True)
def test_a_read_only_folder_is_named_before_anything_is_done(bench: Bench, frozen: Path) -> None:
    line = bench.run(fault=give_up_root).line
    assert frozen.name in line and "cannot write here" in line and f"--{frozen.name}" in line
    assert len(bench.results) == 1


@pytest.mark.parametrize("frozen", ["cache/probes"], indirect=True)
def test_a_part_of_the_cache_that_cannot_be_written_is_named(bench: Bench, frozen: Path) -> None:
    line = bench.run("--seed", 4, fault=give_up_root).line
    assert "cache/probes" in line and "Permission denied" in line and len(bench.results) == 1


@pytest.mark.parametrize("frozen", ["cache"], indirect=True)
def test_tables_are_shown_all_the_same(bench: Bench, frozen: Path) -> None:
    shown = bench.start("leaderboard", "--results", "results", fault=give_up_root)()
    assert shown.code == 0 and "random" in shown.out
