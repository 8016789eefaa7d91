"""Runs in any metric are compared, ranked, gated and reported, by whole videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from made_answers import FORMS_MADE, write_made_run
from support import Run

from bench.analysis.compare import compare
from bench.analysis.gate import Check, check, renew
from bench.analysis.select import Choice, load_board
from bench.analysis.sheet import lay_out
from bench.core.errors import BenchError
from bench.metrics.metric import FORMS
from bench.metrics.motion_share import Reading
from bench.records.baseline import read_baseline
from bench.records.recomputed import read_seeds
from bench.records.runs import load_runs
from bench.records.tables import FILES
from bench.records.verified import verify_folder

OTHERS = [form for form in FORMS if form != "classes"]
Write = Callable[..., Path]


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def write(make_record: Any, results: Path) -> Write:
    """Write the run of one model of a skill; its answers differ from other models' video by video."""

    def written(form: str, model: str, skill: float = 1.0, *, into: Path | None = None, **fields: Any) -> Path:
        seed = fields.get("seed", 0)
        answers = FORMS_MADE[form](0, sum(map(ord, model)) + seed + fields.pop("again", 0), skill, 10)
        lost = fields.pop("lost", ())
        answers = answers.of([sample for sample in answers.samples if sample not in lost])
        return write_made_run(make_record, into or results, form, answers=answers, failures=lost, model=model, **fields)

    return written


def test_a_far_better_model_is_better_and_an_equal_one_is_not_told_apart(form: str, write: Write, results) -> None:
    for model, skill in (("good", 3.0), ("bad", -2.0), ("twin", 3.0)):
        write(form, model, skill)
    found = compare("good", "bad", [results])
    assert found.verdict == "good is better on these samples"
    assert 0 < found.low < found.difference < found.high and found.p_value < 0.01
    assert found.difference == pytest.approx(found.a.value - found.b.value)
    assert found.clusters == 10 and found.wins > found.losses and found.mde is not None
    assert found.classes and found.classes[0].value_a > found.classes[0].value_b
    assert [more.metric for more in found.further] == list(FORMS[form].metrics[1:])
    assert compare("good", "twin", [results]).verdict == "these samples do not tell the two apart"


def test_seeds_are_paired_and_their_mean_is_compared(form: str, write: Write, results: Path) -> None:
    for seed in (0, 1, 2):
        write(form, "good", 3.0, seed=seed)
        write(form, "bad", -2.0, seed=seed)
    found = compare("good", "bad", [results])
    each = [compare(run_a, run_b, [results]) for run_a, run_b in zip(found.a.run_ids, found.b.run_ids, strict=True)]
    assert found.seeds == [0, 1, 2] and found.clusters == 10
    assert found.difference == pytest.approx(sum(one.difference for one in each) / 3)


def test_samples_that_one_run_could_not_read_are_left_out_of_both(form: str, write: Write, results: Path) -> None:
    whole = write(form, "good", 3.0)
    samples = sorted(_answers(whole).samples)
    write(form, "bad", -2.0, lost=samples[:2])
    found = compare("good", "bad", [results])
    assert found.n == len(samples) - 2 and "2 samples that not every run could read are left out" in found.notes
    board, _ = load_board([results], choice=Choice(reference="bad"))
    (row,) = [row for row in board.rows if row.label == "good"]
    change = row.cells[board.columns[0]].difference
    assert change is not None and change.low is not None and change.value == pytest.approx(found.difference)


def test_other_truth_of_the_same_samples_is_refused(form: str, make_record: Any, results: Path) -> None:
    for seed, model in ((0, "one"), (1, "other")):
        write_made_run(make_record, results, form, answers=FORMS_MADE[form](seed, 0, 1.0, 10), model=model)
    with pytest.raises(BenchError, match="labels of test samples differ, such as"):
        compare("one", "other", [results])


