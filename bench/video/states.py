"""Whether files have changed since they were read, decided here alone and without reading them all.

A state is no identity. Who remembers something of a file keeps its state beside it (`remember`); `unchanged` and
`remembered` tell of which files it still holds. Of all others the content is looked at again, and the content decides.

    size or time of writing (mtime) differ        changed
    nothing differs, on a local disk              unchanged: the kernel moves the change time (ctime) at every write
    nothing differs, on other file systems        a sample of the content decides: their change times and inodes may
                                                  stand still, or be made up at every mount
    change time, inode or device alone differ     changed, as of a file that another took the place of; but where that
                                                  is true of more than MOST_BYTES, as after a new mount or `chmod -R`,
                                                  the sample decides
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.core.memo import Memo
from bench.video.image_frames import frame_files

MOST_BYTES = 32 << 30
"""Most bytes of files that are read anew although only their change time, inode or device differs: minutes."""

_LOCAL_DISKS = ("ext2", "ext3", "ext4", "f2fs", "jfs", "xfs", "zfs")
"""File systems with a change time of their own, on whose files `stat` gives the device of the mount."""
_MOUNTS = Path("/proc/self/mountinfo")
_SETTLED_NS = 2_000_000_000
"""Two writes within the resolution of a file system's times leave the same times: a second on old disks."""
_PIECES = 8
_PIECE_BYTES = 8192
_AT_ONCE = 16
_IN_HAND = 4096


@dataclass(frozen=True)
class State:
    """What a file, or a folder and its frames, was like when it was looked at. States are equal where nothing that
    `stat` tells differs."""

    files: int
    """1 for a file, the frames of a folder, 0 for what is neither: reading a pipe or a device may never end."""
    size: int
    """Bytes, of a folder those of its frames."""
    written: str
    """The time of writing, which programs may set; of a folder the names, sizes and times of its frames, hashed."""
    entry: str
    """Change time, inode and device, which the file system sets; of a folder those of its frames, hashed."""
    sure: bool = field(compare=False)
    """Whether whatever is written from now on gives another state."""
    sample: str = field(default="", compare=False)
    """64 bits of the content, as hex digits, where `sampled` has taken them."""

    @property
    def text(self) -> str:
        """For a memory on the disk; `state_from` reads it."""
        return json.dumps([self.files, self.size, self.written, self.entry, self.sure, self.sample])


