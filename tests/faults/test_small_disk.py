"""A real disk that is too small: a run on a small tmpfs ends in one line, and goes on once the tmpfs has grown.

The tmpfs is mounted in a namespace of its own, which a shell holds and the commands enter: no other process sees it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_lab import STAGES, Bench, Fault, around

PAGE = 4096
ENOUGH = 64 * 2**20


@dataclass(frozen=True)
class Within:
    """Enters the namespaces of a process, then does what else is to be done."""

    pid: int
    then: Fault

    def __call__(self) -> None:
        here, libc = Path.cwd(), ctypes.CDLL(None, use_errno=True)
        spaces = [os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY) for name in ("user", "mnt")]
        assert all(libc.setns(space, 0) == 0 for space in spaces), os.strerror(ctypes.get_errno())
        os.chdir(here)
        self.then()


@dataclass(frozen=True)
class Used:
    """Writes to `folder/STAGE` the bytes of the disk that are in use when a stage begins for the first time."""

    folder: Path

    def __call__(self) -> None:
        for stage in STAGES:
            around(stage, lambda stage=stage: self._note(stage))

    def _note(self, stage: str) -> None:
        disk = os.statvfs(Path.cwd())
        if not (self.folder / stage).exists():
            (self.folder / stage).write_text(str((disk.f_blocks - disk.f_bfree) * disk.f_frsize))


def nothing() -> None:
    pass


class Disk:
    """A tmpfs of so many bytes over the folder `home`, seen by those that are `Within` alone."""

    def __init__(self, home: Path, num_bytes: int) -> None:
        home.mkdir()
        self.home = home
        self.shell = subprocess.Popen(
            ["unshare", "-rm", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.works = self._done(f"mount -t tmpfs -o size={num_bytes} none '{home}'")

    def grow(self) -> None:
        assert self._done(f"mount -o remount,size={ENOUGH} '{self.home}'")

    def view(self, data: Path) -> Bench:
        """What is on it, from outside."""
        return Bench(data, Path(f"/proc/{self.shell.pid}/root{self.home}"))

    def _done(self, command: str) -> bool:
        assert self.shell.stdin and self.shell.stdout
        try:
            print(f"{command} && echo done || echo failed", file=self.shell.stdin, flush=True)
        except BrokenPipeError:  # no namespaces for this user
            return False
        return self.shell.stdout.readline() == "done\n"


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[Disk]]:
    """Disks that are gone after the test; skips where none can be made."""
    made: list[Disk] = []
    if not shutil.which("unshare"):
        pytest.skip("needs the namespaces of Linux")
    yield made
    for disk in made:
        disk.shell.kill()
        disk.shell.communicate()


def test_a_disk_that_is_too_small_ends_the_run_and_a_larger_one_lets_it_go_on(
    clips: Path, tmp_path: Path, disks: list[Disk], long: bool
) -> None:
    disks.append(Disk(tmp_path / "large", ENOUGH))
    if not disks[0].works:
        pytest.skip("mounting is not allowed here")
    used = tmp_path / "used"
    used.mkdir()
    record = Bench(clips, disks[0].home).run(fault=Within(disks[0].shell.pid, Used(used))).record
    wanted = disks[0].view(clips).predictions(record)
    begins = {stage: int((used / stage).read_text()) for stage in STAGES}
    sizes = {stage: begins[stage] + PAGE for stage in STAGES} | {
        "refused": begins["extraction"] + record["cost"]["feature_bytes"] // 2,
        "extraction": begins["extraction"] + record["cost"]["feature_bytes"] * 2 // 3 + PAGE,
    }
    for case in sizes if long else ("extraction",):
        disk = Disk(tmp_path / case, sizes[case])
        disks.append(disk)
        small, seen = Bench(clips, disk.home), disk.view(clips)
        full = small.run(fault=Within(disk.shell.pid, nothing))
        assert "--cache" in full.line, case
        assert not seen.results and not [p for p in seen.home.rglob("*") if p.suffix == ".part"], case
        disk.grow()
        again = small.run(fault=Within(disk.shell.pid, nothing)).record
        assert seen.predictions(again) == wanted, case
        assert (again["cost"]["cached_clips"] == 24) == (case in ("training", "recording")), case
