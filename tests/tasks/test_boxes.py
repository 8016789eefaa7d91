"""A run on boxes, from the official layout to a record that can be scored again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ava_standin import ava_standin
from support import SHARED_DATA, Run, assert_refused
from tampering import Spoil, in_record, in_rows, in_table, said_of, without

import bench
from bench.analysis.select import Choice
from bench.core.errors import BenchError
from bench.features import spec
from bench.metrics.accuracy import frame_map
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.probing import load_probe
from bench.records.key_frames import read_key_frames
from bench.records.schema import Record, read_record
from bench.report.page.page import to_page
from bench.report.page.parts import gather
from bench.tasks.options import make_options

pytestmark = pytest.mark.slow

SHORT = {
    "clip.resolution": 32,
    "clip.starts_s": 900,
    "probe.lr": [1e-4, 3e-3],
    "probe.weight_decay": 0.1,
    "probe.min_steps": 120,
}
ORACLE = {**SHORT, "probe.test_boxes": "ground-truth"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` in the official layout, and the `cache` of its features."""
    folder = tmp_path_factory.mktemp("films")
    ava_standin(folder / "data")
    return folder


def evaluate(films: Path, **options: Any) -> Record:
    given = {"task": "ava", "model": "vjepa-nano", "data": films / "data", "settings": SHORT, "device": "cpu"}
    given |= {"workers": 0, "cache": films / "cache", "results": films / "results"}
    return bench.evaluate(**(given | options))


@pytest.fixture(scope="module")
def record(films: Path) -> Record:
    return evaluate(films)


def rewritten(films: Path, name: str, change: Callable[[list[str]], list[str]]) -> Path:
    """The test annotations with `change` made to the cells of every row that has a box."""
    official = films / "data" / "annotations" / "ava_val_v2.2.csv"
    rows = [line.split(",") for line in official.read_text().splitlines()]
    path = films / name
    path.write_text("".join(",".join(change(row) if len(row) > 2 else row) + "\n" for row in rows))
    return path


def test_what_each_of_two_digits_does_is_read_from_its_box(record: Record) -> None:
    (score,) = record.scores
    assert (score.metric, score.correct, score.n, score.failed) == ("frame-mAP@0.5", None, 48, 0)
    assert score.value > 70
    assert score.low < score.value < score.high
    assert score.interval == "bootstrap over 12 videos, 95 %"
    assert record.protocol.startswith("ava-attentive/2 detected boxes 7.5 fps")
    assert record.input == "8x32px short side, 7.5 fps"
    assert record.num_train == 120 and record.num_classes == 60
    assert record.resolved["boxes"] == {"train": 240, "test": 96}


def test_a_probe_of_whole_clips_cannot_tell_the_boxes_apart(
    films: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "corners", lambda boxes: torch.tensor([[0.0, 0.0, 1.0, 1.0]] * len(boxes)))
    whole = evaluate(films, cache=films / "cache-whole")
    assert whole.scores[0].value < 55 < record.scores[0].value


def test_exchanged_axes_and_a_late_second_lose_the_score(films: Path, record: Record) -> None:
    right = evaluate(films, settings=ORACLE)
    swapped = rewritten(films, "swapped.csv", lambda row: [*row[:2], row[3], row[2], row[5], row[4], *row[6:]])
    late = rewritten(films, "late.csv", lambda row: [row[0], f"{int(row[1]) + 1:04d}", *row[2:]])
    assert right.scores[0].value == pytest.approx(record.scores[0].value)  # the detector is never wrong here
    assert "ground-truth boxes" in right.protocol and any("oracle" in note for note in right.notes)
    for path in (swapped, late):
        assert evaluate(films, settings=ORACLE, val=path).scores[0].value < 40
    assert evaluate(films, val=swapped).scores[0].value < 40  # detected boxes are right, annotated ones are not


def test_the_tables_beside_a_record_give_its_score_again(films: Path, record: Record) -> None:
    folder = films / "results" / record.run_id
    boxes = pd.read_parquet(folder / "detections.parquet")
    truth = pd.read_parquet(folder / "ground_truth.parquet")
    actions = [int(action) for action in record.resolved["actions"]]
    found = boxes.loc[boxes.index.repeat(len(actions))].drop(columns="probabilities")
    found["action"] = np.tile(actions, len(boxes))
    found["score"] = np.concatenate(boxes["probabilities"].to_list())
    assert 100 * frame_map(truth, found).mean == pytest.approx(record.scores[0].value, abs=1e-9)
    assert read_record(folder / "record.json") == record
    assert (folder / "probe.safetensors").is_file()


