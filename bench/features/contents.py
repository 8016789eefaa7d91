"""Content ids: the SHA-256 of a video's or image's bytes, or of the names and bytes of a folder's frames.

Where a name gives a file to another reader than is usual for its content, that reader is a part of the id: the same
bytes as .jpg and as .mjpg have other pixels. A few files have a suffix, as their pixels are not what they were when
others got their ids (bench.features.readings).

They are remembered per (path, size, modification time); of a folder, size and times are those of all its frames, so
that a frame that was exchanged is noticed without one being read.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bench.errors import BenchError
from bench.features.readings import suffix_of
from bench.files import file_digest, set_aside
from bench.video.endings import is_cut_off
from bench.video.image_frames import frame_files
from bench.video.readers import reader_of, unusual_reader

_ID_DIGITS = 32
_ID = re.compile(f"[0-9a-f]{{{_ID_DIGITS}}}(-[a-z]+)*")
_ROWS_AT_ONCE = 500

Progress = Callable[[int, int], None]


def content_ids(cache: Path, paths: Sequence[str], progress: Progress | None = None) -> dict[str, str]:
    """The content id of every readable file or folder of frames among `paths`; one that cannot be read, or is known to
    be cut off, has none.

    Files are hashed once; later calls read the memory in `cache`, which is derived and may be deleted at any time.
    """
    memory = cache / "contents.sqlite"
    try:
        try:
            return _lookup(memory, paths, progress)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            set_aside(memory)  # not a database, or a damaged one
            return _lookup(memory, paths, progress)
    except sqlite3.OperationalError as error:
        raise BenchError(str(error), where=str(memory), fix="wait for other runs, or choose another --cache") from error


def _lookup(memory: Path, paths: Sequence[str], progress: Progress | None) -> dict[str, str]:
    ids: dict[str, str] = {}
    with closing(sqlite3.connect(memory, timeout=60)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS ids (path TEXT PRIMARY KEY, size, mtime_ns, digest)")
        known = {row[0]: row[1:] for row in database.execute("SELECT path, size, mtime_ns, digest FROM ids")}
        fresh: list[tuple[str, int, int, str]] = []
        for done, path in enumerate(dict.fromkeys(paths)):
            try:
                stamp = _stamp(path)
                if stamp is None:
                    continue
                remembered = known.get(path)
                if remembered and remembered[:2] == stamp and _ID.fullmatch(str(remembered[2])):
                    ids[path] = remembered[2]
                    continue
                if _is_cut_off(path):
                    continue
                ids[path] = content_id(path)
            except OSError:
                continue  # the decoder names the reason when it comes to this file
            fresh.append((path, *stamp, ids[path]))
            if len(fresh) == _ROWS_AT_ONCE:
                _store(database, fresh)
            if progress:
                progress(done + 1, len(paths))
        _store(database, fresh)
    return ids


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and modification time; of a folder, size and a number that the names, sizes and times of its frames give.

    None for a folder without frames, and for what is neither: reading a pipe or a device may never end.
    """
    status = Path(path).stat()
    if stat.S_ISREG(status.st_mode):
        return status.st_size, status.st_mtime_ns
    frames = frame_files(path) if stat.S_ISDIR(status.st_mode) else []
    if not frames:
        return None
    facts = [(frame.name, frame.stat().st_size, frame.stat().st_mtime_ns) for frame in frames]
    digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape")).digest()
    return sum(size for _, size, _ in facts), int.from_bytes(digest[:8], "big", signed=True)


def content_id(path: str) -> str:
    """32 hex digits of the SHA-256 of a file's bytes, or of the names and bytes of a folder's frames in order; then the
    reader of a file, where it is not the usual one for its content, and the suffix of a video that is read otherwise
    than it was. Raises OSError."""
    if not Path(path).is_dir():
        reader = unusual_reader(path)
        suffix = suffix_of(Path(path)) if reader_of(path) == "video" else ""
        return file_digest(Path(path))[:_ID_DIGITS] + (f"-{reader}" if reader else "") + suffix
    digest = hashlib.sha256()
    for frame in frame_files(path):
        digest.update(f"{frame.name}/{file_digest(Path(frame.path))}/".encode(errors="surrogateescape"))
    return digest.hexdigest()[:_ID_DIGITS]


def bytes_of(content_id: str) -> str:
    """The part of a content id that all files of the same bytes share, whoever reads them."""
    return content_id[:_ID_DIGITS]


def _is_cut_off(path: str) -> bool:
    """Pillow itself refuses a still image whose pixels are not all there."""
    return reader_of(path) in ("video", "animation") and is_cut_off(path)


def _store(database: sqlite3.Connection, rows: list[tuple[str, int, int, str]]) -> None:
    """Write and forget `rows`: an interrupted run keeps what it has hashed."""
    database.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?, ?)", rows)
    database.commit()
    rows.clear()
