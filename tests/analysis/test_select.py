"""What a user asks the board for: folders, filters, order, a reference; and one clear line where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.board import Leaderboard
from bench.analysis.leaderboard import build
from bench.analysis.select import Choice, arranged, board_of_runs, load_board
from bench.analysis.sheet import lay_out
from bench.core.errors import BenchError


@pytest.fixture
def board(make_record) -> Leaderboard:
    scores = {
        ("vit2", "ssv2", "motion"): 300,
        ("vit2", "k400", "appearance"): 100,
        ("vit10", "ssv2", "motion"): 200,
        ("vit10", "k400", "appearance"): 400,
        ("pixels", "ssv2", "motion"): 250,
    }
    return build(
        [
            make_record(model=model, task=task, axis=axis, correct=correct)
            for (model, task, axis), correct in scores.items()
        ]
    )


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, ["vit2", "pixels", "vit10"]),
        ("ssv2", ["vit2", "pixels", "vit10"]),
        ("ssv2/attentive", ["vit2", "pixels", "vit10"]),
        ("motion", ["vit2", "pixels", "vit10"]),
        ("appearance", ["vit10", "vit2", "pixels"]),
        ("model", ["pixels", "vit2", "vit10"]),
        ("cost", ["pixels", "vit2", "vit10"]),
    ],
)
def test_rows_are_sorted_as_asked(board, sort: str | None, expected: list[str]) -> None:
    assert [row.label for row in arranged(board, Choice(sort=sort)).rows] == expected


def test_sorting_by_an_axis_takes_what_all_models_share(make_record) -> None:
    records = [make_record(model="a", task="ssv2", correct=300), make_record(model="b", task="ssv2", correct=200)]
    easy = make_record(model="b", task="easy", correct=500)
    found = arranged(build([*records, easy]), Choice(sort="motion"))
    assert [row.label for row in found.rows] == ["a", "b"]
    assert found.order == "by the score in ssv2 (attentive/1 1x1 center), which all models share, highest first"


def test_sorting_by_an_axis_mixes_neither_metrics_nor_protocols(make_record) -> None:
    scores = {("a", "attentive"): 300, ("b", "attentive"): 200, ("a", "knn"): 10, ("b", "knn"): 490}
    records = [make_record(model=model, probe=probe, correct=n) for (model, probe), n in scores.items()]
    again = make_record(model="b", protocol="attentive/1 2x3 center", correct=500)
    found = arranged(build([*records, again]), Choice(sort="motion"))
    assert [row.label for row in found.rows] == ["a", "b"]
    assert "the score in digits-motion (attentive/1 1x1 center), which all models share" in found.order


def test_footnotes_go_with_their_rows(make_record) -> None:
    records = [make_record(model="a", correct=400, notes=["look"]), make_record(model="b", correct=300)]
    board = arranged(build(records), Choice(sort="model"))
    turned = arranged(build([records[0], make_record(model="b", correct=450)]), Choice(sort=None))
    assert next(note.cells for note in board.footnotes if note.text == "look") == {(0, 0)}
    assert next(note.cells for note in turned.footnotes if note.text == "look") == {(1, 0)}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(sort="ssv3"), "no column 'ssv3' - did you mean 'ssv2'?"),
        (Choice(sort="modle"), "did you mean 'model'"),
        (Choice(reference="vit3"), "no row 'vit3' - did you mean 'vit2'"),
    ],
)
def test_unknown_columns_and_references_get_the_nearest(board, choice: Choice, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        arranged(board, choice)
    assert message in str(caught.value)


def test_anticipation_is_a_group_to_sort_by(make_record) -> None:
    scores = {("a", "k400", "appearance"): 400, ("b", "k400", "appearance"): 300}
    scores |= {("a", "ek100", "anticipation"): 100, ("b", "ek100", "anticipation"): 200}
    board = build(
        [make_record(model=model, task=task, axis=axis, correct=n) for (model, task, axis), n in scores.items()]
    )
    assert [column.group for column in lay_out(board).columns][:2] == ["Appearance", "Anticipation"]
    assert [row.label for row in arranged(board, Choice(sort="anticipation")).rows] == ["b", "a"]
    assert [row.label for row in arranged(board, Choice(sort="appearance")).rows] == ["a", "b"]


def test_an_axis_without_columns_cannot_be_sorted_by(make_record) -> None:
    with pytest.raises(BenchError, match="no column is about appearance"):
        arranged(build([make_record()]), Choice(sort="appearance"))


def test_a_task_with_several_columns_must_be_named_whole(make_record) -> None:
    board = build([make_record(), make_record(probe="knn"), make_record(probe="knn", protocol="knn/2 1x1 center")])
    with pytest.raises(BenchError, match="'digits-motion' has several columns") as caught:
        arranged(board, Choice(sort="digits-motion"))
    assert "'digits-motion/knn/2 1x1 center'" in str(caught.value)
    assert "knn/2" in arranged(board, Choice(sort="digits-motion/knn/2 1x1 center")).order


def test_a_model_with_several_rows_must_be_named_whole(make_record) -> None:
    digests = [{"encoder": "a" * 64}, {"encoder": "b" * 64}]
    board = build([make_record(model="m", digests=one) for one in digests])
    with pytest.raises(BenchError, match="'m' has several rows"):
        arranged(board, Choice(reference="m"))
    assert arranged(board, Choice(reference="m (weights aaaaaaa)")).reference


def test_filters_keep_models_and_probes_that_match(make_record, save_run, tmp_path: Path) -> None:
    for model in ("vjepa-l", "vjepa-h", "pixels"):
        for probe in ("attentive", "knn"):
            save_run(tmp_path, make_record(model=model, probe=probe))
    board, _ = load_board([tmp_path], choice=Choice(models=["vjepa*"], probes=["knn"]))
    assert {row.label for row in board.rows} == {"vjepa-l", "vjepa-h"}
    assert [column.probe for column in board.columns] == ["knn"]
    for choice, hint in ((Choice(models=["pixel"]), "'pixels'"), (Choice(probes=["kn"]), "'knn'")):
        with pytest.raises(BenchError, match="did you mean") as caught:
            load_board([tmp_path], choice=choice)
        assert hint in str(caught.value)


def test_group_means_are_over_the_rows_that_are_left(make_record, save_run, tmp_path: Path) -> None:
    for model, tasks in (("a", ("ssv2", "jester")), ("b", ("ssv2", "jester")), ("c", ("ssv2",))):
        for task in tasks:
            save_run(tmp_path, make_record(model=model, task=task))
    assert not load_board([tmp_path])[0].means
    assert load_board([tmp_path], choice=Choice(models=["[ab]"]))[0].means


def test_ranks_and_paired_differences_come_from_the_predictions(make_record, save_run, tmp_path: Path) -> None:
    for model, correct in (("best", 450), ("good", 440), ("weak", 200)):
        save_run(tmp_path, make_record(model=model, correct=correct))
    board, problems = load_board([tmp_path], choice=Choice(reference="good"))
    cells = {row.label: row.cells[board.columns[0]] for row in board.rows}
    assert not problems
    assert {name: cell.rank for name, cell in cells.items()} == {"best": 1, "good": 2, "weak": 3}
    assert cells["good"].difference is None
    assert cells["weak"].difference.value == pytest.approx(-48)
    assert cells["weak"].difference.low < -48 < cells["weak"].difference.high


def test_seeds_are_ranked_together(make_record, save_run, tmp_path: Path) -> None:
    for model, correct in (("a", 400), ("b", 300)):
        for seed in range(3):
            save_run(tmp_path, make_record(model=model, seed=seed, correct=correct + seed))
    board, _ = load_board([tmp_path])
    assert [row.cells[board.columns[0]].rank for row in board.rows] == [1, 2]


def test_two_different_runs_with_one_id_are_named_and_the_first_is_kept(make_record, save_run, tmp_path: Path) -> None:
    record = make_record(run_id="same", correct=300)
    first = save_run(tmp_path / "one", record)
    save_run(tmp_path / "copy", record)
    other = save_run(tmp_path / "two", make_record(run_id="same", correct=400))
    board, problems = load_board([tmp_path / "one", tmp_path / "copy", tmp_path / "two"])
    assert board.rows[0].cells[board.columns[0]].value == 60
    (problem,) = problems
    assert problem.where == str(other)
    assert all(word in str(problem) for word in (str(first), "run id same"))


def test_a_board_of_fresh_runs_has_ranks(make_record, save_run, tmp_path: Path) -> None:
    records = [make_record(model=model, correct=correct) for model, correct in (("a", 450), ("b", 300))]
    for record in records:
        save_run(tmp_path, record)
    elsewhere = make_record(model="c", correct=100)
    board = board_of_runs([*records, elsewhere], tmp_path)
    assert [row.cells[board.columns[0]].rank for row in board.rows] == [1, 2, None]
