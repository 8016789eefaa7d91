"""The records of results folders, shortened, from an index that is rebuilt wherever it is stale.

The records stay the truth. `records.sqlite` in the cache holds what was read of each run, under the folder, the name
of the run and the times and sizes of its two files. A run whose files have changed is read again; an index that is
damaged or cannot be written is done without, so that a results folder or a cache may be read-only.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from bench.errors import BenchError
from bench.files import cache_path
from bench.scores.outcomes import Outcomes, read_outcomes
from bench.scores.records import SCHEMA_VERSION, Cost, Score, read_record
from bench.scores.summary import Summary, from_text, summarise, to_text

INDEX_NAME = "records.sqlite"
_PREDICTIONS = "predictions.parquet"
_MEANING = 1
"""Raised when a field of a summary comes to mean something else. New and lost fields show by themselves."""
_WAIT_S = 2.0
"""For another process that writes the index; after that it is done without."""

_CREATE = (
    "CREATE TABLE IF NOT EXISTS runs (folder BLOB, name BLOB, stamp TEXT, summary TEXT, samples TEXT, n INTEGER, "
    "correct BLOB, grouped INTEGER, PRIMARY KEY (folder, name))"
)


@dataclass(frozen=True)
class _Entry:
    """One run as the index holds it."""

    stamp: str
    summary: str
    samples: str | None
    n: int | None
    correct: bytes | None
    grouped: bool = False

    def opened(self, path: Path) -> Summary:
        """The summary of the record at `path`."""
        if self.samples is None or self.n is None or self.correct is None:
            return from_text(self.summary, path, None)
        right = int.from_bytes(self.correct, "little")
        outcomes = Outcomes(self.samples, self.n, right, _predictions(path), bool(self.grouped))
        return from_text(self.summary, path, outcomes)


def read_runs(folders: Iterable[Path], index: Path | None = None) -> list[Summary | BenchError]:
    """Every record under the results folders, shortened, in order; an unreadable one comes as its error.

    So does a `predictions.parquet` that is damaged, after its record, which then has no outcomes. `index` is the file
    of the index, by default in the cache. Folders that begin with a dot are runs that were never completed, and are
    passed over.
    """
    file = index or cache_path() / INDEX_NAME
    found: list[Summary | BenchError] = []
    for folder in folders:
        stamps = dict(_stamps(folder))
        known = _known(file, folder)
        fresh: dict[str, _Entry] = {}
        for name, stamp in stamps.items():
            path = folder / name / "record.json"
            entry = known.get(name)
            if entry and entry.stamp == stamp:
                found.append(entry.opened(path))
            else:
                read = list(read_run(path))
                found += read
                if len(read) == 1 and isinstance(read[0], Summary):
                    fresh[name] = _entry(stamp, read[0])
        _keep(file, folder, fresh, known.keys() - stamps.keys())
    return found


def read_run(path: Path) -> Iterator[Summary | BenchError]:
    """One record and its predictions, from their files: the summary or its error, then an error of the predictions."""
    problem = None
    try:
        summary = replace(summarise(read_record(path)), path=path)
    except BenchError as error:
        yield error
        return
    try:
        outcomes = read_outcomes(_predictions(path))
    except BenchError as error:
        outcomes, problem = None, error
    score = next((score for score in summary.scores if score.metric == "top1"), None)
    if outcomes and score and (outcomes.right.bit_count(), outcomes.n) != (score.correct, score.n):
        yield BenchError(
            f"not a readable record (it says {score.correct} of {score.n} are right, its predictions say "
            f"{outcomes.right.bit_count()} of {outcomes.n})",
            where=str(path),
            fix="one of the two files was changed: move it away or run again",
        )
        return
    yield replace(summary, outcomes=outcomes)
    if problem:
        yield problem


def _predictions(record: Path) -> Path:
    return record.with_name(_PREDICTIONS)


def _stamps(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, stamp) of every run of a folder, in order: what the two files were when they were last written."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        record = _stamp(f"{folder}/{name}/record.json")
        if record:
            yield name, f"{record} {_stamp(f'{folder}/{name}/{_PREDICTIONS}')}"


def _stamp(path: str) -> str:
    """Times and size of a file; empty where there is none. The second time tells copies that kept the first one."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for thousands of files, Path costs more than the call
    except OSError:
        return ""
    return f"{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_size}"


def _entry(stamp: str, summary: Summary) -> _Entry:
    outcomes = summary.outcomes
    if outcomes is None:
        return _Entry(stamp, to_text(summary), None, None, None)
    correct = outcomes.right.to_bytes((outcomes.n + 7) // 8, "little")
    return _Entry(stamp, to_text(summary), outcomes.samples, outcomes.n, correct, outcomes.grouped)


def _known(file: Path, folder: Path) -> dict[str, _Entry]:
    """What the index holds of a folder, by name of the run; nothing where it is damaged or of another version."""
    if not file.is_file():
        return {}
    columns = ", ".join(field.name for field in fields(_Entry))
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as database:
            if _version(database) != _VERSION:
                return {}
            rows = database.execute(f"SELECT name, {columns} FROM runs WHERE folder = ?", (_key(folder),))  # noqa: S608
            return {os.fsdecode(name): _Entry(*values) for name, *values in rows}
    except sqlite3.Error:
        return {}


def _keep(file: Path, folder: Path, fresh: dict[str, _Entry], gone: Iterable[str]) -> None:
    """Put what was read into the index, and take out runs that are no longer there."""
    gone = list(gone)
    if not fresh and not gone:
        return
    # The index saves time and nothing else: where it cannot be kept, the records are read again next time.
    with suppress(OSError, sqlite3.Error):
        file.parent.mkdir(parents=True, exist_ok=True)
        if _is_damaged(file):
            file.unlink()
        _write(file, folder, fresh, gone)


def _is_damaged(file: Path) -> bool:
    """Whether the file is there and no database; one that is locked or not to be read is not damaged."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_WAIT_S)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def _write(file: Path, folder: Path, fresh: dict[str, _Entry], gone: Sequence[str]) -> None:
    names = [field.name for field in fields(_Entry)]
    key = _key(folder)
    with closing(sqlite3.connect(file, timeout=_WAIT_S)) as database, database:
        database.execute("BEGIN IMMEDIATE")
        if _version(database) != _VERSION:
            database.execute("DROP TABLE IF EXISTS runs")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute(_CREATE)
        database.executemany(
            "DELETE FROM runs WHERE folder = ? AND name = ?", [(key, os.fsencode(name)) for name in gone]
        )
        rows = [(key, os.fsencode(name), *(getattr(entry, field) for field in names)) for name, entry in fresh.items()]
        places = ", ".join("?" * (2 + len(names)))
        statement = f"INSERT OR REPLACE INTO runs (folder, name, {', '.join(names)}) VALUES ({places})"  # noqa: S608
        database.executemany(statement, rows)


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _key(folder: Path) -> bytes:
    return os.fsencode(folder.resolve())


_FIELDS = (
    [field.name for kind in (Summary, _Entry) for field in fields(kind)],
    list(Score.model_fields),
    list(Cost.model_fields),
)
_VERSION = zlib.crc32(repr((_MEANING, SCHEMA_VERSION, _FIELDS)).encode()) >> 1
"""Of what the index holds: one that another version wrote is made anew. Below 2**31, as SQLite wants it."""
