"""Runs at once on one cache: each gives what it gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_lab import LINEAR, Bench


@pytest.mark.parametrize("number", [2, 8])
def test_runs_at_once_on_one_cache_disturb_no_other(clips: Path, tmp_path: Path, number: int, long: bool) -> None:
    alone = Bench(clips, tmp_path / "alone")
    wanted = alone.predictions(alone.run().record)
    for round_ in range(5 if long else 1):
        shared = tmp_path / f"cache {round_}"
        benches = [Bench(clips, tmp_path / f"{round_}.{i}") for i in range(number)]
        ends = [bench.start_run(*LINEAR, "--cache", shared) for bench in benches]
        records = [end().record for end in ends]
        assert all(bench.predictions(record) == wanted for bench, record in zip(benches, records, strict=True))
        again = Bench(clips, tmp_path / f"{round_}.again")
        after = again.run(*LINEAR, "--cache", shared)
        assert after.record["cost"]["cached_clips"] == 24 and "damaged" not in after.err
