"""Whether a file has changed is told by its size, its times, its inode and, where these say nothing, its content."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.video import states
from bench.video.states import State, sampled, state_from, state_of, unchanged

CONTENT = bytes(range(256)) * 400
OTHER = CONTENT[:50_000] + bytes(2) + CONTENT[50_002:]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.avi"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(10**18, 10**18))
    return path


def kept(path: Path) -> State:
    return sampled(str(path), state_of(path))


def holds(path: Path, was: State) -> bool:
    return bool(list(unchanged([(str(path), was)])))


def keep_times(path: Path, change: Callable[[], None]) -> None:
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def mapped(path: Path) -> None:
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as content:
        content[50_000:50_002] = bytes(2)


def copied(path: Path) -> None:
    """As `cp -p`, `rsync -t` and `tar` leave a file."""
    other = path.with_name("other")
    other.write_bytes(OTHER)
    shutil.copystat(path, other)
    other.replace(path)


def linked(path: Path) -> None:
    """As a link that comes to lead to another file."""
    path.with_name("other").write_bytes(OTHER)
    shutil.copystat(path, path.with_name("other"))
    path.unlink()
    path.symlink_to("other")


def through_another_name(path: Path) -> None:
    path.with_name("other").hardlink_to(path)
    path.with_name("other").write_bytes(OTHER)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(OTHER), mapped, copied, linked, through_another_name])
def test_another_content_of_the_same_size_and_time_is_noticed(file: Path, change: Callable[[Path], None]) -> None:
    was = kept(file)
    keep_times(file, lambda: change(file))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (was.size, int(was.written))
    assert file.read_bytes() == OTHER and not holds(file, was)


def test_what_nobody_touched_holds_and_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_local_disks", lambda: {file.stat().st_dev})
    monkeypatch.setattr(states, "_SETTLED_NS", -1)
    was = kept(file)
    monkeypatch.setattr(states, "_sample", lambda path: pytest.fail("it was read"))
    assert [(path, now) for path, now in unchanged([(str(file), was)])] == [(str(file), was)]


@pytest.mark.parametrize("exchanged", ["content", "names"])
def test_of_a_folder_every_frame_counts(tmp_path: Path, exchanged: str) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.jpg").write_bytes(b"frame %02d" % number)
        os.utime(folder / f"{number}.jpg", (10**9, 10**9))
    was = kept(folder)
    assert was.files == 30 and was.size == 240 and holds(folder, was)
    (folder / "notes.txt").write_text("no frame")
    assert holds(folder, was)
    one, two = folder / "17.jpg", folder / "18.jpg"
    if exchanged == "content":
        keep_times(one, lambda: one.write_bytes(b"frame xx"))
    else:
        one.rename(folder / "x")
        two.rename(one)
        (folder / "x").rename(two)
    assert not holds(folder, was)


def without_change_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which change time, inode and device stand still, such as FAT."""
    monkeypatch.setattr(states, "_entry", lambda status: "0.0.0")
    monkeypatch.setattr(states, "_local_disks", frozenset)


def test_without_change_times_a_sample_of_the_content_tells(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_change_times(monkeypatch)
    was = kept(file)
    assert holds(file, was)
    keep_times(file, lambda: file.write_bytes(CONTENT[::-1]))
    assert not holds(file, was)


def test_in_the_first_seconds_times_may_stand_still_and_the_sample_tells(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_entry", lambda status: "0.0.0")
    monkeypatch.setattr(states, "_local_disks", lambda: {file.stat().st_dev})
    was = kept(file)
    assert not was.sure and holds(file, was)
    keep_times(file, lambda: file.write_bytes(CONTENT[::-1]))
    assert not holds(file, was)


def test_other_change_times_of_few_files_are_looked_at_and_of_very_many_sampled(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped = tmp_path / "b.avi"
    shutil.copy2(file, swapped)
    was = [(str(path), kept(path)) for path in (file, swapped)]
    file.chmod(0o600)
    copied(swapped)
    swapped.write_bytes(CONTENT[::-1])
    os.utime(swapped, ns=(10**18, 10**18))
    assert not list(unchanged(was))
    monkeypatch.setattr(states, "MOST_BYTES", len(CONTENT))
    ((path, now),) = unchanged(was)
    assert path == str(file) and now == state_of(file) and now.sample == was[0][1].sample


def test_what_changes_while_it_is_read_never_holds(file: Path) -> None:
    before = state_of(file)
    copied(file)
    assert not holds(file, sampled(str(file), before))


def test_nothing_is_read_of_pipes_and_empty_folders(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty").mkdir()
    for name in ("pipe.mp4", "empty"):
        state = kept(tmp_path / name)
        assert (state.files, state.size, state.sample) == (0, 0, "")
        holds(tmp_path / name, state)


@pytest.mark.parametrize("text", ["", "5/3", "[]", "{}", "null", "[1,2,3,4,5,6,7]", "[" * 9999])
def test_a_damaged_state_is_none(file: Path, text: str) -> None:
    assert state_from(kept(file).text) == state_of(file)
    assert state_from(text) is None


def test_gone_files_do_not_hold(file: Path) -> None:
    was = kept(file)
    file.unlink()
    assert not holds(file, was)


def test_local_disks_are_read_from_the_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "28 27 0:25 / /a\\040b rw - tmpfs tmpfs rw\n29 27 0:31 / /net rw - nfs4 host:/x rw\n"
    )
    monkeypatch.setattr(states, "_MOUNTS", mounts)
    states._local_disks.cache_clear()
    assert states._local_disks() == {os.makedev(254, 0)}
    monkeypatch.setattr(states, "_MOUNTS", tmp_path / "none")
    states._local_disks.cache_clear()
    assert states._local_disks() == frozenset()
    states._local_disks.cache_clear()