def test_ranks_and_differences_stand_on_the_board(form: str, write: Write, results: Path) -> None:
    for model, skill in (("good", 3.0), ("twin", 3.0), ("bad", -2.0)):
        write(form, model, skill)
    board, problems = load_board([results], choice=Choice(reference="bad"))
    assert not problems and [column.metric for column in board.columns] == sorted(FORMS[form].metrics)
    for column in board.columns:
        cells = {row.label: row.cells[column] for row in board.rows}
        assert {model: cell.rank for model, cell in cells.items()} == {"good": 1, "twin": 1, "bad": 3}
        change = cells["good"].difference
        assert change is not None and change.low is not None and 0 < change.low < change.value
    first = next(column for column in board.columns if column.metric == FORMS[form].metrics[0])
    change = next(row.cells[first].difference for row in board.rows if row.label == "good")
    found = compare("good", "bad", [results])
    assert asdict(change) == pytest.approx({"value": found.difference, "low": found.low, "high": found.high})
    (said,) = (words for mark, words in lay_out(board).legend if mark == "#")
    assert ("McNemar" in said) == (form == "classes") and ("sign flips" in said) == (form != "classes")


@pytest.fixture
def gate(write: Write, results: Path, tmp_path: Path) -> Callable[..., Check]:
    """The verdict on a model that was of one skill and is of another."""

    def judged(form: str, then: float, now: float, margin: float = 1.0, **fields: Any) -> Check:
        write(form, "model", then, into=tmp_path / "then")
        renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
        write(form, "model", now, **fields)
        return check(read_baseline(tmp_path / "baseline.json"), load_runs([results])[0], margin=margin)

    return judged


@pytest.mark.parametrize(
    ("then", "now", "status"), [(1.0, 1.0, "pass"), (3.0, -2.0, "regression"), (-2.0, 3.0, "pass")]
)
def test_a_fall_is_a_regression_in_every_metric(form: str, gate: Any, then: float, now: float, status: str) -> None:
    found = gate(form, then, now)
    assert [row.metric for row in found.tasks] == list(FORMS[form].metrics)
    assert {row.status for row in found.tasks} == {status} and found.status == status
    assert all(row.paired and row.value is not None for row in found.tasks)
    assert not found.notes or all("do not say" in note for note in found.notes)


def test_a_small_change_that_few_videos_cannot_tell_is_not_guessed(form: str, gate: Any) -> None:
    row = gate(form, 1.0, 1.0, margin=0.1, again=3).tasks[0]
    assert row.status == "unknown" and "neither a drop is shown" in row.reason and row.low < row.difference < row.high


def test_other_samples_cannot_be_told(form: str, gate: Any) -> None:
    lost = [sorted(FORMS_MADE[form](0, 0, 1.0, 10).samples)[0]]
    found = gate(form, 1.0, 1.0, lost=lost)
    assert found.status == "unknown" and "other test samples or labels" in found.tasks[0].reason


@pytest.mark.parametrize("form", OTHERS)
def test_a_row_that_was_written_by_hand_is_compared_with_more_doubt(form: str, gate: Any, tmp_path, results) -> None:
    gate(form, 3.0, -2.0)
    path = tmp_path / "baseline.json"
    content = json.loads(path.read_text())
    keep = {"task", "model", "probe", "protocol", "metric", "seed", "value", "correct", "n"}
    content["rows"] = [{name: row[name] for name in keep} for row in content["rows"]]
    path.write_text(json.dumps(content))
    found = check(read_baseline(path), load_runs([results])[0])
    assert found.tasks[0].status == "regression" and not found.tasks[0].paired


