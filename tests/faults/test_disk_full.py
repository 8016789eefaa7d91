"""A disk that is full from one stage of a run on: one line, nothing half written, and the same command goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_lab import Bench, FullAt


@pytest.fixture(scope="module")
def undisturbed(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    bench = Bench(clips, tmp_path_factory.mktemp("undisturbed"))
    return bench.predictions(bench.run().record)


@pytest.mark.parametrize("stage", ["hashing", "extraction", "training", "recording"])
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(bench: Bench, undisturbed: bytes, stage: str) -> None:
    full = bench.run(fault=FullAt(stage, 1200))
    assert "--cache" in full.line and not bench.results
    assert not [path for path in bench.home.rglob("*") if path.suffix == ".part" or path.name.startswith(".run.")]
    record = bench.run().record
    assert bench.predictions(record) == undisturbed
    assert (record["cost"]["cached_clips"] == 24) == (stage in ("training", "recording"))
