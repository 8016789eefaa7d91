"""A clock that was set back: runs are kept apart, and the record says that a later one was there already."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from fault_lab import Bench

from bench.core.files import atomic_folder, write_mark
from bench.pipeline import record as recording
from bench.pipeline.record import notes_on_clock


class Yesterday(datetime):
    """A clock that is a day behind."""

    @classmethod
    def now(cls, tz: object = None) -> Yesterday:
        return cls.fromtimestamp(datetime.now(timezone.utc).timestamp() - 86400, timezone.utc)


def set_back() -> None:
    recording.datetime = Yesterday  # type: ignore[misc]


def test_a_run_under_a_clock_that_was_set_back_is_kept_and_says_so(bench: Bench) -> None:
    first = bench.run().record
    second = bench.run(fault=set_back).record
    assert second["created"] < first["created"] and len(bench.results) == 2
    assert first["notes"] == [] and f"before {first['run_id']}" in second["notes"][-1]
    assert bench.predictions(first) == bench.predictions(second)


def test_clocks_of_machines_that_differ_by_seconds_mean_nothing(tmp_path: Path) -> None:
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)
    for seconds, name in ((30, "a"), (-86400, "b")):
        folder = tmp_path / f"{now + timedelta(seconds=seconds):%Y%m%d-%H%M%S}-{name}"
        folder.mkdir()
        (folder / "record.json").touch()
    assert notes_on_clock(tmp_path, now) == []


def test_files_from_the_future_are_nobodys_remains(tmp_path: Path) -> None:
    part = tmp_path / ".other.1234.part"
    part.mkdir()
    write_mark(part)
    with atomic_folder(tmp_path / "new"):
        pass
    assert part.is_dir() and (tmp_path / "new").is_dir()
