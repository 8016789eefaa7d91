"""The folder of the embedded dataset: made once, whole or not at all, and mended where something changed in it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import left_behind

from bench.core.errors import BenchError
from bench.core.files import write_mark
from bench.data import digits
from bench.data.digits import DigitsConfig

pytestmark = pytest.mark.slow

SMALL = DigitsConfig(train_clips=80, test_clips=80)


def test_made_once_with_progress(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    made = digits.ensure_digits(tmp_path, SMALL, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 160) for done in range(1, 161)]
    before = (made / "train/0000.mp4").stat().st_mtime_ns
    assert digits.ensure_digits(tmp_path, SMALL, lambda done, total: calls.append((done, total))) == made
    assert len(calls) == 160
    assert (made / "train/0000.mp4").stat().st_mtime_ns == before


def swapped_in_place(folder: Path) -> None:
    one, two = folder / "test/0003.mp4", folder / "test/0004.mp4"
    times = one.stat()
    one.write_bytes(two.read_bytes())
    os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train/0007.mp4").unlink(),
        lambda folder: (folder / "train/0007.mp4").write_bytes(b""),
        swapped_in_place,
        lambda folder: (folder / "test.csv").unlink(),
        lambda folder: (folder / "test.csv").write_text((folder / "test.csv").read_text().replace(",3,", ",4,")),
        lambda folder: (folder / "digests.json").unlink(),
        lambda folder: (folder / "digests.json").write_text("[]"),
        lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    ],
)
def test_what_a_cleaner_removed_or_edited_is_made_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    made = digits.ensure_digits(tmp_path, SMALL)
    before = {path: path.read_bytes() for path in made.rglob("*.*")}
    damage(made)
    assert digits.ensure_digits(tmp_path, SMALL) == made
    assert {path: path.read_bytes() for path in made.rglob("*.*")} == before
    assert list((tmp_path / "digits").iterdir()) == [made]


def test_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digits.ensure_digits(tmp_path, SMALL, stop)
    assert list((tmp_path / "digits").iterdir()) == []
    assert digits.ensure_digits(tmp_path, SMALL).is_dir()


def test_remains_of_killed_processes_go_away(tmp_path: Path) -> None:
    old, new = (tmp_path / "digits" / f".{name}.part" for name in ("old", "new"))
    left_behind(old)
    new.mkdir()
    write_mark(new)
    digits.ensure_digits(tmp_path, SMALL)
    assert not old.exists()
    assert new.exists()


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from bench.data import digits; "
        "digits.ensure_digits(pathlib.Path(sys.argv[1]), digits.DigitsConfig(train_clips=80, test_clips=80))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    (made,) = (tmp_path / "digits").iterdir()
    assert made.name == SMALL.key
    assert len(list((made / "train").iterdir())) == 80


def test_late_process_keeps_the_finished_folder(tmp_path: Path) -> None:
    def finish_first(done: int, total: int) -> None:
        if done == total:
            digits.ensure_digits(tmp_path, SMALL)

    made = digits.ensure_digits(tmp_path, SMALL, finish_first)
    assert list((tmp_path / "digits").iterdir()) == [made]


def test_unwritable_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="--cache"):
        digits.ensure_digits(tmp_path / "file", SMALL)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, clip: NDArray[np.uint8], *, quantiser: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(digits, "write_clip", full)
    with pytest.raises(BenchError, match="No space left"):
        digits.ensure_digits(tmp_path, SMALL)
    assert list((tmp_path / "digits").iterdir()) == []
