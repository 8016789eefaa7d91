"""Several processes under torchrun: the record of one process, and one line for whatever fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from ava_standin import ava_standin
from safetensors.torch import load_file
from support import ROOT
from worlds import Ended, disk_full_while_encoding, killed_while_encoding, run_world

from bench.records.schema import Record, read_record

pytestmark = pytest.mark.slow

SHORT = [
    word
    for pair in ("min_steps=20", "epochs=1", "lr=[0.01,0.001]", "weight_decay=0.01")
    for word in ("--set", f"probe.{pair}")
]
MODELS = ["--model", "random,pixels,slow-nano"]


def arguments(data: Path, *more: str, cache: str = "cache") -> list[str]:
    """A run on the tiny task, with everything in the folder that it is started in."""
    return [
        "run",
        "--task",
        "custom",
        "--data",
        str(data),
        "--cache",
        cache,
        "--device",
        "cpu",
        "--workers",
        "0",
        "--max-failed",
        "0.2",
        *more,
    ]


def run(folder: Path, size: int, given: list[str]) -> dict[tuple[str, int], Record]:
    """The records of so many processes by model and seed; only the first says anything."""
    ended = run_world(folder, *[given] * size)
    assert [one.code for one in ended] == [0] * size, ended
    assert ended[0].out and all(one.out == one.err == "" for one in ended[1:])
    records = [read_record(path) for path in (folder / "results").glob("*/record.json")]
    return {(record.model, record.seed): record for record in records}


def predictions(folder: Path, record: Record) -> pd.DataFrame:
    """Of boxes, what was said of each."""
    (path,) = (folder / "results" / record.run_id).glob("[dp]*tions.parquet")
    return pd.read_parquet(path)


def assert_same(
    one: Path, ours: dict[tuple[str, int], Record], other: Path, theirs: dict[tuple[str, int], Record]
) -> None:
    assert ours.keys() == theirs.keys()
    for key, a in ours.items():
        b = theirs[key]
        assert (a.scores, a.heads, a.failures, a.digests, a.num_train) == (
            b.scores,
            b.heads,
            b.failures,
            b.digests,
            b.num_train,
        )
        pd.testing.assert_frame_equal(predictions(one, a), predictions(other, b), check_exact=True)
        files = [folder / "results" / r.run_id / "probe.safetensors" for folder, r in ((one, a), (other, b))]
        assert files[0].is_file() == files[1].is_file()
        weights = [load_file(file) if file.is_file() else {} for file in files]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.fixture
def one_damaged(bright_and_dark: Path) -> Path:
    """The tiny task with a training video that cannot be read."""
    (bright_and_dark / "clips" / "train_5.mp4").write_bytes(b"no video")
    return bright_and_dark


def test_the_records_do_not_depend_on_the_number_of_processes(one_damaged: Path, tmp_path: Path) -> None:
    given = arguments(one_damaged, *MODELS, *SHORT)
    alone = run(tmp_path / "1", 1, given)
    assert len(alone) == 3 and "processes" not in alone["random", 0].hardware
    for size in (2, 3):
        shared = run(tmp_path / str(size), size, given)
        assert_same(tmp_path / "1", alone, tmp_path / str(size), shared)
        for key, record in shared.items():
            assert record.cost.encoder_clips == alone[key].cost.encoder_clips == 23 + 12
            assert record.hardware["processes"] == size and not record.cost.cached_probe


def test_what_is_in_the_cache_is_not_encoded_again(one_damaged: Path, tmp_path: Path) -> None:
    given = arguments(one_damaged, "--model", "random", *SHORT)
    first = run(tmp_path / "a", 2, given)["random", 0]
    indices = sorted((tmp_path / "a" / "cache" / "features").glob("*/*.npy"))
    assert len(indices) == 4  # two processes, two splits
    indices[0].write_bytes(b"damaged")
    (tmp_path / "a" / "results").rename(tmp_path / "before")
    again = run(tmp_path / "a", 3, given)["random", 0]
    assert again.cost.encoder_clips in (6, 11, 12) and again.cost.encoder_clips + again.cost.cached_clips == 35
    assert again.cost.cached_probe and again.scores == first.scores
    pd.testing.assert_frame_equal(
        predictions(tmp_path / "a", again), pd.read_parquet(tmp_path / "before" / first.run_id / "predictions.parquet")
    )


@pytest.mark.parametrize("probe", ["knn", "vjepa1-paper"])
def test_other_recipes_give_the_same_too(one_damaged: Path, tmp_path: Path, probe: str) -> None:
    """Neighbours are not kept in the cache, and the paper's recipe streams its training clips."""
    short = ["--set", "probe.neighbours=[1,3]"] if probe == "knn" else ["--set", "probe.epochs=2"]
    given = arguments(one_damaged, "--model", "random,pixels", "--probe", probe, *short)
    records = [run(tmp_path / str(size), size, given) for size in (1, 2)]
    assert_same(tmp_path / "1", records[0], tmp_path / "2", records[1])