def score_of(record: dict[str, Any]) -> Any:
    return record["scores"][0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_record(lambda r: score_of(r).update(value=99.9, high=100.0)), "detections.parquet contradicts it"),
        (in_record(lambda r: score_of(r).update(low=score_of(r)["low"] + 0.01)), "low end of the interval"),
        (in_record(lambda r: score_of(r).update(n=47)), "48 samples, and the record says 47"),
        (in_record(lambda r: score_of(r).update(failed=1)), "failed is 1, and 0 test samples"),
        (in_record(lambda r: score_of(r).update(interval="bootstrap over 900 videos, 95 %")), "their interval is"),
        (in_record(lambda r: r["scores"].append(score_of(r))), "several scores of frame-mAP@0.5"),
        (in_record(lambda r: r["breakdowns"][0]["values"].update(walk=100.0)), "AP@0.5 by class"),
        (in_record(lambda r: r["breakdowns"].pop()), "frame-mAP@0.5 by group"),
        (in_record(lambda r: r["class_names"].reverse()), "class names are not those"),
        (in_record(lambda r: r["resolved"].pop("actions")), "does not name the actions"),
        (in_table("detections.parquet", "probabilities", lambda rows: rows[1:] + rows[:1]), "detections.parquet"),
        (in_table("detections.parquet", "timestamp", lambda rows: [5, *rows[1:]]), "not in ground_truth.parquet"),
        (in_table("ground_truth.parquet", "action", lambda rows: rows[1:] + rows[:1]), "detections.parquet"),
        (in_rows("detections.parquet", lambda rows: [*rows, rows[0]]), "a box is there twice"),
        (in_rows("ground_truth.parquet", lambda rows: [*rows, rows[0]]), "is there twice"),
        (in_rows("ground_truth.parquet", lambda rows: rows[:3]), "detections.parquet"),
        (in_table("detections.parquet", "x1", lambda rows: [float("nan"), *rows[1:]]), "missing or infinite"),
        (without("ground_truth.parquet"), "ground_truth.parquet is missing"),
        (lambda folder: (folder / "detections.parquet").write_bytes(b"PAR1"), "not readable answers"),
    ],
)
def test_what_its_tables_contradict_is_not_believed(
    films: Path, record: Record, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    found = said_of(films / "results" / record.run_id, spoil, tmp_path)
    assert found.startswith("left out: ") and said in found


def test_a_record_without_its_tables_is_in_doubt(films: Path, record: Record, tmp_path: Path) -> None:
    def strip(folder: Path) -> None:
        for name in ("detections.parquet", "ground_truth.parquet"):
            (folder / name).unlink()

    doubt = said_of(films / "results" / record.run_id, strip, tmp_path)
    assert (
        doubt == "its score could not be made anew: no detections.parquet and no ground_truth.parquet beside the record"
    )


def test_a_run_keeps_a_few_key_frames_to_look_at(films: Path, record: Record) -> None:
    kept = read_key_frames(films / "results" / record.run_id)
    assert len(kept) == 12 and {frame.video for frame, _ in kept} == {f"val{number:02d}" for number in range(12)}
    assert sum(len(picture) for _, picture in kept) < 500_000
    firsts = [person.predicted[0] for frame, _ in kept for person in frame.people if person.predicted]
    assert {guess.right for guess in firsts} == {True, False}
    assert {person.annotated[0] for frame, _ in kept for person in frame.people if person.annotated} == {
        "run/jog",
        "walk",
        "jump/leap",
        "fall down",
    }
    page = to_page(gather([films / "results"], Choice()))
    assert page.count('<img src="data:image/jpeg;base64,') >= 12
    assert f"{kept[0][0].video}, second {kept[0][0].timestamp}" in page
    assert "AP@0.5 in % by class" in page and "person-person" in page


def test_precisions_are_broken_down_by_class_and_group(record: Record) -> None:
    by_class, by_group = record.breakdowns
    assert (by_class.by, by_group.by) == ("class", "group")
    known = {name: value for name, value in by_class.values.items() if value is not None}
    assert set(known) == {"run/jog", "walk", "jump/leap", "fall down"}
    assert list(by_class.values) == record.class_names
    assert record.scores[0].value == pytest.approx(np.mean(list(known.values())))
    assert by_group.values == {
        "pose": pytest.approx(record.scores[0].value),
        "person-object": None,
        "person-person": None,
    }


def test_a_second_run_encodes_and_trains_nothing(films: Path, record: Record) -> None:
    again = evaluate(films)
    assert (again.cost.encoder_clips, again.cost.cached_clips, again.cost.cached_probe) == (0, 168, True)
    assert again.scores == record.scores


def test_the_papers_recipe_runs(films: Path) -> None:
    settings = {"clip.resolution": 32, "clip.starts_s": 900, "probe.min_steps": 50}
    record = evaluate(films, probe="ava-paper", settings=settings, limit=20)
    assert record.resolved["box_tokens"] == [1, 3 * 64]
    assert "the recipe reads 4 layers, and vjepa-nano offers 3" in record.notes
    assert record.heads[0].held_out_accuracy is None
    assert record.scores[0].n == 20 and "limit 20" in record.protocol


def test_probes_of_boxes_have_the_heads_that_were_asked_for(films: Path, record: Record) -> None:
    settings = {**SHORT, "probe.lr": 1e-3, "probe.min_steps": 1, "probe.epochs": 1, "probe.num_heads": 8}
    eight = evaluate(films, settings=settings)
    assert " num_heads=8 " in eight.protocol and eight.cost.encoder_clips == 0
    assert load_probe(films / "results" / eight.run_id / "probe.safetensors").heads[0].num_heads == 8
    assert load_probe(films / "results" / record.run_id / "probe.safetensors").heads[0].num_heads == 4


def test_key_frames_are_normalised_as_the_user_says(films: Path, record: Record) -> None:
    settings = {**SHORT, "probe.lr": 1e-3, "probe.min_steps": 1, "probe.epochs": 1, "clip.mean": [0, 0, 0]}
    other = evaluate(films, settings=settings)
    assert " mean 0,0,0 " in other.protocol and other.input.endswith(", mean 0,0,0")
    assert other.cost.encoder_clips > 0, "the features of the usual normalisation are not its own"
    assert other.digests["test_features"] != record.digests["test_features"]


def test_key_frames_that_cannot_be_read_are_counted(films: Path, tmp_path: Path) -> None:
    shutil.copytree(films / "data", tmp_path / "data")
    (tmp_path / "data" / "trainval" / "val03.mp4").write_bytes(b"no film")
    options = {"data": tmp_path / "data", "results": tmp_path / "results"}
    with pytest.raises(BenchError, match="4 of 48 test samples cannot be read"):
        evaluate(films, **options)
    record = evaluate(films, max_failed=0.1, **options)
    assert (record.scores[0].n, record.scores[0].failed) == (44, 4)
    assert [failure.sample for failure in record.failures] == [f"val03,{second:04d}" for second in range(902, 906)]
    with pytest.raises(BenchError, match=r"no frame at second 902, the file lasts .* clip.starts_s=900"):
        evaluate(films, settings={**SHORT, "clip.starts_s": 0})


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"probe": "linear"}, "reads whole clips, not boxes"),
        ({"settings": {"clip.views": 3}}, "clip.views 3 means nothing"),
        ({"settings": {"probe.num_heads": 5}}, "64 channels cannot have 5 heads"),
        ({"settings": {"probe.num_heads": 4}, "probe": "ava-paper"}, "num_heads: only attentive"),
        ({"settings": {"probe.num_blocks": 2}, "probe": "ava-paper"}, "num_blocks: only attentive"),
        ({"settings": {"probe.augmentation": "official"}}, "crops frames at random, and cuts boxes away"),
        ({"settings": {"probe.train_views": 2}}, "draws 2 clips, and that of a key frame lies around its second"),
        ({"probe": "vjepa2-paper"}, "reads whole clips, not boxes"),
        ({"settings": {"clip.starts_s": 903}}, "lies before second 903"),
        ({"settings": {**SHORT, "clip.resolution": 18}}, "do not divide into patches"),
        ({"data": None}, "task ava needs your data"),
        ({"task": "digits-motion", "data": None, "settings": {}, "probe": "ava-paper"}, "has none"),
    ],
)
def test_what_does_not_fit_boxes_is_refused(films: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(BenchError, match=word):
        evaluate(films, **options)


def test_the_forecast_counts_key_frames_and_bytes_of_boxes(films: Path) -> None:
    options = {"task": "ava", "data": films / "data", "model": "random", "settings": {"clip.starts_s": 900}}
    expected = forecast(make_plan(make_options({**options, "cache": films / "cache"})))
    assert (expected.train_samples, expected.test_samples, expected.clips) == (120, 48, 168)
    assert expected.feature_bytes == (240 + 96) * 2 * 4 * 9 * 64


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no shared folder here")
def test_the_real_annotation_samples_go_through_a_dry_run(bench_command: Run, tmp_path: Path) -> None:
    tests = SHARED_DATA / "annotations" / "mmaction2" / "tests" / "data"
    data = tmp_path / "ava"
    data.mkdir()
    for source, name in (
        ("ava_dataset/ava_sample.csv", "ava_train_v2.2.csv"),
        ("ava_dataset/ava_excluded_timestamps_sample.csv", "ava_train_excluded_timestamps_v2.2.csv"),
        ("eval_detection/gt.csv", "ava_val_v2.2.csv"),
        ("eval_detection/pred.csv", "ava_detection_val_boxes_and_labels.csv"),
    ):
        shutil.copy(tests / source, data / name)
    command = ["run", "--task", "ava", "--data", data, "--model", "random", "--dry-run"]
    assert_refused(bench_command(*command, "--max-failed", "1"), "of one video", "a recipe with one setting")
    done = bench_command(*command, "--max-failed", "1", "--probe", "ava-paper", "--json")
    (counted,) = json.loads(done.stdout)
    assert (counted["train_samples"], counted["test_samples"], counted["missing_files"]) == (1, 3, 4)
    options = {"task": "ava", "data": data, "model": "random", "probe": "ava-paper", "cache": tmp_path / "cache"}
    with pytest.raises(BenchError, match="1 of 1 training files are missing or empty") as caught:
        forecast(make_plan(make_options(options)))
    assert "trainval/0f39OWEqJ24.mp4" in str(caught.value)
