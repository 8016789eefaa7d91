"""A record is believed where its parts agree, and its predictions give the same score again."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tampering import Spoil, in_record, in_rows, in_table, said_of, without

from bench.analysis.compare import compare
from bench.analysis.select import load_board, read_evidence
from bench.cli.app import main
from bench.core.errors import BenchError
from bench.metrics.intervals import wilson_interval
from bench.records.index import examine
from bench.records.runs import load_runs
from bench.records.schema import SCHEMA_VERSION, Failure, Head

TABLE = "predictions.parquet"
HITS = [1, 0, 1, 1] * 5
BREAKDOWN = {"metric": "recall", "by": "class", "values": {"left": 100.0}}
UNREAD = Failure(sample="clips/unread.mp4", split="test", reason="cut off")


@pytest.fixture
def run(make_run) -> Path:
    """15 of 20 samples of three classes are right."""
    return make_run(HITS)


def score(**changes: Any) -> Spoil:
    return in_record(lambda record: record["scores"][0].update(changes))


def another(**changes: Any) -> Spoil:
    return in_record(lambda record: record["scores"].append({**record["scores"][0], **changes}))


def table(column: str, change: Any) -> Spoil:
    return in_table(TABLE, column, change)


def all_right(folder: Path) -> None:
    score(value=100.0, correct=20, high=100.0, low=100 * wilson_interval(20, 20).low)(folder)


def relabelled(folder: Path) -> None:
    all_right(folder)
    labels = [row % 3 for row in range(20)]
    table("prediction", lambda rows: labels)(folder)


def head(**facts: Any) -> Spoil:
    return in_record(lambda record: record["heads"].append(Head(lr=0.1, chosen=True, **facts).model_dump()))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (all_right, "15 of 20 are right, and the record says 20 of 20"),
        (relabelled, "5 of 20 predictions are not the most probable class"),
        (score(low=60.0), "the interval of top1 is 60.000000 to"),
        (score(high=99.0), "15 of 20 right give"),
        (score(interval="by eye"), "their interval is 'Wilson, 95 %', and the record calls it 'by eye'"),
        (score(metric="top5"), "no metric top5 is known here"),
        (score(metric="frame-mAP@0.5", correct=None), f"{TABLE} contradicts it (it is no table of frame-mAP@0.5"),
        (score(n=21, value=100 * 15 / 21), "the interval of top1"),
        (score(correct=None), "15 of 20 are right, and the record says 20"),
        (score(failed=3), "failed is 3, and 0 test samples are listed under failures"),
        (another(), "several scores of top1"),
        (another(metric="top5"), "the record has 2: top5 too"),
        (in_record(lambda record: record.update(scores=[])), "holds no score"),
        (without(TABLE), f"{TABLE} is missing, so no score of it can be checked"),
        (lambda folder: (folder / TABLE).write_bytes((folder / TABLE).read_bytes()[:99]), "not readable predictions"),
        (table("sample", lambda rows: [rows[0]] * 4 + rows[4:]), "sample clips/00000.mp4 is there 4 times"),
        (table("label", lambda rows: [(row + 1) % 3 for row in rows]), "are right, and the record says 15 of 20"),
        (table("label", lambda rows: [9, *rows[1:]]), "labels are 0 to 9, and the record has 3 classes"),
        (table("label", lambda rows: [None, *rows[1:]]), "'label' has gaps"),
        (table("prediction", lambda rows: rows[::-1]), "predictions are not the most probable class"),
        (table("probabilities", lambda rows: [row[::-1] for row in rows]), "are not the most probable class"),
        (table("probabilities", lambda rows: [[2 * p for p in row] for row in rows]), "do not add up to 1"),
        (table("probabilities", lambda rows: [[p / 2 for p in row] for row in rows]), "do not add up to 1"),
        (table("probabilities", lambda rows: [[math.nan] * 3, *rows[1:]]), "1 samples are not finite"),
        (table("probabilities", lambda rows: [[math.inf, 0, 0], *rows[1:]]), "1 samples are not finite"),
        (table("probabilities", lambda rows: [[2.0, -1.0, 0.0], *rows[1:]]), "1 samples are not finite"),
        (table("probabilities", lambda rows: [row[:2] for row in rows]), "probabilities of 2 classes"),
        (table("probabilities", lambda rows: [[1.0], *rows[1:]]), "no list of equally many numbers"),
        (table("probabilities", lambda rows: [None, *rows[1:]]), "no list of equally many numbers"),
        (in_rows(TABLE, lambda rows: rows[:19]), "of 19 are right, and the record says 15 of 20"),
        (in_rows(TABLE, lambda rows: []), "it has no rows"),
        (
            in_record(lambda record: record.update(failures=[UNREAD.model_dump()] * 5)),
            "failed is 0, and 5 test samples",
        ),
        (in_record(lambda record: record["breakdowns"].append(BREAKDOWN)), "recall does not follow from it"),
        (in_record(lambda record: record.update(num_classes=4)), "num_classes is 4, and 3 classes have names"),
        (in_record(lambda record: record["class_names"].append("down")), "num_classes is 3, and 4"),
        (in_record(lambda record: record.update(schema_version=SCHEMA_VERSION + 1)), "written by a newer version"),
        (in_record(lambda record: record.update(schema_version=99.0)), "written by a newer version"),
        (head(test_accuracy=75.0), "chosen on the test split, and selected_on_test is false"),
        (
            in_record(lambda record: record["notes"].append("selected on test: the best of 20")),
            "selected_on_test is fal",
        ),
        (
            in_record(lambda record: record["resolved"].update(recipe={"selection": {"chosen_on": "test"}})),
            "selected_on_test is false",
        ),
    ],
)
def test_a_record_that_contradicts_itself_is_left_out(run: Path, tmp_path: Path, spoil: Spoil, said: str) -> None:
    found = said_of(run, spoil, tmp_path)
    assert said in found and found.startswith("its score" if "top5 is known" in said else "left out: ")


def test_a_sample_that_could_not_be_read_has_no_answer(make_run, tmp_path: Path) -> None:
    def fail(record: dict[str, Any]) -> None:
        record["failures"] = [Failure(sample="clips/00003.mp4", split="test", reason="x").model_dump()]
        record["scores"][0]["failed"] = 1

    said = said_of(make_run(HITS), in_record(fail), tmp_path)
    assert "an answer to clips/00003.mp4, which the record lists under failures" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_record(lambda record: record.update(task="other")), "task other, and digits-motion by its task card"),
        (in_record(lambda record: record.update(axis="appearance")), "axis appearance, and motion by its task card"),
        (in_record(lambda record: record.update(probe="linear")), "probe linear, and attentive by its recipe"),
        (in_record(lambda record: record.update(seed=7)), "seed 7, and 0 by its arguments"),
        (in_record(lambda record: record.update(protocol="x/1")), "protocol x/1, and attentive/1 1x1 center by probe"),
        (in_record(lambda record: record["digests"].update(encoder="f" * 16)), "weights ffffffffffffffff"),
        (in_record(lambda record: record["class_names"].reverse()), "other class names, or in another order"),
    ],
)
def test_names_that_contradict_a_record_are_a_doubt_beside_its_score(
    make_run, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    resolved = {"task": {"name": "digits-motion", "axis": "motion"}, "recipe": {"name": "attentive"}}
    run = make_run(HITS, resolved=resolved, arguments={"seed": 0})
    record = json.loads((run / "record.json").read_text())
    facts = {name: record[name] for name in ("task", "protocol", "input")} | {"encoder": record["digests"]["encoder"]}
    facts["classes"] = json.dumps(record["class_names"])
    save_file({"weight": np.zeros(1, np.float32)}, run / "probe.safetensors", facts)
    doubt = said_of(run, spoil, tmp_path)
    assert doubt.startswith("the record contradicts ") and said in doubt
    shutil.rmtree(run)
    board, problems = load_board([tmp_path])
    assert not problems and set(doubt.split("; ")) <= {note.text for note in board.footnotes}


def nudge(facts: dict[str, Any]) -> None:
    """What another machine might make of the last digits."""
    facts.update({name: facts[name] * (1 + 1e-12) for name in ("value", "low", "high")})


@pytest.mark.parametrize(
    "spoil",
    [
        in_record(lambda record: nudge(record["scores"][0])),
        in_record(lambda record: record.update(schema_version=1)),
        in_record(lambda record: [record.pop(name) for name in ("controls", "fewer_labels", "selected_on_test")]),
        table("probabilities", lambda rows: [[p + 1e-6 for p in row] for row in rows]),
        in_rows(TABLE, lambda rows: rows[::-1]),
        lambda folder: (folder / "notes.txt").write_text("mine"),
        lambda folder: os.utime(folder / "record.json", (0, 0)),
    ],
    ids=[
        "last digits",
        "first schema",
        "without later fields",
        "rounding",
        "another order",
        "a file more",
        "an old time",
    ],
)
def test_what_contradicts_nothing_is_believed(run: Path, tmp_path: Path, spoil: Spoil) -> None:
    assert said_of(run, spoil, tmp_path) == ""


@pytest.mark.parametrize("shown", ["board", "runs", "plots", "compare"])
def test_every_reader_leaves_out_and_names_the_same(make_run, tmp_path: Path, shown: str) -> None:
    make_run(HITS, model="whole")
    spoilt = make_run(HITS, model="spoilt")
    all_right(spoilt)
    if shown == "compare":
        for name in (str(spoilt), "spoilt"):
            with pytest.raises(BenchError, match="15 of 20 are right"):
                compare(name, "whole", [tmp_path / "results"])
        return
    read = {"board": load_board, "runs": load_runs, "plots": read_evidence}[shown]
    found, (problem,) = read([tmp_path / "results"])
    models = [row.label for row in found.rows] if shown == "board" else [run.record.model for run in found]
    assert models == ["whole"] and problem.where == str(spoilt / "record.json") and "15 of 20 are right" in problem.what


def called(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "command",
    [
        ["leaderboard"],
        ["report", "-o", "report.html"],
        ["plot", "bars", "-o", "bars.svg"],
        ["check", "--baseline", "baseline.json", "--update"],
    ],
    ids=lambda command: command[0],
)
def test_strict_commands_end_with_2_where_a_record_is_left_out(
    make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(HITS, model="whole")
    assert called([*command, "--strict"], monkeypatch) == 0
    all_right(make_run(HITS, model="spoilt"))
    capsys.readouterr()
    assert called(command, monkeypatch) == 0
    assert "bench: skipped results/" in capsys.readouterr().err
    assert called([*command, "--strict"], monkeypatch) == 2


def test_a_folder_is_verified_record_by_record(
    make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = make_run(HITS)
    assert called(["results", "verify"], monkeypatch) == 0
    capsys.readouterr()
    spoilt, doubtful = make_run(HITS), make_run(HITS, arguments={"seed": 3})
    all_right(spoilt)
    shutil.copytree(whole, tmp_path / "results" / "z-copy")
    shutil.copytree(whole, tmp_path / "results" / "z-other")
    in_record(lambda record: record.update(model="other"))(tmp_path / "results" / "z-other")
    assert called(["results", "verify", "results", "--json"], monkeypatch) == 2
    out, err = capsys.readouterr()
    found = {row["path"].split("/")[1]: row for row in json.loads(out)}
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert verdicts == {
        whole.name: "ok", spoilt.name: "left out", doubtful.name: "in doubt", "z-copy": "ok", "z-other": "left out"
    }  # fmt: skip
    assert "15 of 20 are right" in found[spoilt.name]["reason"] and "both have the run id" in found["z-other"]["reason"]
    assert len(err.splitlines()) == 1 and f"results/{spoilt.name}/record.json: 3 of 5 records" in err


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_records_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    if made:
        (tmp_path / "none").mkdir()
    assert called(["results", "verify", str(tmp_path / "none")], monkeypatch) == 2


def test_the_files_of_a_run_are_enough_wherever_it_lies(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert not isinstance(examine(Path("record.json")), BenchError)