def assert_one_line(ended: list[Ended], *words: str) -> None:
    lines = [line for one in ended for line in one.lines]
    assert len(lines) == 1, ended
    assert all(word in lines[0] for word in words), lines
    assert not any("Traceback" in one.err for one in ended), ended


def test_a_process_that_fails_ends_all_with_one_line(bright_and_dark: Path, tmp_path: Path) -> None:
    given = arguments(bright_and_dark, "--model", "random", *SHORT)
    ended = run_world(tmp_path / "a", given, given, given, fault=disk_full_while_encoding)
    assert [one.code for one in ended] == [2, 2, 2]
    assert_one_line(ended, "No space left on device")
    assert not list((tmp_path / "a").glob("results/*/record.json"))


def test_a_process_that_is_killed_does_not_hang_the_others(bright_and_dark: Path, tmp_path: Path) -> None:
    given = arguments(bright_and_dark, "--model", "random", *SHORT)
    ended = run_world(tmp_path / "a", given, given, fault=killed_while_encoding)
    assert [one.code for one in ended] == [2, -9]
    assert_one_line(ended, "another process of this run has ended")
    rest = run(tmp_path / "a", 2, given)["random", 0]
    # Its part of the training split was lost; the test split had not begun.
    assert (rest.cost.encoder_clips, rest.cost.cached_clips) == (24, 12)


def test_what_the_processes_must_share_is_checked(bright_and_dark: Path, tmp_path: Path) -> None:
    given = arguments(bright_and_dark, "--model", "random")
    fewer = [*given, "--limit", "4"]
    ended = run_world(tmp_path / "a", given, fewer)
    assert [one.code for one in ended] == [2, 2]
    assert_one_line(ended, "do not see the same samples")
    elsewhere = arguments(bright_and_dark, "--model", "random", cache="elsewhere")
    ended = run_world(tmp_path / "a", given, elsewhere)
    assert_one_line(ended, "process 1 does not see what process 0 writes", "--cache")


def test_key_frames_are_divided_too(tmp_path: Path) -> None:
    data = ava_standin(tmp_path / "ava", train=4, test=2)
    given = ["run", "--task", "ava", "--data", str(data), "--model", "random", "--cache", "cache", "--device", "cpu"]
    given += ["--workers", "0", *SHORT, "--set", "clip.starts_s=900", "--set", "clip.resolution=16"]
    records = [run(tmp_path / str(size), size, given) for size in (1, 2)]
    assert_same(tmp_path / "1", records[0], tmp_path / "2", records[1])
    assert records[1]["random", 0].hardware["processes"] == 2


def test_torchrun_starts_them(bright_and_dark: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "bench"]
    command += arguments(bright_and_dark, "--model", "pixels", "--probe", "knn", "--set", "probe.neighbours=[1,3]")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pixels") == 1
    (path,) = (tmp_path / "results").glob("*/record.json")
    assert read_record(path).hardware["processes"] == 2
