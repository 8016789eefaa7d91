"""What is known of files, in one SQLite file: work that an interrupted command does not do again.

`bench.video.states` keeps facts here together with the states of the files that they hold for.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.core.errors import BenchError
from bench.core.files import set_aside

_ROWS_AT_ONCE = 1000
_COMMIT_INTERVAL_S = 2.0


class Memo:
    """Name -> the value kept for it, and the stamp of the state of things that it holds for.

    The file is derived and may be deleted at any time; a damaged one starts anew. What was kept is on the disk within
    two seconds. `option` names what the user can change about its place. Raises BenchError where it cannot be used.
    """

    def __init__(self, file: Path, *, option: str = "--cache") -> None:
        self._file = file
        self._option = option
        self._fresh: list[tuple[str | bytes, str, str]] = []
        self._written = time.monotonic()
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError:  # not a database, or a damaged one
            set_aside(file)
            self._database = self._open()

    def __enter__(self) -> Memo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._write()
        finally:
            self._database.close()

    def get(self, name: str | bytes) -> tuple[str, Any] | None:
        """The stamp and the value kept for `name`; None where there is none."""
        try:
            row = self._database.execute("SELECT stamp, value FROM kept WHERE name = ?", (name,)).fetchone()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError:
            self._begin_anew()
            return None
        try:
            return (str(row[0]), json.loads(row[1])) if row else None
        except (ValueError, TypeError, RecursionError):
            return None

    def keep(self, name: str | bytes, stamp: str, value: Any) -> None:
        """Keep `value`, which JSON can hold, in place of any earlier one."""
        self._fresh.append((name, stamp, json.dumps(value, separators=(",", ":"))))
        if len(self._fresh) >= _ROWS_AT_ONCE or time.monotonic() - self._written > _COMMIT_INTERVAL_S:
            self._write()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=60)
        try:
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, stamp, value) WITHOUT ROWID")
                database.execute("SELECT stamp FROM kept LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _begin_anew(self) -> None:
        self._database.close()
        set_aside(self._file)
        self._database = self._open()

    def _write(self) -> None:
        try:
            try:
                self._insert()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self._begin_anew()
                self._insert()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        self._fresh.clear()
        self._written = time.monotonic()

    def _insert(self) -> None:
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", self._fresh)

    def _unusable(self, error: sqlite3.Error) -> BenchError:
        fix = f"free some space, wait for other commands, delete the file, or choose another folder with {self._option}"
        return BenchError(str(error), where=str(self._file), fix=fix)