def test_an_update_holds_every_metric_and_passes_over_what_has_no_tables(
    write: Write, results: Path, tmp_path: Path, bench_command: Run
) -> None:
    for form in FORMS:
        write(form, "model")
    bare = write("boxes", "bare")
    for name in FILES["boxes"]:
        (bare / name).unlink()
    given = ["check", "--baseline", str(tmp_path / "b.json"), "--results", str(results)]
    updated = bench_command(*given, "--update")
    rows = read_baseline(tmp_path / "b.json").rows
    assert sorted(row.metric for row in rows) == sorted(name for form in FORMS.values() for name in form.metrics)
    words = "not gated, because detections.parquet is not beside the record: bare on made-boxes"
    assert updated.returncode == 0 and words in updated.stderr
    checked = bench_command(*given, "--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md")
    assert checked.returncode == 0 and "made-ranked, attentive, noun-recall@5" in " ".join(checked.stdout.split())
    assert "noun-recall@5" in (tmp_path / "junit.xml").read_text()


def test_the_command_prints_a_comparison(form: str, write: Write, results: Path, bench_command: Run) -> None:
    for model, skill in (("good", 3.0), ("bad", -2.0)):
        write(form, model, skill)
    said = " ".join(bench_command("compare", "good", "bad", "--results", results).stdout.split())
    assert "good is better on these samples" in said and "A − B" in said
    assert ("videos add more to A" in said) == (form != "classes")
    board = bench_command("leaderboard", "--results", results, "--reference", "bad")
    assert board.returncode == 0 and f"made-{form}" in board.stdout


def _readings(form: str) -> list[Reading]:
    """Ordered clips tell more than shuffled ones, those more than one frame."""
    skills = {("ordered", "ordered"): 3.0, ("shuffled", "shuffled"): 1.0, ("static", "static"): -1.0}
    skills |= {("shuffled", "ordered"): 0.5}
    return [Reading(*order, FORMS_MADE[form](0, 0, skill, 10), failed=0) for order, skill in skills.items()]  # type: ignore[arg-type]


def test_controls_and_motion_shares_follow_from_the_tables(form: str, make_record: Any, results: Path) -> None:
    readings = _readings(form)
    run = write_made_run(make_record, results, form, readings=readings, answers=readings[0].answers)
    record = json.loads((run / "record.json").read_text())
    order, motion = record["motion_shares"]
    assert 0 < order["value"] < motion["value"] and order["low"] <= order["value"] <= order["high"]
    assert 0 < order["chance"] < record["scores"][0]["value"]
    assert [one.verdict for one in verify_folder(results)] == ["ok"]
    assert (run / "controls.parquet").exists() == (form == "classes")
    assert (run / "controls" / "shuffled_by_ordered").is_dir() == (form != "classes")


@pytest.mark.parametrize("part", ["controls", "motion_shares"])
def test_a_control_that_was_changed_is_noticed(form: str, make_record: Any, results: Path, part: str) -> None:
    readings = _readings(form)
    run = write_made_run(make_record, results, form, readings=readings, answers=readings[0].answers)
    assert load_runs([results])[1] == []
    record = json.loads((run / "record.json").read_text())
    if part == "motion_shares":
        record[part][0].update(value=0.01, low=0.0)
    else:
        record[part][2]["score"] = record[part][1]["score"]
    (run / "record.json").write_text(json.dumps(record))
    (found,) = verify_folder(results)
    assert found.verdict == "left out" and "controls" in found.reason


@pytest.mark.parametrize("form", OTHERS)
def test_a_table_of_a_control_that_was_changed_is_noticed_though_its_record_was_not(
    form: str, make_record: Any, results: Path
) -> None:
    readings = _readings(form)
    run = write_made_run(make_record, results, form, readings=readings, answers=readings[0].answers)
    assert len(load_runs([results])[0]) == 1
    for name in FILES[form]:
        shutil.copy(run / name, run / "controls" / "static_by_static" / name)
    _, (problem,) = load_runs([results])
    assert "its controls/static_by_static/" in problem.what and problem.where == str(run / "record.json")


def _answers(run: Path) -> Any:
    from bench.records.schema import read_record

    return read_seeds(run, read_record(run / "record.json"))[0]
