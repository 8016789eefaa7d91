"""The board compares only what may be compared, and says what it left out."""

from __future__ import annotations

import pytest

from bench.analysis.leaderboard import build
from bench.analysis.select import load_board
from bench.core.errors import BenchError
from bench.records.schema import SCHEMA_VERSION, Record
from bench.records.summary import natural


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "attentive/1 1x3 center"},
        {"probe": "knn"},
        {"task": "digits-appearance"},
        {"axis": None},
        {"n": 100, "correct": 60},
        {"num_train": 50},
        {"digests": {"encoder": "0123456789abcdef", "test_list": "another"}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_scores_share_a_column_only_where_they_were_measured_alike(make_record, other) -> None:
    board = build([make_record(), make_record(**other)])
    assert len(board.columns) == 2
    assert len(board.rows) == 1
    assert board.superseded == 0


def test_an_unreadable_sample_opens_no_new_column(make_record) -> None:
    board = build([make_record(), make_record(model="pixels", n=497, failed=3, unread=2)])
    assert len(board.columns) == 1
    assert {note.text for note in board.footnotes} >= {
        "3 of 500 test samples could not be read",
        "2 of 2,000 training samples could not be read",
    }


def test_the_newest_record_of_a_seed_wins_whatever_the_order(make_record) -> None:
    records = [make_record(correct=correct) for correct in (100, 200, 300)]
    for given in (records, records[::-1]):
        board = build(given)
        assert board.superseded == 2
        assert board.rows[0].cells[board.columns[0]].value == 60


@pytest.mark.parametrize(
    "older", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.500000+00:00", "2026-01-02T04:04:05+02:00"]
)
def test_times_are_compared_as_times_not_as_text(make_record, older: str) -> None:
    board = build([make_record(correct=400, created="2026-01-02T03:04:06+00:00"), make_record(created=older)])
    assert board.rows[0].cells[board.columns[0]].value == 80


def test_the_same_record_from_two_folders_counts_once(make_record) -> None:
    record = make_record()
    assert build([record, record.model_copy()]).superseded == 0


def test_seeds_are_averaged_and_their_spread_is_kept_apart(make_record) -> None:
    board = build([make_record(seed=seed, correct=correct) for seed, correct in ((2, 310), (0, 290), (1, 300))])
    cell = board.rows[0].cells[board.columns[0]]
    single = build([make_record(correct=300)]).rows[0].cells[board.columns[0]]
    assert [run.record.seed for run in cell.runs] == [0, 1, 2]
    assert (cell.value, cell.spread) == (pytest.approx(60), pytest.approx(2))
    # The interval holds both: the standard error of the samples, and that of a mean of three trainings.
    error = (((single.high - single.low) / 3.92) ** 2 + 2**2 / 3) ** 0.5
    assert cell.low < 60 < cell.high and cell.high - cell.low == pytest.approx(2 * 2.0 * error, rel=0.05)
    assert single.spread is None


def test_weights_and_inputs_tell_rows_apart(make_record) -> None:
    def labels(*fields: dict) -> set[str]:
        return {row.label for row in build([make_record(model="m", **field) for field in fields]).rows}

    assert labels({}) == {"m"}
    assert labels({"input": "8x16px"}, {"input": "16x16px"}) == {"m (8x16px)", "m (16x16px)"}
    one, two = {"digests": {"encoder": "a" * 64}}, {"digests": {"encoder": "b" * 64}}
    assert labels(one, two) == {"m (weights aaaaaaa)", "m (weights bbbbbbb)"}
    assert labels({"input": "8x16px"}, {"input": "16x16px", "task": "other"}) == {"m"}


def test_means_hold_only_tasks_that_every_row_has(make_record) -> None:
    def scores(model: str, **tasks: int) -> list[Record]:
        return [make_record(model=model, task=task, correct=correct) for task, correct in tasks.items()]

    full = scores("a", ssv2=100, jester=200, diving48=300)
    assert not build(scores("a", ssv2=100)).means
    assert not build([*full, *scores("b", ssv2=100)]).means
    (mean,) = build([*full, *scores("b", ssv2=100, jester=400)]).means
    assert [column.task for column in mean.columns] == ["jester", "ssv2"]
    assert mean.of(build(full).rows[0]) == pytest.approx(30)


def test_means_mix_neither_probes_nor_axes_nor_protocols(make_record) -> None:
    motion = [make_record(task="ssv2"), make_record(task="jester", probe="knn")]
    appearance = [make_record(task="k400", axis="appearance")]
    free = [make_record(task=task, axis=None) for task in ("mine", "yours")]
    twice = [make_record(task="ssv2", protocol="attentive/2"), make_record(task="diving48")]
    assert not build([*motion, *appearance, *free]).means
    assert not build([*motion, *twice]).means


def test_rows_that_share_all_columns_are_sorted_by_their_mean(make_record) -> None:
    records = [make_record(model=model, correct=correct) for model, correct in (("v2", 9), ("v10", 9), ("b", 10))]
    assert [row.label for row in build(records).rows] == ["b", "v2", "v10"]


def test_a_model_of_the_easy_task_alone_stands_below_the_one_that_beats_it_there(make_record) -> None:
    scores = {("right", "easy"): 500, ("right", "hard"): 110, ("worse", "easy"): 340}
    board = build([make_record(model=model, task=task, correct=n) for (model, task), n in scores.items()])
    assert [row.label for row in board.rows] == ["right", "worse"]
    assert "share" in board.order


@pytest.mark.parametrize(
    ("noted", "place"),
    [
        ([("a", "s"), ("a", "t"), ("b", "s"), ("b", "t")], "all"),
        ([("a", "s"), ("a", "t")], "rows"),
        ([("a", "t"), ("b", "t")], "columns"),
        ([("a", "t")], "cells"),
    ],
)
def test_a_note_is_marked_where_it_takes_fewest_marks(make_record, noted, place) -> None:
    board = build(
        [
            make_record(model=model, task=task, notes=["look out"] if (model, task) in noted else [])
            for model in "ab"
            for task in "st"
        ]
    )
    note = next(note for note in board.footnotes if note.text == "look out")
    assert note.place == place
    assert len(note.cells) == len(noted)


def test_load_board_reads_several_folders_and_keeps_the_tasks_asked_for(make_record, save_run, tmp_path) -> None:
    save_run(tmp_path / "one", make_record(task="ssv2"))
    save_run(tmp_path / "two", make_record(task="k400"))
    board, problems = load_board([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "..", tmp_path / "one"])
    assert [column.task for column in board.columns] == ["k400", "ssv2"]
    assert not problems
    board, _ = load_board([tmp_path / "one", tmp_path / "two"], tasks=["k400"])
    assert [column.task for column in board.columns] == ["k400"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "not a readable record"),
        (lambda text: "[]", "not a readable record"),
        (lambda text: text.replace('"seed":0', '"seed":"x"'), "seed: "),
        (lambda text: text.replace('"value":60.0', '"value":NaN'), "scores.0.value: "),
        (lambda text: text.replace('"value":60.0', '"value":160'), "scores.0.value: "),
        (lambda text: text.replace('"created":"2026', '"created":"some day'), "created: "),
        (
            lambda text: text.replace(f'"schema_version":{SCHEMA_VERSION}', '"schema_version":999'),
            "newer version (schema 999",
        ),
    ],
)
def test_an_unreadable_record_is_named_and_the_others_are_shown(
    make_record, save_run, tmp_path, change, message
) -> None:
    save_run(tmp_path, make_record())
    broken = save_run(tmp_path, make_record(model="pixels"))
    before = broken.read_text()
    broken.write_text(change(before))
    assert broken.read_text() != before
    board, problems = load_board([tmp_path])
    assert [row.label for row in board.rows] == ["random"]
    assert [problem.where for problem in problems] == [str(broken)]
    assert message in str(problems[0])


def test_a_run_that_was_never_completed_is_passed_over(make_record, save_run, tmp_path) -> None:
    save_run(tmp_path, make_record(run_id=".run.abc"))
    with pytest.raises(BenchError, match="no records yet"):
        load_board([tmp_path])


def test_a_missing_folder_and_a_misspelt_task_are_errors(make_record, save_run, tmp_path) -> None:
    with pytest.raises(BenchError, match="no such folder"):
        load_board([tmp_path / "nowhere"])
    save_run(tmp_path, make_record(task="ssv2"))
    with pytest.raises(BenchError, match="did you mean 'ssv2'") as caught:
        load_board([tmp_path], tasks=["ssv3"])
    assert "ssv3" in str(caught.value)


def test_natural_order_reads_numbers() -> None:
    assert sorted(["v10", "v2", "V1", "²", "7b"], key=natural) == ["7b", "V1", "v2", "v10", "²"]
