"""Decoding processes that are killed, and decoders that hang or crash, in the middle of a run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from fault_lab import LINEAR, Bench

from bench.core import workers
from bench.video import loader


def kill_the_first_reader() -> None:
    """The worker that comes first to the clip `val_3` is killed, as by a kernel that is short of memory."""
    _at_val_3(lambda: os.kill(os.getpid(), signal.SIGKILL), once=True)


def kill_every_reader() -> None:
    _at_val_3(lambda: os.kill(os.getpid(), signal.SIGKILL))


def crash() -> None:
    _at_val_3(os.abort)


def hang() -> None:
    _at_val_3(signal.pause)


def _at_val_3(fault: object, *, once: bool = False) -> None:
    open_video, seen = loader.open_video, Path.cwd() / "seen"

    def opened(path: str, *rest: object) -> object:
        if path.endswith("val_3.mp4") and not (once and seen.exists()):
            seen.touch()
            fault()  # type: ignore[operator]
        return open_video(path, *rest)  # type: ignore[arg-type]

    loader.open_video = opened  # type: ignore[assignment]


def test_a_worker_that_something_else_killed_costs_nothing(bench: Bench, tmp_path: Path) -> None:
    wanted = Bench(bench.data, tmp_path / "alone")
    expected = wanted.predictions(wanted.run().record)
    record = bench.run(*LINEAR, "--workers", 2, fault=kill_the_first_reader).record
    assert record["failures"] == [] and bench.predictions(record) == expected


@pytest.mark.parametrize(
    ("fault", "reason"), [(kill_every_reader, "crashed"), (crash, "crashed"), (hang, "hung for more than 1 s")]
)
def test_a_clip_that_ends_its_decoder_is_one_failed_sample(bench: Bench, fault: object, reason: str) -> None:
    options = ("--workers", 2, "--max-failed", 0.2, "--timeout-s", 1)
    record = bench.run(*LINEAR, *options, fault=fault).record  # type: ignore[arg-type]
    (failure,) = record["failures"]
    assert failure["sample"] == "clips/val_3.mp4" and reason in failure["reason"] and record["scores"][0]["n"] == 7


def be_killed_with_workers() -> None:
    """Workers look after their parent ten times a second; this process is killed while they wait for it."""
    workers._PARENT_CHECK_S = 0.1
    encode = sys.modules["bench.features.extract"].encode

    def die(*args: object, **options: object) -> object:
        Path("workers").write_text(" ".join(str(child.pid) for child in multiprocessing.active_children()))
        os.kill(os.getpid(), signal.SIGKILL)
        return encode(*args, **options)

    sys.modules["bench.features.extract"].encode = die  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the Linux list of processes")
def test_a_killed_run_leaves_no_process(bench: Bench) -> None:
    assert bench.run(*LINEAR, "--workers", 2, "--batch-size", 2, fault=be_killed_with_workers).code == -9
    pids = [int(pid) for pid in (bench.home / "workers").read_text().split()]
    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        pass
    assert len(pids) == 2 and not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
