"""Bytes that change on the disk: noticed, named, and made anew; the predictions stay what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_lab import Bench

Damage = Callable[[Path], None]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def exchange_two_items(path: Path) -> None:
    """The tokens are whole and their checksum is right; the names of two of them are exchanged."""
    index = json.loads(path.read_text())
    index["items"][:2] = index["items"][1::-1]
    path.write_text(json.dumps(index))


def never_end(path: Path) -> None:
    path.write_text("[" * 9999)


def largest(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [("*.npy", flip_a_bit), ("[!s]*.json", exchange_two_items), ("[!s]*.json", never_end)],
    ids=["shard", "index with exchanged items", "index without end"],
)  # fmt: skip
def test_damaged_features_are_named_and_encoded_again(bench: Bench, pattern: str, damage: Damage) -> None:
    intact = bench.run().record
    damage(largest(bench.home / "cache" / "features", pattern))
    again = bench.run()
    assert "damaged shard" in again.err and again.record["cost"]["encoder_clips"] == 16
    assert bench.predictions(again.record) == bench.predictions(intact)


def test_whatever_else_in_the_cache_is_damaged_is_made_anew(bench: Bench) -> None:
    intact = bench.run().record
    derived = [path for path in (bench.home / "cache").rglob("*") if path.is_file() and path.suffix != ".npy"]
    assert {"space.json", "contents.sqlite"} < {path.name for path in derived}
    for path in derived:
        path.write_bytes(b"\0" * 3000)
    again = bench.run().record
    assert bench.predictions(again) == bench.predictions(intact)
    assert json.loads(next((bench.home / "cache").rglob("space.json")).read_text())["protocol_version"] == 1


def test_a_damaged_record_is_named_and_no_other_run_suffers(bench: Bench) -> None:
    bench.run()
    kept, spoilt = bench.run("--name", "other").record, bench.results[0] / "record.json"
    spoilt.write_text(spoilt.read_text().replace('"correct":', '"corrupt":'))
    shown = bench.start("leaderboard", "--results", "results", "--format", "json")()
    assert str(spoilt.relative_to(bench.home)) in shown.err and "Traceback" not in shown.err
    assert kept["run_id"] in shown.out or "random" in shown.out
