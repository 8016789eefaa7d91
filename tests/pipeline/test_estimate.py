"""Estimates: counts are those of a run, hours are what constants give, and what cannot be told is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Run, assert_refused

import bench
from bench import BenchError
from bench.cards.load import VideoFacts, load_task, task_names
from bench.core.progress import Silent
from bench.pipeline.estimate import measure as measuring
from bench.pipeline.estimate.constants import (
    NOTHING,
    Constant,
    Constants,
    Measurement,
    StepTime,
    read_measurement,
    subject_facts,
)
from bench.pipeline.estimate.counts import Part, Training, Work, work_of
from bench.pipeline.estimate.hours import Estimate, estimate, step_seconds
from bench.pipeline.estimate.plans import make_clip, read_video_facts, subject_of
from bench.pipeline.features import requests
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.decode import open_video

pytestmark = pytest.mark.slow

BRIEF = {"probe.min_steps": 20, "probe.epochs": 1, "probe.lr": [0.01, 0.001], "probe.weight_decay": [0.01]}


def exactly(value: float) -> Constant:
    return Constant(value=value, low=0.9 * value, high=1.1 * value)


def constants(**changes: Any) -> Constants:
    """Round numbers: a machine of four cores with two workers."""
    usual: dict[str, Any] = {
        "device": "a machine",
        "cores": 4,
        "workers": 2,
        "memory_bytes": 10**12,
        "encoding_cores": 1,
        "load": exactly(5),
        "hash": exactly(0.001),
        "decode": {"train": exactly(0.2), "held-out": exactly(0.2), "test": exactly(0.4)},
        "encode": exactly(1.0),
        "write": NOTHING,
        "read_cold": NOTHING,
        "steps": (
            StepTime(settings=20, batch_size=10, seconds=exactly(1.0)),
            StepTime(settings=20, batch_size=20, seconds=exactly(1.5)),
            StepTime(settings=1, batch_size=10, seconds=exactly(0.1)),
            StepTime(settings=1, batch_size=20, seconds=exactly(0.1)),
        ),
        "steps_by_setting": False,
        "start": NOTHING,
        "score": NOTHING,
        "predict": exactly(0.01),
        "pool": NOTHING,
        "seconds": 1.0,
    }
    return Constants(**{**usual, **changes})


def work(*, streamed: bool = False, **changes: Any) -> Work:
    """A thousand training videos in two segments, a hundred test videos in six clips."""
    usual: dict[str, Any] = {
        "parts": (Part("train", 1000, 2, 2000, streamed), Part("test", 100, 6, 600)),
        "trainings": (Training(20, 800, 400, 40, 20, 0), Training(1, 1000, 500, 40, 20, 0)),
        "predicted": 300,
        "pooled": 0,
        "clip_tokens": 1568,
        "kept_shape": (1568, 1024),
        "segments": 2,
        "token_bits": 16,
        "files": 1000,
    }
    return Work(**{**usual, **changes})


def seconds(made: Estimate) -> dict[str, float]:
    return {name: span.value for name, span in made.seconds.items()}


def test_hours_are_counts_times_constants() -> None:
    found = seconds(estimate(work(), constants()))
    assert found["start"] == pytest.approx(5 + 1)
    assert found["decode"] == pytest.approx((1000 * 0.2 + 100 * 0.4) / 2)
    assert found["encode"] == pytest.approx(1000 * 2 + 100 * 6)
    assert found["extract"] == pytest.approx(found["encode"]), "decoding goes on beside it"
    assert found["probes"] == pytest.approx(400 * 2.5 + 500 * 0.1), "20 samples take 0.5 s more than 10"
    assert found["test"] == pytest.approx(3)
    assert found["total"] == pytest.approx(sum(found[part] for part in ("start", "extract", "probes", "test")))


def test_the_interval_is_that_of_the_constants() -> None:
    total = estimate(work(), constants()).seconds["total"]
    assert (total.low, total.high) == (pytest.approx(0.9 * total.value), pytest.approx(1.1 * total.value))


def test_more_gpus_share_clips_and_not_the_probe() -> None:
    one, many = (seconds(estimate(work(), constants(), gpus)) for gpus in (1, 50))
    for part in ("decode", "encode", "extract"):
        assert many[part] == pytest.approx(one[part] / 50)
    assert many["start"] == pytest.approx(5 + 0.001 * 20)
    assert (many["probes"], many["test"]) == (one["probes"], one["test"])


def test_a_streaming_recipe_encodes_its_training_clips_in_one_process() -> None:
    one, many = (seconds(estimate(work(streamed=True), constants(), gpus)) for gpus in (1, 50))
    assert one["probes"] == many["probes"] == pytest.approx(2000 + 1050)
    assert many["extract"] == pytest.approx(one["extract"] / 50) == pytest.approx(600 / 50)


@pytest.mark.parametrize(
    ("changes", "extract"),
    [
        ({"decode": {"train": exactly(8), "test": exactly(4)}}, 1000 * 8 / 2 + 100 * 6),
        ({"workers": 0}, 2600 + 1000 * 0.2 + 100 * 0.4),
        ({"cores": 2, "encoding_cores": 2, "workers": 2}, 2600 + 240 / 2),
    ],
    ids=["decoding takes longer", "no workers", "both want all cores"],
)
def test_decoding_and_encoding_share_the_cores(changes: dict[str, Any], extract: float) -> None:
    assert seconds(estimate(work(), constants(**changes)))["extract"] == pytest.approx(extract)


def test_features_beyond_the_memory_are_read_from_the_disk_in_every_epoch() -> None:
    slow = constants(read_cold=exactly(1e-9), memory_bytes=10**9)
    extra = seconds(estimate(work(), slow))["probes"] - seconds(estimate(work(), constants()))["probes"]
    assert extra == pytest.approx((800 + 1000) * 20 * 2 * 1568 * 1024 * 2 * 1e-9)


def test_settings_of_several_blocks_take_one_after_another() -> None:
    times = (StepTime(settings=1, batch_size=40, seconds=exactly(0.3)),)
    many = constants(steps=times, steps_by_setting=True)
    assert step_seconds(Training(20, 800, 400, 40, 20, 0), many, lambda c: c.value) == pytest.approx(6)


def options_of(data: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    usual = {"task": "custom", "model": "random", "data": data, "cache": folder / "cache", "workers": 1}
    return {**usual, "device": "cpu", "settings": BRIEF, "max_failed": 0.2, **changes}


def work_planned(**options: Any) -> tuple[RunPlan, Work]:
    with subject_of(make_options(options), None, Silent()) as subject:
        return subject.plan, work_of(subject.plan)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"settings": {**BRIEF, "clip.segments": 2, "clip.views": 3}},
        {"settings": {**BRIEF, "clip.segments": 3, "clip.views": 2}},
        {"settings": {**BRIEF, "clip.segments": 3, "clip.attend_across_segments": False}},
        {"settings": {**BRIEF, "probe.train_views": 2, "probe.augmentation": "official"}},
        {"controls": "shuffled,static"},
        {"probe": "vjepa1-paper", "settings": {"probe.epochs": 2}},
        {"probe": "linear", "settings": {"probe.min_steps": 20}},
    ],
    ids=[
        "default",
        "segments and views",
        "two views",
        "clips apart",
        "cached views",
        "controls",
        "streaming",
        "linear",
    ],
)
def test_clips_and_bytes_are_those_of_the_run(bright_and_dark: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    # The folder's broken file is left out: what cannot be read is not known before.
    for name in ("train.csv", "val.csv"):
        rows = [row for row in (bright_and_dark / name).read_text().splitlines() if readable(bright_and_dark, row)]
        (bright_and_dark / name).write_text("\n".join(rows))
    options = options_of(bright_and_dark, tmp_path, **changes)
    _, foretold = work_planned(**options)
    record = bench.evaluate(**options, results=tmp_path / "results")
    assert (foretold.clips, foretold.feature_bytes) == (record.cost.encoder_clips, record.cost.feature_bytes)


def readable(folder: Path, row: str) -> bool:
    path = folder / row.rpartition(" ")[0]
    try:
        with open_video(str(path)):
            return True
    except (BenchError, OSError):
        return False


def test_without_data_and_weights_the_cards_tell_the_counts(tmp_path: Path) -> None:
    options = {"task": "ssv2", "model": "vjepa-vitl16", "probe": "sweep", "cache": tmp_path, "device": "cpu"}
    plan, found = work_planned(**options)
    assert [(part.name, part.videos, part.clips_per_video) for part in found.parts] == [
        ("train", 168_913, 2),
        ("test", 24_777, 6),
    ]
    assert found.feature_bytes == (168_913 * 2 + 24_777 * 6) * 1568 * 1024 * 2
    sweep, refit = found.trainings
    assert (sweep.settings, sweep.samples, sweep.steps) == (20, 168_913 - 33_783, 20 * 528)
    assert (refit.settings, refit.samples, refit.steps) == (1, 168_913, 20 * 660)
    assert len(plan.splits.class_names) == 174
    for seeds in (1, 3):
        (together,) = work_planned(**{**options, "probe": "attentive", "seeds": seeds})[1].trainings
        assert (together.settings, together.samples) == (2 * seeds, 168_913 - 8446)


def test_clips_apart_are_read_one_by_one(tmp_path: Path) -> None:
    options = {"task": "ssv2", "model": "vjepa-vitl16", "cache": tmp_path, "device": "cpu"}
    plan, jointly = work_planned(**options)
    apart_plan, apart = work_planned(**options, settings={"clip.attend_across_segments": False})
    assert (apart.predicted, apart.sample_tokens) == (2 * jointly.predicted, jointly.sample_tokens // 2)
    assert [part.clips_per_video for part in apart.parts] == [1, 6]
    assert subject_facts(apart_plan)["clips"] == f"{subject_facts(plan)['clips']} apart" == "2x3 apart"


def test_a_made_clip_is_as_the_facts_say(tmp_path: Path) -> None:
    with open_video(str(make_clip(tmp_path / "clip.mp4", read_video_facts("65x48@12,1.5")))) as video:
        info = video.info
    assert (info.width, info.height, info.num_frames, round(info.fps)) == (64, 48, 18, 12)


def test_a_measurement_of_another_probe_is_of_something_else(bright_and_dark: Path, tmp_path: Path) -> None:
    subjects = [
        subject_facts(work_planned(**options_of(bright_and_dark, tmp_path, settings={**BRIEF, **changes}))[0])["recipe"]
        for changes in ({}, {"probe.num_blocks": 1}, {"probe.num_blocks": 2}, {"probe.num_heads": 8})
    ]
    same = "attentive, 2 settings"
    assert subjects == [same, same, f"{same}, num_blocks 2", f"{same}, num_heads 8"]


def test_a_measurement_is_that_of_the_recipe_and_fits_the_run(bright_and_dark: Path, tmp_path: Path) -> None:
    options = options_of(bright_and_dark, tmp_path, probe="sweep", settings={**BRIEF, "clip.views": 3})
    with subject_of(make_options(options), None, Silent()) as subject:
        found = measuring.measure(subject, work_of(subject.plan), Silent())
    assert set(found.decode) == {"train", "test"} and found.encode.count > 10
    assert {time.settings for time in found.steps} == {1, 2}
    times = [found.encode, found.write, found.predict, found.score, found.start, *(t.seconds for t in found.steps)]
    assert all(0 <= time.low <= time.value <= time.high for time in times) and found.encode.value > 0
    assert not list((tmp_path / "cache").glob(".estimate-*")) and not (tmp_path / "cache" / "features").exists()


def test_a_large_batch_follows_from_smaller_ones(
    bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.pipeline.estimate.probes._MOST_VALUES", {"cpu": 8 * 64 * 64})
    options = options_of(bright_and_dark, tmp_path, settings={"probe.min_steps_per_epoch": 1})
    with subject_of(make_options(options), None, Silent()) as subject:
        found = measuring.measure(subject, work_of(subject.plan), Silent())
    assert sorted({time.batch_size for time in found.steps}) == [2, 8]


def test_clips_that_take_seconds_are_encoded_until_the_time_is_up(
    bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "ENCODE_BUDGET_S", 0.0)
    monkeypatch.setattr(measuring, "_GROUP_S", 0.0)
    with subject_of(make_options(options_of(bright_and_dark, tmp_path)), None, Silent()) as subject:
        plan = subject.plan
        pixels = torch.zeros(plan.train_clips.shape, dtype=torch.uint8)
        asked = requests(plan, plan.splits.train[0], {}, 1)[0]
        decoded = [(asked, plan.train_clips.unpack(pixels))]
        found = measuring.encode_seconds(subject.load(), decoded, plan.train_clips, plan.spec, None, Silent())
    assert found.count == 2


def test_the_measurement_of_another_machine_is_taken_for_the_same_plan_alone(
    bright_and_dark: Path, tmp_path: Path
) -> None:
    plan, _ = work_planned(**options_of(bright_and_dark, tmp_path))
    file = tmp_path / "gpu.json"
    measurement = Measurement(subject=subject_facts(plan), constants=constants())
    file.write_text(json.dumps({"measurement": measurement.model_dump()}))
    assert read_measurement(file, plan) == constants()
    other, _ = work_planned(**options_of(bright_and_dark, tmp_path, model="pixels"))
    with pytest.raises(BenchError, match="measured for model random, not pixels"):
        read_measurement(file, other)
    file.write_text("[]")
    with pytest.raises(BenchError, match="not an estimate"):
        read_measurement(file, plan)


def test_the_command_speaks_to_people_and_programs(bench_command: Run, bright_and_dark: Path) -> None:
    arguments = ["estimate", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--workers", "1"]
    done = bench_command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["clips"], found["feature_bytes"], found["gpus"]) == (36, 36 * 64 * 64 * 2, 1)
    assert set(found["hours"]["total"]) == {"value", "low", "high"}
    again = bench_command(*arguments, "--gpus", "4", "--measured", write(bright_and_dark / "here.json", done.stdout))
    assert again.returncode == 0, again.stderr
    assert all(word in again.stdout for word in ("4 of these", "train probes", "Measured on", "288.0 KiB"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "k400"}, "its card does not say what its videos are like .* --video"),
        ({"task": "in1k"}, "give the data with --data"),
        ({"task": "ssv2", "probe": "knn"}, "trains nothing.* --probe linear"),
        ({"task": "ssv2", "precision": "fastest"}, "measures one.* name a precision"),
    ],
)
def test_what_cannot_be_estimated_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError) as raised:
        work_planned(model="random", cache=tmp_path, **options)
    assert re.search(words, str(raised.value))


def test_a_video_is_made_only_where_there_is_no_data(bright_and_dark: Path, tmp_path: Path) -> None:
    options = make_options(options_of(bright_and_dark, tmp_path))
    with (
        pytest.raises(BenchError, match="--video means nothing"),
        subject_of(options, read_video_facts("8x8@8,1"), Silent()),
    ):
        pass


def test_the_command_refuses_in_one_line(bench_command: Run) -> None:
    done = bench_command("estimate", "--model", "random", "--task", "ssv2", "--video", "wide")
    assert_refused(done, "'wide' is no video", "340x256@30,10")


def test_video_facts_decide_no_score_and_are_in_no_record() -> None:
    assert load_task("ssv2").video == VideoFacts(width=427, height=240, fps=12, duration_s=3.7)
    assert all("video" not in load_task(name).model_dump() for name in task_names())
