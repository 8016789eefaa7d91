"""Controls: what a probe reads of clips in other frame orders, what it leans on, and what the record says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import Run, write_video
from tampering import Spoil, in_record, in_table, said_of, without

import bench
from bench import BenchError
from bench.core.progress import Silent
from bench.data.digits import MOTIONS, DigitsConfig, ensure_digits, read_digits
from bench.encoders import load_encoder
from bench.features.extract import space_fields
from bench.features.spec import ClipTokens
from bench.features.store import space_key
from bench.metrics.accuracy import score_of
from bench.metrics.intervals import paired
from bench.metrics.score import Control
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.pipeline.run import keep as keep_run
from bench.pipeline.run import measure, prepare
from bench.pipeline.suite import open_features, open_inputs
from bench.records.schema import Record, read_record
from bench.tasks.options import make_options, read_orders
from bench.video.clip_views import ClipPlan
from bench.video.train_views import TrainViews

pytestmark = pytest.mark.slow

ALL = ("ordered", "shuffled", "static", "reversed")
RIGHT = score_of("top1", [0] * 11 + [1], np.eye(2, dtype=np.float32)[[0] * 12], 0).model_dump()
"""Of eleven right answers in twelve."""
SHORT = {"probe.lr": 0.03, "probe.weight_decay": 0.01, "probe.epochs": 1, "probe.min_steps": 60}


@pytest.fixture(scope="module")
def fading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 16 px that grow brighter (1) or darker (0); their mean and frame 4 of 8 are as bright in both."""
    folder = tmp_path_factory.mktemp("fading")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 12)):
        rows = []
        for number in range(count):
            label = number % 2
            levels = 125 + (2 * label - 1) * 12 * np.array([-3, -2, -1, 0, 0, 1, 2, 3, 0])
            frames = np.clip(rng.normal(levels[:, None, None, None], 4, (9, 16, 16, 3)), 0, 255).astype(np.uint8)
            write_video(folder / "clips" / f"{split}_{number}.mp4", frames)
            rows.append(f"clips/{split}_{number}.mp4 {label}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


def options_of(data: Path, folder: Path, **options: Any) -> dict[str, Any]:
    given = {"task": "custom", "name": "fading", "axis": "motion", "model": "pixels", "probe": "linear", "workers": 0}
    given |= {
        "data": data,
        "cache": folder / "cache",
        "results": folder / "results",
        "settings": SHORT,
        "device": "cpu",
    }
    return {**given, "controls": ALL, **options}


def evaluate(data: Path, folder: Path, **options: Any) -> Record:
    return bench.evaluate(**options_of(data, folder, **options))


def by_order(record: Record) -> dict[tuple[str, str], Control]:
    return {(control.frames, control.trained_on): control for control in record.controls}


def test_what_can_be_read_and_what_the_probe_leans_on(fading: Path, tmp_path: Path) -> None:
    record = evaluate(fading, tmp_path)
    scores = {orders: control.score for orders, control in by_order(record).items()}
    assert scores["ordered", "ordered"] == record.scores[0] and record.scores[0].value == 100
    assert scores["reversed", "reversed"].value == 100, "backwards it is as easy to read"
    assert scores["reversed", "ordered"].value == 0, "each class backwards looks like the other"
    assert scores["static", "static"].low < 50 < scores["static", "static"].high
    assert set(scores) == {("ordered", "ordered")} | {
        (frames, trained_on) for frames in ALL[1:] for trained_on in (frames, "ordered")
    }
    shares = {share.without: share for share in record.motion_shares}
    assert shares["motion"].value == pytest.approx((100 - scores["static", "static"].value) / 50)
    assert shares["order"].value == pytest.approx((100 - scores["shuffled", "shuffled"].value) / 50)
    assert all(share.low <= share.value <= share.high and share.chance == 50 for share in shares.values())


def test_the_score_is_that_of_a_run_without_controls(fading: Path, tmp_path: Path) -> None:
    plain, with_controls = evaluate(fading, tmp_path / "a", controls=()), evaluate(fading, tmp_path / "b")
    for field in ("scores", "heads", "digests", "protocol", "num_train", "failures", "notes"):
        assert getattr(plain, field) == getattr(with_controls, field)
    assert plain.controls == plain.motion_shares == []
    assert len(list((tmp_path / "b" / "results").glob("*/record.json"))) == 1, "controls are no records of their own"
    assert not list((tmp_path / "a" / "results").glob("*/controls.parquet"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_record(lambda r: r["controls"][1]["score"].update(correct=0, value=0.0)), "outside its interval"),
        (in_record(lambda r: r["controls"][1]["score"].update(RIGHT)), "the record says 11 of 12"),
        (in_record(lambda r: r["controls"].append(r["controls"][1])), "is there twice"),
        (in_record(lambda r: r["controls"][0]["score"].update(RIGHT)), "is not the score"),
        (in_record(lambda r: r["motion_shares"][0].update(value=0.5, low=0.4)), "the share without order"),
        (in_record(lambda r: r["motion_shares"][1].update(chance=None)), "no level of chance"),
        (in_record(lambda r: r["motion_shares"][1].update(high=float("nan"))), "lies outside its interval"),
        (in_table("controls.parquet", "reversed_by_ordered", lambda rows: [1 - row for row in rows]), "12 of 12"),
        (
            in_table("controls.parquet", "ordered_by_ordered", lambda rows: [1 - row for row in rows]),
            "ordered_by_ordered: other predictions than in predictions.parquet",
        ),
        (in_table("controls.parquet", "sample", lambda rows: rows[::-1]), "other samples or labels"),
        (without("controls.parquet"), "controls.parquet is missing"),
        (in_record(lambda r: r["fewer_labels"][0].update(num_train=25)), "all are 24"),
        (in_record(lambda r: r["fewer_labels"][0]["score"].update(low=1.0)), "the interval of top1"),
        (in_record(lambda r: r["fewer_labels"].append(r["fewer_labels"][0])), "is there twice"),
    ],
)
def test_controls_that_their_answers_contradict_are_not_believed(
    measured: Path, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    found = said_of(measured, spoil, tmp_path)
    assert found.startswith("left out: ") and said in found


@pytest.fixture(scope="module")
def measured(fading: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with everything that can be measured beside a score."""
    folder = tmp_path_factory.mktemp("measured")
    return folder / "results" / evaluate(fading, folder, labels="50%").run_id


def test_predictions_and_cost_of_the_controls_are_kept(fading: Path, tmp_path: Path) -> None:
    record = evaluate(fading, tmp_path)
    folder = tmp_path / "results" / record.run_id
    assert read_record(folder / "record.json") == record
    said, usual = (pd.read_parquet(folder / f"{name}.parquet") for name in ("controls", "predictions"))
    assert said["sample"].tolist() == usual["sample"].tolist() and said["label"].tolist() == usual["label"].tolist()
    assert said["ordered_by_ordered"].tolist() == usual["prediction"].tolist()
    assert len(said.columns) == 2 + len(record.controls)
    for (frames, trained_on), control in by_order(record).items():
        assert (said[f"{frames}_by_{trained_on}"] == said["label"]).sum() == control.score.correct
    assert (record.cost.encoder_clips, record.cost.cached_clips) == (4 * 36, 0)
    again = evaluate(fading, tmp_path)
    assert (again.cost.encoder_clips, again.cost.cached_clips, again.cost.probe_s) == (0, 4 * 36, 0)
    assert again.controls == record.controls and again.motion_shares == record.motion_shares


def test_a_sample_that_is_unreadable_in_one_order_is_left_out_of_it_alone(fading: Path, tmp_path: Path) -> None:
    plan = make_plan(make_options(options_of(fading, tmp_path, controls=["static"])))
    prepared = prepare(plan, Silent())
    static = prepared.controls[0]
    lost = static.test.samples[3].id
    keep = [row for row in range(12) if row != 3]
    keys = [static.test.keys[row] for row in keep]
    test = replace(
        static.test,
        samples=[static.test.samples[row] for row in keep],
        keys=keys,
        tokens=open_features(plan.cache, static.test.space, keys),
        failures={lost: "too slow"},
    )
    prepared = replace(prepared, controls=(replace(static, test=test),))
    measured = measure(prepared.job, prepared.inputs, Silent())
    record = keep_run(prepared, measured, Silent())
    assert [(c.frames, c.score.n, c.score.failed) for c in record.controls] == [
        ("ordered", 12, 0),
        ("static", 11, 1),
        ("static", 11, 1),
    ]
    said = pd.read_parquet(tmp_path / "results" / record.run_id / "controls.parquet").set_index("sample")
    assert np.isnan(said.loc[lost, "static_by_static"]) and said["static_by_static"].notna().sum() == 11


def test_another_process_measures_the_same(fading: Path, tmp_path: Path) -> None:
    plan = make_plan(make_options(options_of(fading, tmp_path, controls="reversed", labels="50%")))
    prepared = prepare(plan, Silent())
    here = measure(prepared.job, prepared.inputs, Silent())
    there = measure(prepared.job, open_inputs(prepared.job), Silent())
    assert np.array_equal(here.controls[0].by_ordered, there.controls[0].by_ordered)
    assert np.array_equal(here.controls[0].trained_alike.outputs, there.controls[0].trained_alike.outputs)
    assert there.known and all(part.measured.known for part in there.fewer_labels)


def test_a_streaming_recipe_has_controls(fading: Path, tmp_path: Path) -> None:
    settings = {"probe.epochs": 1, "probe.batch_size": 8}
    record = evaluate(fading, tmp_path, probe="vjepa1-paper", settings=settings, controls="static,reversed")
    assert set(by_order(record)) == {("ordered", "ordered")} | {
        (frames, trained_on) for frames in ("static", "reversed") for trained_on in (frames, "ordered")
    }
    assert record.cost.encoder_clips == 3 * 36


def test_a_given_probe_is_tested_on_the_controls_and_none_is_trained(fading: Path, tmp_path: Path) -> None:
    first = evaluate(fading, tmp_path, controls=())
    given = tmp_path / "results" / first.run_id / "probe.safetensors"
    record = evaluate(fading, tmp_path, probe="attentive", settings={}, probe_weights=given)
    assert set(by_order(record)) == {(frames, "ordered") for frames in ALL}
    assert by_order(record)["reversed", "ordered"].score.value == 0 and record.motion_shares == []
    assert record.cost.encoder_clips == 3 * 12


def test_keys_of_features_are_what_they_were_and_each_order_has_its_own() -> None:
    encoder = load_encoder("pixels")
    clips = ClipPlan(
        frames_per_clip=8, frame_step=1, num_segments=1, views=1, size=16, sampling="center", seed=0,
        short_side=16, decoder="auto",
    )  # fmt: skip
    views = TrainViews(8, frame_step=1, num_segments=1, size=16, policy="official-video", seed=0)
    for plan, key in ((clips, "11948a314a7f9a6791562ba8"), (views, "22cf8f04109b3cb6596e53b2")):
        keys = [space_key(space_fields(encoder, replace(plan, frame_order=order), ClipTokens())) for order in ALL]
        assert keys[0] == key and len(set(keys)) == 4


def test_the_forecast_counts_the_clips_of_the_controls(fading: Path, tmp_path: Path) -> None:
    plain, four = (
        forecast(make_plan(make_options(options_of(fading, tmp_path, controls=controls)))) for controls in ((), ALL)
    )
    assert (plain.clips, four.clips) == (36, 4 * 36) and four.feature_bytes == 4 * plain.feature_bytes


@pytest.mark.parametrize("given", ["reversed,static", ["static", "reversed"], ("reversed", "static", "static")])
def test_controls_are_names_in_any_form_and_order(given: Any) -> None:
    assert read_orders(given) == ("static", "reversed") and read_orders(None) == ()


def test_controls_that_mean_nothing_are_refused(fading: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"--controls: unknown control 'shufled' - did you mean 'shuffled'\?"):
        make_options({"controls": "ordered,shufled"})
    with pytest.raises(BenchError, match="--controls means nothing for clips of one frame"):
        make_plan(make_options(options_of(fading, tmp_path, settings={"clip.frames": 1})))


def test_controls_mean_nothing_for_images(tmp_path: Path) -> None:
    from standins import standin

    standin("in1k", tmp_path / "images", train=4, test=4)
    options = {"task": "in1k", "model": "pixels", "data": tmp_path / "images", "controls": "static"}
    with pytest.raises(BenchError, match="task in1k: --controls means nothing for images"):
        make_plan(make_options({**options, "cache": tmp_path / "cache"}))


def test_the_command_line_prints_tables_below_the_leaderboard(bench_command: Run, fading: Path) -> None:
    arguments = ["run", "--task", "custom", "--data", fading, "--model", "pixels", "--probe", "linear", "--workers", 0]
    arguments += ["--set=probe.lr=0.03", "--set=probe.epochs=1", "--set=probe.min_steps=60"]
    arguments += ["--controls", "reversed", "--labels", "50%"]
    done = bench_command(*arguments)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("Frame order: ") :]
    assert "100.0/0.0" in table and "Fewer labels: " in table and "\x1b" not in table


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, pd.DataFrame]:
    """A run on some moving digits with all controls, and its predictions."""
    folder = tmp_path_factory.mktemp("digits")
    data = ensure_digits(folder, DigitsConfig(train_clips=320, test_clips=240))
    for split, name in (("train", "train.csv"), ("test", "val.csv")):
        clips = read_digits(data, split)
        (folder / name).write_text("".join(f"{data / clip.path} {clip.motion}\n" for clip in clips))
    settings = {"probe.lr": 0.03, "probe.weight_decay": 0.01, "probe.min_steps": 150}
    settings |= {"clip.step": 1, "clip.crop": "full"}
    record = evaluate(folder, folder, model="vjepa-nano", settings=settings)
    return record, pd.read_parquet(folder / "results" / record.run_id / "controls.parquet")


def test_ceilings_of_the_digits(digits: tuple[Record, pd.DataFrame]) -> None:
    """One frame cannot tell the eight motions; frames without order cannot tell a motion from its reverse."""
    record, said = digits
    scores = {orders: control.score for orders, control in by_order(record).items()}
    for trained_on in ("static", "ordered"):
        assert scores["static", trained_on].low <= 12.5 <= scores["static", trained_on].high
    assert scores["shuffled", "shuffled"].low <= 50
    hits = {name: said[name] == said["label"] for name in ("ordered_by_ordered", "reversed_by_reversed")}
    backwards = paired(*hits.values())
    assert scores["ordered", "ordered"].low > 25 and backwards.low <= 0 <= backwards.high
    shares = {share.without: share for share in record.motion_shares}
    assert shares["motion"].low <= 1 <= shares["motion"].high and shares["order"].low > 0


def test_reversed_digits_look_like_the_opposite_motion(digits: tuple[Record, pd.DataFrame]) -> None:
    record, said = digits
    pairs = [
        ("left", "right"),
        ("up", "down"),
        ("zoom_in", "zoom_out"),
        ("rotate_clockwise", "rotate_counter_clockwise"),
    ]
    opposite = {MOTIONS.index(a): MOTIONS.index(b) for pair in pairs for a, b in (pair, pair[::-1])}
    turned = (said["reversed_by_ordered"] == said["label"].map(opposite)).mean()
    assert by_order(record)["reversed", "ordered"].score.high < 12.5
    assert 100 * turned > record.scores[0].low
