"""The gate compares what was made under the same conditions: nothing is told of other ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import typer

from bench.analysis.compare import compare
from bench.analysis.gate import Check, check, renew
from bench.cards.load import load_probe_card
from bench.cli.scores import check as command
from bench.core.errors import BenchError
from bench.metrics.score import Score
from bench.records.baseline import read_baseline
from bench.records.runs import load_runs
from bench.report.ci import to_annotations, to_junit, to_markdown

HITS = np.repeat([1, 0], [50, 30])
LEAK = "7 test videos have the same bytes as a training video"
RECIPE = {
    "name": "attentive",
    "title": "A probe",
    "kind": "attentive",
    "optimisation": {"epochs": 20, "lr": [0.1, 0.01]},
    "selection": {"held_out": 0.2, "refit": True},
}


def recipe(section: str, **changes: Any) -> dict[str, Any]:
    return {"recipe": {**RECIPE, section: {**RECIPE[section], **changes}}}


@pytest.fixture
def baseline(make_run, tmp_path: Path) -> Path:
    """Of one run of one seed."""
    make_run(HITS, results=tmp_path / "then", resolved={"recipe": RECIPE})
    return renewed(tmp_path)


def renewed(tmp_path: Path) -> Path:
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    return tmp_path / "baseline.json"


def checked(baseline: Path, accept_training_data: bool = False) -> Check:
    runs, _ = load_runs([baseline.parent / "results"])
    return check(read_baseline(baseline), runs, accept_training_data=accept_training_data)


TRAINING = {
    "list": ({"digests": {"train_list": "other"}}, "train_list other / b in the baseline"),
    "not said": ({"digests": {"train_list": ""}}, "train_list (none) / b in the baseline"),
    "a probe that was given": ({"digests": {"train_list": "", "probe": "p"}}, "train_list p / b in the baseline"),
    "unreadable samples": ({"num_train": 1990}, "1,990 samples read / 2,000 in the baseline"),
    "test videos": ({"notes": ["x", LEAK]}, f"{LEAK} / 0 in the baseline"),
}
MEASUREMENT = {
    "epochs": ({"resolved": recipe("optimisation", epochs=2)}, "recipe: optimisation.epochs 2 / 20 in the baseline"),
    "sweep": ({"resolved": recipe("optimisation", lr=[0.1])}, "optimisation.lr [0.1] / [0.1, 0.01]"),
    "hold-out": ({"resolved": recipe("selection", held_out=0.5)}, "selection.held_out 0.5 / 0.2"),
    "a setting that is new": ({"resolved": recipe("selection", k=1)}, "selection.k 1 / null"),
    "no recipe": ({"resolved": {}}, "none recorded"),
    "names of classes": ({"class_names": ["up", "left", "right"]}, "other classes, or in another order"),
}


@pytest.mark.parametrize(
    ("fields", "words"), [*TRAINING.values(), *MEASUREMENT.values()], ids=[*TRAINING, *MEASUREMENT]
)
def test_other_conditions_cannot_be_told(baseline: Path, make_run, fields: dict[str, Any], words: str) -> None:
    make_run(HITS, **{"resolved": {"recipe": RECIPE}, **fields})
    found = checked(baseline)
    assert (found.exit_code, found.tasks[0].value) == (2, None)
    assert words in found.tasks[0].reason


@pytest.mark.parametrize(("fields", "words"), TRAINING.values(), ids=TRAINING)
def test_other_training_data_are_compared_where_they_are_accepted(baseline: Path, make_run, fields, words: str) -> None:
    make_run(HITS, resolved={"recipe": RECIPE}, **fields)
    found = checked(baseline, accept_training_data=True)
    assert found.status == "pass"
    assert any(note.startswith("random on digits-motion: accepted") and words in note for note in found.notes)


@pytest.mark.parametrize(("fields", "words"), MEASUREMENT.values(), ids=MEASUREMENT)
def test_other_settings_and_classes_are_never_accepted(baseline: Path, make_run, fields, words: str) -> None:
    make_run(HITS, **{"resolved": {"recipe": RECIPE}, **fields})
    assert words in checked(baseline, accept_training_data=True).tasks[0].reason


def test_words_of_a_recipe_are_no_settings(baseline: Path, make_run) -> None:
    make_run(HITS, resolved={"recipe": {**RECIPE, "title": "The probe", "caveat": "Slow."}})
    found = checked(baseline)
    assert (found.status, found.notes) == ("pass", [])


def test_a_setting_that_an_older_record_does_not_know_is_as_usual(make_run, tmp_path: Path) -> None:
    card = load_probe_card("attentive").model_dump(mode="json")
    older = {key: value for key, value in card.items() if key != "num_blocks"}
    make_run(HITS, results=tmp_path / "then", resolved={"recipe": older})
    make_run(HITS, resolved={"recipe": card})
    assert checked(renewed(tmp_path)).status == "pass"


def test_the_newest_run_is_judged_even_where_an_older_one_fits(baseline: Path, make_run) -> None:
    make_run(HITS, resolved={"recipe": RECIPE})
    make_run(HITS, resolved={"recipe": RECIPE}, notes=[LEAK])
    assert checked(baseline).exit_code == 2


def test_a_probe_that_was_given_is_held_against_itself(make_run, tmp_path: Path) -> None:
    given = {"probe": "weights#1", "protocol": "weights#1 1x1 center", "num_train": 0}
    for results, digest in (("then", "p"), ("results", "p"), ("other/results", "q")):
        make_run(HITS, results=tmp_path / results, digests={"train_list": "", "probe": digest}, **given)
    assert checked(renewed(tmp_path)).notes == []
    runs, _ = load_runs([tmp_path / "other" / "results"])
    assert "other training data" in check(read_baseline(tmp_path / "baseline.json"), runs).tasks[0].reason


def test_test_videos_that_were_trained_on_then_and_now_are_named(make_run, tmp_path: Path) -> None:
    make_run(HITS, results=tmp_path / "then", notes=[LEAK])
    make_run(HITS, notes=[LEAK])
    found = checked(renewed(tmp_path))
    assert found.status == "pass"
    assert found.notes == [f"random on digits-motion: {LEAK}, as in the baseline"]
    assert dataclasses.asdict(found)["tasks"][0]["notes"] == (f"{LEAK}, as in the baseline",)
    assert LEAK in to_markdown(found) and any(LEAK in line for line in to_annotations(found))
    suite = ElementTree.fromstring(to_junit(found))[0]  # noqa: S314 - what this test made itself
    assert [LEAK in (part.findtext("system-out") or "") for part in (suite, suite[0])] == [True, True]
    make_run(HITS, notes=[LEAK], digests={"train_list": "other"})
    found = checked(tmp_path / "baseline.json", accept_training_data=True)
    assert len(found.notes) == 2 and f"{LEAK}, as in the baseline" in found.notes[1]


def aged(path: Path) -> Path:
    """The baseline as the first version wrote it."""
    content = json.loads(path.read_text())
    for row in content["rows"]:
        del row["conditions"], row["num_seeds"]
    path.write_text(json.dumps({**content, "schema_version": 1}))
    return path


def test_an_older_baseline_is_read_and_says_what_it_does_not_know(baseline: Path, make_run) -> None:
    make_run(HITS, digests={"train_list": "other"})
    found = checked(aged(baseline))
    assert found.status == "pass"
    assert found.notes == [
        "1 of 1 rows of the baseline do not say what their probes were trained on, so that is not compared; --update "
        "keeps it"
    ]


def test_test_videos_that_were_trained_on_fail_an_older_baseline(baseline: Path, make_run) -> None:
    make_run(HITS, notes=[LEAK])
    found = checked(aged(baseline))
    assert found.exit_code == 2 and f"{LEAK}, and the baseline does not say" in found.tasks[0].reason
    assert checked(baseline, accept_training_data=True).status == "pass"


def test_only_the_rows_of_other_conditions_cannot_be_told(make_run, tmp_path: Path) -> None:
    for task in ("one", "two"):
        make_run(HITS, task=task, results=tmp_path / "then")
        make_run(HITS, task=task, digests={"train_list": "other" if task == "two" else "b"})
    found = checked(renewed(tmp_path))
    assert [(row.task, row.status) for row in found.tasks] == [("one", "pass"), ("two", "unknown")]
    assert found.exit_code == 2


def test_seeds_besides_those_of_the_baseline_are_named(baseline: Path, make_run) -> None:
    for seed in (0, 3, 2):
        make_run(HITS, seed=seed, resolved={"recipe": RECIPE})
    found = checked(baseline)
    assert (found.status, found.tasks[0].seeds) == ("pass", [0])
    assert found.notes == ["random on digits-motion: seeds that the baseline does not have: 2, 3"]


def row_a_seed(path: Path) -> Path:
    """The baseline as the third version wrote it."""
    content = json.loads(path.read_text())
    rows = []
    for row in content["rows"]:
        for place, seed in enumerate(row.pop("seeds")):
            right = round(row["values"][place] * row["n"] / 100)
            lists = {name: row[name] and row[name][place] for name in ("outcomes", "resampled", "predictions")}
            rows.append({**row, **lists, "seed": seed, "value": row["values"][place], "correct": right})
    content["rows"] = [{name: value for name, value in row.items() if name != "values"} for row in rows]
    path.write_text(json.dumps({**content, "schema_version": 3}))
    return path


def test_rows_of_one_seed_each_are_seeds_of_one_model(make_run, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(HITS, seed=seed, results=tmp_path / "then")
        make_run(1 - np.array(HITS) if seed else HITS, seed=seed)
    path = renewed(tmp_path)
    expected = checked(path)
    assert expected.tasks[0].seeds == expected.tasks[0].seeds_now == [0, 1] and not expected.tasks[0].one_probe
    assert checked(row_a_seed(path)) == expected


@pytest.mark.parametrize("kept", [[0], [0, 1, 1]], ids=["one is gone", "one is twice"])
def test_a_baseline_of_other_rows_than_were_written_cannot_be_told(make_run, tmp_path: Path, kept: list[int]) -> None:
    for seed in (0, 1):
        make_run(HITS, seed=seed, results=tmp_path / "then")
        make_run(HITS, seed=seed)
    path = row_a_seed(renewed(tmp_path))
    content = json.loads(path.read_text())
    content["rows"] = [content["rows"][number] for number in kept]
    path.write_text(json.dumps(content))
    assert f"written with 2 seeds, and has {len(kept)}" in checked(path).tasks[0].reason


@pytest.fixture
def add_map(make_record):
    """Write a record whose score is a mean of precisions, or of recalls, without outcomes of single samples."""

    def add(results: Path, metric: str, **fields: Any) -> None:
        score = Score(
            metric=metric, value=12.0, low=11.0, high=13.0, correct=None, n=90, failed=0, interval="bootstrap"
        )
        record = make_record(scores=[score], **fields)
        (results / record.run_id).mkdir(parents=True)
        (results / record.run_id / "record.json").write_text(record.model_dump_json())

    return add


@pytest.mark.parametrize(("task", "metric"), [("ava", "frame-mAP@0.5"), ("ek100", "action-recall@5")])
def test_a_score_that_cannot_be_paired_stops_no_other(
    make_run, add_map, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, metric: str
) -> None:
    make_run(HITS)
    add_map(tmp_path / "results", metric, task=task)
    command(tmp_path / "baseline.json", [tmp_path / "results"], update=True)
    table = "detections.parquet" if task == "ava" else "top5.parquet"
    words = f"not gated, because {table} is not beside the record: random on {task}"
    assert capsys.readouterr().err.splitlines()[-1] == f"bench: {words}"
    assert [row.task for row in read_baseline(tmp_path / "baseline.json").rows] == ["digits-motion"]
    found = checked(tmp_path / "baseline.json")
    assert (found.status, found.notes) == ("pass", [words])


def test_a_folder_without_scores_that_can_be_paired_makes_no_baseline(add_map, tmp_path: Path) -> None:
    add_map(tmp_path / "then", "frame-mAP@0.5", task="ava")
    with pytest.raises(BenchError, match=r"no readable record.*detections.parquet is not beside the record"):
        renewed(tmp_path)


def test_a_row_of_such_a_score_that_was_written_by_hand_cannot_be_told(baseline: Path, add_map, make_run) -> None:
    content = json.loads(baseline.read_text())
    row = {**content["rows"][0], "task": "ava", "metric": "frame-mAP@0.5", "value": 50.0, "correct": None}
    row["conditions"] = None
    content["rows"] = [{k: v for k, v in row.items() if k not in ("outcomes", "samples", "predictions")}]
    baseline.write_text(json.dumps(content))
    add_map(baseline.parent / "results", "frame-mAP@0.5", task="ava")
    found = checked(baseline)
    assert found.exit_code == 2 and "ground_truth.parquet is missing" in found.tasks[0].reason


def test_the_command_says_what_was_trained_on(make_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(HITS, results=tmp_path / "then")
    make_run(HITS, notes=[LEAK])
    given = renewed(tmp_path), [tmp_path / "results"]
    with pytest.raises(typer.Exit) as ended:
        command(*given)
    assert ended.value.exit_code == 2 and LEAK in capsys.readouterr().err
    command(*given, accept_training_data=True, as_json=True)
    assert LEAK in json.loads(capsys.readouterr().out)["notes"][0]
    command(*given, update=True)
    assert LEAK in capsys.readouterr().err


def test_a_comparison_refuses_other_training_lists_and_tells_the_rest(make_run, tmp_path: Path) -> None:
    make_run(HITS, model="a", resolved={"recipe": RECIPE}, notes=[LEAK])
    make_run(HITS, model="b", resolved=recipe("optimisation", epochs=2), num_train=1990)
    make_run(HITS, model="c", digests={"train_list": "other"})
    *notes, _ = compare("a", "b", [tmp_path / "results"]).notes
    assert notes == [
        LEAK,
        "not every run could read all training samples: probes were trained on 1,990 to 2,000",
        "other settings of a recipe under one name: optimisation.epochs 2 / 20",
    ]
    with pytest.raises(BenchError, match=r"training samples \(ids, labels or contents; train_list\): b / other"):
        compare("a", "c", [tmp_path / "results"])
