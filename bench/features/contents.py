"""Content ids of video files: the SHA-256 of their bytes, remembered per (path, size, modification time)."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bench.files import file_digest

_ID_DIGITS = 32


def content_ids(
    cache: Path, paths: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """The content id of every readable file among `paths`; a file that cannot be read has none.

    Files are hashed once; later calls read the memory in `cache`, which is derived and may be deleted at any time.
    """
    memory = cache / "contents.sqlite"
    try:
        return _lookup(memory, paths, progress)
    except sqlite3.DatabaseError:
        memory.unlink(missing_ok=True)
        return _lookup(memory, paths, progress)


def _lookup(memory: Path, paths: Sequence[str], progress: Callable[[int, int], None] | None) -> dict[str, str]:
    ids: dict[str, str] = {}
    with closing(sqlite3.connect(memory, timeout=60)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, size, mtime_ns, digest)")
        known = {row[0]: row[1:] for row in database.execute("SELECT path, size, mtime_ns, digest FROM contents")}
        fresh = []
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
            if progress:
                progress(done + 1, len(paths))
        database.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", fresh)
    return ids