def state_from(text: str) -> State | None:
    """The state that a text was made of; None for other texts."""
    try:
        return State(*json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def state_of(path: str | os.PathLike[str]) -> State:
    """The state of a file, or of a folder and all its frames, without a sample. Raises OSError, as `os.stat` does."""
    status = os.stat(path)  # noqa: PTH116 - a Path for each of a million files costs more than the call
    if not stat.S_ISDIR(status.st_mode):
        is_file = stat.S_ISREG(status.st_mode)
        return State(int(is_file), status.st_size, str(status.st_mtime_ns), _entry(status), _is_sure([status]))
    frames = [(frame.name, frame.stat()) for frame in frame_files(path)]
    of_frames = [found for _, found in frames]
    return State(
        files=len(frames),
        size=sum(found.st_size for found in of_frames),
        written=_hashed(repr([(name, found.st_size, found.st_mtime_ns) for name, found in frames])),
        entry=_hashed(" ".join(map(_entry, of_frames))),
        sure=_is_sure(of_frames),
    )


def sampled(path: str, state: State) -> State:
    """The state to keep beside what was read of `path` since it was in `state`; one that never holds again, where it
    has changed meanwhile. Raises OSError where it cannot be read any more."""
    found = replace(state, sample=_sample(path) if state.files else "")
    return found if state_of(path) == state else replace(state, sure=False)


def unchanged(kept: Iterable[tuple[str, State]]) -> Iterator[tuple[str, State]]:
    """Those of the paths whose content is what it was in the state that was kept of them, each with its state now: the
    one that was kept, where nothing differs. Their order is another."""
    doubtful: list[tuple[str, State]] = []
    moved: list[tuple[str, State]] = []
    for path, was in kept:
        try:
            now = state_of(path)
        except OSError:
            continue
        if now == was and was.sure and now.sure:
            yield path, was
        elif now == was:
            doubtful.append((path, replace(now, sample=was.sample)))
        elif (now.files, now.size, now.written) == (was.files, was.size, was.written):
            moved.append((path, replace(now, sample=was.sample)))
    if sum(now.size for _, now in moved) > MOST_BYTES:
        doubtful += moved
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # a network file system takes its time to open a file
        for start in range(0, len(doubtful), _IN_HAND):
            part = doubtful[start : start + _IN_HAND]
            for (path, now), same in zip(part, pool.map(_has_its_sample, part), strict=True):
                if same:
                    yield path, now


def remember(memo: Memo, path: str, state: State, value: Any) -> None:
    """Keep a value, which JSON can hold, of a path that was in this state, which has a sample."""
    memo.keep(_key(path), state.text, value)


def remembered(memo: Memo, paths: Iterable[str]) -> Iterator[tuple[str, State, Any]]:
    """The values kept of those of the paths, all different, that have not changed since, with their states."""
    waiting: dict[str, tuple[State, Any]] = {}

    def kept() -> Iterator[tuple[str, State]]:
        for path in paths:
            known = memo.get(_key(path))
            state = state_from(known[0]) if known else None
            if known and state:
                waiting[path] = state, known[1]
                yield path, state

    for path, now in unchanged(kept()):
        was, value = waiting.pop(path)
        if now is not was:
            remember(memo, path, now, value)
        yield path, now, value


def _key(path: str) -> bytes:
    """The same file has the same key, whatever folder a command runs in; bytes, as names need not be text."""
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 - keeps links, and is called a million times


def _has_its_sample(sampled: tuple[str, State]) -> bool:
    path, state = sampled
    try:
        return state.files > 0 and _sample(path) == state.sample
    except OSError:
        return False


def _entry(status: os.stat_result) -> str:
    return f"{status.st_ctime_ns}.{status.st_ino}.{status.st_dev}"


def _is_sure(files: Iterable[os.stat_result]) -> bool:
    now = time.time_ns()
    return all(found.st_dev in _local_disks() and abs(now - found.st_ctime_ns) > _SETTLED_NS for found in files)


@functools.cache
def _local_disks() -> frozenset[int]:
    """`st_dev` of the mounted local disks; none where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    mounts = [line.partition(" - ") for line in lines]  # "27 1 254:0 / / rw - ext4 /dev/vda rw"
    numbers = [place.split()[2].split(":") for place, _, kind in mounts if kind.split(" ")[0] in _LOCAL_DISKS]
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in numbers)


def _sample(path: str) -> str:
    """16 hex digits of up to eight evenly spaced pieces of 8 KiB of a file, and its size; of a folder, of the middle of
    up to eight of its frames, and their names. Equal for equal contents."""
    digest = hashlib.blake2b(digest_size=8)
    if not os.path.isdir(path):  # noqa: PTH112
        _add_pieces(digest, path, _PIECES)
        return digest.hexdigest()
    frames = frame_files(path)
    for frame in frames[:: -(-len(frames) // _PIECES) or 1]:
        digest.update(os.fsencode(frame.name))
        _add_pieces(digest, frame.path, 1)
    return digest.hexdigest()


def _add_pieces(digest: hashlib.blake2b, path: str, count: int) -> None:
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(f"{size}/".encode())
        room = max(0, size - _PIECE_BYTES)
        starts = {room * number // (count - 1) for number in range(count)} if count > 1 else {room // 2}
        for start in sorted(starts):
            file.seek(start)
            digest.update(file.read(_PIECE_BYTES))


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()
