"""Content ids of video files: the SHA-256 of their bytes, remembered per (path, size, modification time)."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bench.errors import BenchError
from bench.files import file_digest

_ID_DIGITS = 32
_ROWS_AT_ONCE = 500


def content_ids(
    cache: Path, paths: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """The content id of every readable file among `paths`; a file that cannot be read has none.

    Files are hashed once; later calls read the memory in `cache`, which is derived and may be deleted at any time.
    """
    memory = cache / "contents.sqlite"
    try:
        try:
            return _lookup(memory, paths, progress)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            memory.unlink(missing_ok=True)  # not a database, or a damaged one
            return _lookup(memory, paths, progress)
    except sqlite3.OperationalError as error:
        raise BenchError(str(error), where=str(memory), fix="wait for other runs, or choose another --cache") from error


def _lookup(memory: Path, paths: Sequence[str], progress: Callable[[int, int], None] | None) -> dict[str, str]:
    ids: dict[str, str] = {}
    with closing(sqlite3.connect(memory, timeout=60)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, size, mtime_ns, digest)")
        known = {row[0]: row[1:] for row in database.execute("SELECT path, size, mtime_ns, digest FROM contents")}
        fresh: list[tuple[str, int, int, str]] = []
        for done, path in enumerate(dict.fromkeys(paths)):
            try:
                status = Path(path).stat()
                if not stat.S_ISREG(status.st_mode):
                    continue  # reading a pipe or a device may never end
                stamp = (status.st_size, status.st_mtime_ns)
                remembered = known.get(path)
                if remembered and remembered[:2] == stamp:
                    ids[path] = remembered[2]
                    continue
                ids[path] = file_digest(Path(path))[:_ID_DIGITS]
            except OSError:
                continue  # the decoder names the reason when it comes to this file
            fresh.append((path, *stamp, ids[path]))
            if len(fresh) == _ROWS_AT_ONCE:
                _store(database, fresh)
            if progress:
                progress(done + 1, len(paths))
        _store(database, fresh)
    return ids


def _store(database: sqlite3.Connection, rows: list[tuple[str, int, int, str]]) -> None:
    """Write and forget `rows`: an interrupted run keeps what it has hashed."""
    database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", rows)
    database.commit()
    rows.clear()
