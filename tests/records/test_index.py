"""The index is never the truth: whatever happens to it or to the records, what is read is what the records say."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.errors import BenchError
from bench.records import index
from bench.records.index import INDEX_NAME, examine, read_runs
from bench.records.summary import Summary
from bench.records.tables.outcomes import aligned


@pytest.fixture
def results(make_record, save_run, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for number, model in enumerate(["a", "b", "c"]):
        record = make_record(model=model, correct=200 + number, notes=["läuft"], failed=number, n=500 - number)
        save_run(folder, record.model_copy(update={"hardware": {"device": "cuda:0"}}))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose files were read, by name."""
    seen: list[str] = []

    def spy(path: Path):
        seen.append(path.parent.name)
        return examine(path)

    monkeypatch.setattr(index, "examine", spy)
    return seen


def truth(folder: Path) -> list[Summary | BenchError]:
    return [examine(path) for path in sorted(folder.glob("*/record.json"))]


def test_the_index_gives_what_the_records_hold(results: Path, reads: list[str], tmp_path: Path) -> None:
    first = read_runs([results], tmp_path / "i.sqlite")
    assert len(reads) == 3
    assert read_runs([results], tmp_path / "i.sqlite") == first == truth(results)
    assert len(reads) == 3


def test_only_what_has_changed_is_read_again(make_record, save_run, results: Path, reads: list[str]) -> None:
    read_runs([results])
    reads.clear()
    save_run(results, make_record(run_id="run-new"))
    changed = results / "run-1" / "record.json"
    changed.write_text(changed.read_text().replace('"model":"b"', '"model":"B"'))
    assert [entry.model for entry in read_runs([results])] == ["a", "B", "c", "random"]
    assert sorted(reads) == ["run-1", "run-new"]


def test_a_change_that_keeps_size_and_time_is_seen(results: Path) -> None:
    read_runs([results])
    changed = results / "run-0" / "record.json"
    before = changed.stat()
    changed.write_text(changed.read_text().replace('"model":"a"', '"model":"z"'))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    assert read_runs([results])[0].model == "z"


def test_runs_that_are_gone_leave_the_index(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "i.sqlite"
    read_runs([results], file)
    (results / "run-0").rename(tmp_path / "elsewhere")
    assert [entry.model for entry in read_runs([results], file)] == ["b", "c"]
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT COUNT(*) FROM runs").fetchone() == (2,)


def test_predictions_that_come_later_are_found(results: Path, tmp_path: Path) -> None:
    predictions = results / "run-0" / "predictions.parquet"
    predictions.rename(tmp_path / "away.parquet")
    assert "predictions.parquet is missing" in str(read_runs([results])[0])
    (tmp_path / "away.parquet").rename(predictions)
    assert read_runs([results])[0].outcomes[0].right.bit_count() == 200


@pytest.mark.parametrize("damage", [b"no database", b"", "truncated", "other version", "other table"])
def test_a_damaged_index_is_made_anew(results: Path, reads: list[str], tmp_path: Path, damage: bytes | str) -> None:
    file = tmp_path / "i.sqlite"
    expected = read_runs([results], file)
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        with sqlite3.connect(file) as database:
            change = "PRAGMA user_version = 1" if damage == "other version" else "ALTER TABLE runs RENAME TO races"
            database.execute(change)
    assert read_runs([results], file) == expected
    reads.clear()
    assert read_runs([results], file) == expected
    assert reads == []


def test_a_cache_that_cannot_be_written_costs_only_time(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert read_runs([results], tmp_path / "file" / INDEX_NAME) == truth(results)


def test_a_locked_index_costs_only_time(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_WAIT_S", 0.01)
    file = tmp_path / "i.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert read_runs([results], file) == truth(results)
    assert file.exists()


def test_nothing_is_written_beside_the_records(results: Path) -> None:
    before = sorted(results.rglob("*"))
    read_runs([results])
    assert sorted(results.rglob("*")) == before


def test_a_score_that_its_predictions_contradict_is_refused(make_record, save_run, tmp_path: Path) -> None:
    save_run(tmp_path, make_record(correct=300, n=500), right=[True] * 299 + [False] * 201)
    (problem,) = read_runs([tmp_path])
    assert "299 of 500 are right, and the record says 300 of 500" in str(problem)


@pytest.mark.parametrize("content", [b"", b"PAR1 no more"])
def test_a_record_with_damaged_predictions_is_named_and_left_out(results: Path, content: bytes) -> None:
    (results / "run-1" / "predictions.parquet").write_bytes(content)
    for _ in range(2):
        found = read_runs([results])
        assert [entry.model for entry in found if isinstance(entry, Summary)] == ["a", "c"]
        (problem,) = (entry for entry in found if isinstance(entry, BenchError))
        assert problem.where.endswith("run-1/predictions.parquet") and "not readable predictions" in str(problem)


def test_what_came_of_a_run_is_remembered_by_the_content_of_its_files(
    results: Path, reads: list[str], tmp_path: Path
) -> None:
    spoilt = results / "run-1" / "record.json"
    spoilt.write_text(spoilt.read_text().replace('"correct":201', '"correct":202'))
    file = tmp_path / "i.sqlite"
    found = read_runs([results], file)
    assert sorted(reads) == ["run-0", "run-1", "run-2"]
    shutil.copytree(results, tmp_path / "copy")
    copied = read_runs([tmp_path / "copy"], file)
    assert len(reads) == 3, "copies are not examined again, and neither is what contradicts itself"
    assert copied[0].content == found[0].content and copied[0].outcomes[0].path.is_relative_to(tmp_path / "copy")
    assert (copied[1].what, copied[1].where) == (found[1].what, str(tmp_path / "copy" / "run-1" / "record.json"))


def test_outcomes_of_other_orders_and_samples_are_compared_sample_by_sample(make_record, save_run, tmp_path) -> None:
    def outcomes(right: list[bool], ids: str):
        record = make_record(correct=sum(right), n=len(right))
        return examine(save_run(tmp_path, record, right, ids=list(ids))).outcomes[0]

    same = [outcomes([True, False, True], "abc"), outcomes([False, False, True], "abc")]
    assert aligned(same) == (same, None)
    others, _ = aligned([outcomes([True, False, True], "abc"), outcomes([True, True, False, True], "dcba")])
    assert [run.n for run in others] == [3, 3]
    assert [f"{run.right:03b}"[::-1] for run in others] == ["101", "101"]


def test_samples_of_one_video_are_known_by_number(make_record, save_run, tmp_path: Path) -> None:
    def outcomes(ids: str, videos: list[int]):
        record = make_record(correct=1, n=len(ids))
        path = save_run(tmp_path, record, ids=list(ids))
        table = pq.read_table(path.with_name("predictions.parquet"))
        pq.write_table(table.append_column("video", pa.array(videos)), path.with_name("predictions.parquet"))
        for _ in range(2):
            (entry,) = (run for run in read_runs([tmp_path]) if run.run_id == record.run_id)
        return entry.outcomes[0]

    runs = [outcomes("abcd", [0, 0, 1, 1]), outcomes("dca", [5, 5, 6])]
    assert aligned(runs[:1]) == (runs[:1], [0, 0, 1, 1])
    common, videos = aligned(runs)
    assert [run.n for run in common] == [3, 3]
    assert videos == [0, 1, 1]
