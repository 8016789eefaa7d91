"""The records of results folders, shortened and checked, from an index that is rebuilt wherever it is stale.

This is the one reader of results folders. A record is believed where its parts agree and its tables give the same
scores again (bench.records.consistency, bench.records.recomputed). What came of that is kept in `records.sqlite` in the
cache under the SHA-256 of the run's files; their states (bench.video.states) tell whether they have to be read at all.
An index that is damaged or cannot be written is done without, so that a results folder or a cache may be read-only.
It is no `bench.core.memo`, which must be written and is asked file by file: thousands of runs are one query here, two
folders that hold the same run share what came of it, and runs that are gone leave it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.files import cache_path, set_aside
from bench.core.hashing import file_digest, text_digest
from bench.core.inputs import PREDICTIONS, RECORD, check_input
from bench.metrics.score import Score
from bench.records.schema import SCHEMA_VERSION, Cost, read_record
from bench.records.summary import Summary, from_text, summarise, to_text
from bench.records.tables import tables_there
from bench.records.tables.outcomes import Outcomes
from bench.video.states import state_of

INDEX_NAME = "records.sqlite"
RECORD_NAME = "record.json"
_PREDICTIONS = "predictions.parquet"
_PROBE = "probe.safetensors"
_MEANING = 4
"""Raised when a field of a summary comes to mean something else, or a check of records does. New and lost fields show
by themselves."""
_WAIT_S = 2.0
"""For another process that writes the index; after that it is done without."""

_KEEP_EVERY_S = 2.0
"""What was examined is kept this often, so that an interrupted command has not done it in vain."""

_CREATE = (
    "CREATE TABLE IF NOT EXISTS runs (folder BLOB, name BLOB, stamp TEXT, digest TEXT, PRIMARY KEY (folder, name))",
    "CREATE TABLE IF NOT EXISTS contents (digest TEXT PRIMARY KEY, problem TEXT, summary TEXT, samples TEXT, "
    "n INTEGER, correct BLOB, grouped INTEGER)",
)


@dataclass(frozen=True)
class _Entry:
    """What came of reading a run, as the index holds it."""

    digest: str
    """SHA-256 of its files."""
    problem: str | None = None
    """Why it is not believed: what, where inside of its folder, and what to do, as JSON."""
    summary: str | None = None
    samples: str | None = None
    n: int | None = None
    correct: bytes | None = None
    """Outcomes of all probes, one after another, each filled up to whole bytes."""
    grouped: bool = False

    @staticmethod
    def of(digest: str, found: Summary | BenchError, folder: Path) -> _Entry:
        """What to keep of the run in `folder`."""
        if isinstance(found, BenchError):
            inside = found.where and found.where.startswith(f"{folder}{os.sep}")
            where = os.path.relpath(found.where, folder) if inside and found.where else None
            return _Entry(digest, problem=json.dumps([found.what, where, found.fix]))
        made, outcomes = _Entry(digest, summary=to_text(found)), found.outcomes
        if not outcomes:
            return made
        first, size = outcomes[0], (outcomes[0].n + 7) // 8
        correct = b"".join(probe.right.to_bytes(size, "little") for probe in outcomes)
        return replace(made, samples=first.samples, n=first.n, correct=correct, grouped=first.grouped)

    def opened(self, folder: Path) -> Summary | BenchError:
        """The same of the run in `folder`."""
        path = folder / RECORD_NAME
        if self.summary is None:
            what, where, fix = json.loads(self.problem or "")
            return BenchError(what, where=str(folder / where if where else path), fix=fix)
        if self.samples is None or self.n is None or self.correct is None:
            return from_text(self.summary, path, ())
        size, table = (self.n + 7) // 8, folder / _PREDICTIONS
        bits = [self.correct[start : start + size] for start in range(0, len(self.correct), size)]
        outcomes = (
            Outcomes(self.samples, self.n, int.from_bytes(right, "little"), table, bool(self.grouped)) for right in bits
        )
        return from_text(self.summary, path, tuple(outcomes))


def read_runs(folders: Iterable[Path], index: Path | None = None) -> list[Summary | BenchError]:
    """Every record under the results folders, shortened, in order; one that is not believed comes as its error.

    `index` is the file of the index, by default in the cache. Folders that begin with a dot are runs that were never
    completed, and are passed over.
    """
    return [entry for folder in folders for entry in _read(folder, _names(folder), index, whole=True)]


def read_run(path: Path) -> Summary | BenchError:
    """The record at `path`, shortened, or why it is not believed; from the index where that is not stale."""
    run = path.parent if path.parent.name else path.parent.resolve()
    return next(iter(_read(run.parent, [run.name], None, whole=False)), None) or examine(path)


def examine(path: Path) -> Summary | BenchError:
    """The record at `path`, shortened, or why it is not believed; from its files alone."""
    from bench.metrics.accuracy import ClassAnswers
    from bench.records.consistency import check_record, doubts
    from bench.records.recomputed import check_tables, resampled_scores

    folder = path.parent
    try:
        record = read_record(path)
        check_record(record, path)
        seeds, found = check_tables(folder, record)
    except BenchError as error:
        return error
    made = replace(summarise(record), path=path, doubts=(*found, *doubts(record, folder)))
    if all(isinstance(answers, ClassAnswers) for answers in seeds):
        return replace(made, outcomes=tuple(Outcomes.of(answers, folder / _PREDICTIONS) for answers in seeds))
    return replace(made, resampled=resampled_scores(record, seeds))


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))


def _read(folder: Path, names: Sequence[str], index: Path | None, *, whole: bool) -> list[Summary | BenchError]:
    """The runs of these names in a results folder that are there; `whole` where these are all it may hold."""
    file = index or cache_path() / INDEX_NAME
    stamps = {name: stamp for name in names if (stamp := _stamp(f"{folder}/{name}"))}
    known = _known(file, folder)
    fresh: dict[str, tuple[str, _Entry]] = {}
    found: list[Summary | BenchError] = []
    kept_s = time.monotonic()
    for name, stamp in stamps.items():
        run = folder / name
        if name in known and known[name][0] == stamp:
            found.append(known[name][1].opened(run))
            continue
        try:
            digest = _digest(run)
        except BenchError as error:
            found.append(error)
            continue
        except OSError as error:
            what = f"not a readable record ({error.strerror or error})"
            found.append(BenchError(what, where=str(run / RECORD_NAME), fix="check its rights and the disk"))
            continue
        entry = _by_content(file, digest)
        found.append(entry.opened(run) if entry else examine(run / RECORD_NAME))
        fresh[name] = stamp, entry or _Entry.of(digest, found[-1], run)
        if time.monotonic() - kept_s > _KEEP_EVERY_S:
            _keep(file, folder, fresh, ())
            fresh, kept_s = {}, time.monotonic()
    _keep(file, folder, fresh, known.keys() - stamps.keys() if whole else ())
    return found


def _digest(run: Path) -> str:
    """SHA-256 of the files that say what a run scored, and of what its probe says of it."""
    from bench.records.consistency import probe_facts

    there = [RECORD_NAME, *tables_there(run)]
    for name in there:
        check_input(run / name, RECORD if name == RECORD_NAME else PREDICTIONS)
    parts = [f"{name} {file_digest(run / name)}" for name in there]
    return text_digest("\n".join([*parts, json.dumps(probe_facts(run), sort_keys=True)]))


def _stamp(run: str) -> str:
    """What the files of a run were when they were last written; empty where it has no record."""
    record = _stamp_of_file(f"{run}/{RECORD_NAME}")
    try:
        names = tables_there(run) if record else []
    except OSError:  # a folder that cannot be listed: reading the run says so
        names = []
    parts = (f"{name} {_stamp_of_file(f'{run}/{name}')}" for name in (*names, _PROBE))
    return " ".join([record, *parts]) if record else ""


def _stamp_of_file(path: str) -> str:
    """The state of a file; empty where there is none."""
    try:
        state = state_of(path)
    except OSError:
        return ""
    return f"{state.size}.{state.written}.{state.entry}"


def _known(file: Path, folder: Path) -> dict[str, tuple[str, _Entry]]:
    """What the index holds of a folder, by name of the run: its stamp, and what came of it."""
    sql = f"SELECT name, stamp, {_COLUMNS} FROM runs JOIN contents USING (digest) WHERE folder = ?"  # noqa: S608
    return {os.fsdecode(name): (stamp, _Entry(*values)) for name, stamp, *values in _select(file, sql, _key(folder))}


def _by_content(file: Path, digest: str) -> _Entry | None:
    """What came of reading a run with the same files, wherever it lay."""
    rows = _select(file, f"SELECT {_COLUMNS} FROM contents WHERE digest = ?", digest)  # noqa: S608
    return next((_Entry(*values) for values in rows), None)


def _select(file: Path, sql: str, value: str | bytes) -> list[tuple[Any, ...]]:
    """Rows of the index; none where it is not there, damaged or of another version."""
    if not file.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as database:
            return database.execute(sql, (value,)).fetchall() if _version(database) == _VERSION else []
    except sqlite3.Error:
        return []


def _keep(file: Path, folder: Path, fresh: Mapping[str, tuple[str, _Entry]], gone: Iterable[str]) -> None:
    """Put what was read into the index, and take out runs that are no longer there."""
    gone = list(gone)
    if not fresh and not gone:
        return
    # The index saves time and nothing else: where it cannot be kept, the records are read again next time.
    with suppress(OSError, sqlite3.Error):
        file.parent.mkdir(parents=True, exist_ok=True)
        if _is_damaged(file):
            set_aside(file)
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


def _write(file: Path, folder: Path, fresh: Mapping[str, tuple[str, _Entry]], gone: Sequence[str]) -> None:
    key = _key(folder)
    with closing(sqlite3.connect(file, timeout=_WAIT_S)) as database, database:
        database.execute("BEGIN IMMEDIATE")
        if _version(database) != _VERSION:
            for table in ("runs", "contents"):
                database.execute(f"DROP TABLE IF EXISTS {table}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        for sql in _CREATE:
            database.execute(sql)
        database.executemany(
            "DELETE FROM runs WHERE folder = ? AND name = ?", [(key, os.fsencode(name)) for name in gone]
        )
        rows = [(key, os.fsencode(name), stamp, entry.digest) for name, (stamp, entry) in fresh.items()]
        database.executemany("INSERT OR REPLACE INTO runs (folder, name, stamp, digest) VALUES (?, ?, ?, ?)", rows)
        names = [field.name for field in fields(_Entry)]
        places = ", ".join("?" * len(names))
        contents = [[getattr(entry, name) for name in names] for _, entry in fresh.values()]
        database.executemany(f"INSERT OR REPLACE INTO contents ({_COLUMNS}) VALUES ({places})", contents)  # noqa: S608
        database.execute("DELETE FROM contents WHERE digest NOT IN (SELECT digest FROM runs)")


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _key(folder: Path) -> bytes:
    return os.fsencode(folder.resolve())


_COLUMNS = ", ".join(field.name for field in fields(_Entry))
_FIELDS = (
    [field.name for kind in (Summary, _Entry) for field in fields(kind)],
    list(Score.model_fields),
    list(Cost.model_fields),
)
_VERSION = zlib.crc32(repr((_MEANING, SCHEMA_VERSION, _FIELDS)).encode()) >> 1
"""Version of what the index holds: an index of another version is made anew. Below 2**31, as SQLite wants it."""
