"""Two runs are compared on the same samples, or refused with the field that differs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support import Run, assert_refused

from bench.analysis.change import of_samples_alone, trained_hits
from bench.analysis.compare import Comparison, compare
from bench.core.errors import BenchError
from bench.metrics.intervals import paired
from bench.metrics.trainings import difference
from bench.records.recomputed import read_seeds
from bench.records.schema import read_record
from bench.report.compare_view import ComparisonView

A = [1] * 60 + [0] * 40
B = [1] * 45 + [0] * 15 + [0] * 35 + [1] * 5
ONE_PROBE = of_samples_alone(1, 1)
"""The note on runs of one seed each."""


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    return [tmp_path / "results"]


def test_it_is_the_paired_difference_in_points(make_run, results) -> None:
    make_run(A, model="ours")
    make_run(B, model="theirs", input="16x224px step 4")
    found = compare("ours", "theirs@digits-motion", results)
    expected = paired(A, B)
    assert (found.difference, found.n, found.wins, found.losses) == (10, 100, 15, 5)
    assert (found.low, found.high, found.mde) == pytest.approx(
        (100 * expected.low, 100 * expected.high, 100 * expected.mde)
    )
    assert found.p_value == expected.p_value < 0.05
    assert (found.a.value, found.b.value) == (60, 50)
    assert "ours is better" in found.verdict and found.test == "exact McNemar"
    assert found.notes == ["the encoders saw 8x16px and 16x224px step 4", ONE_PROBE]


def test_classes_and_samples_that_changed_are_told(make_run, results) -> None:
    make_run(A, model="ours")
    make_run(B, model="theirs")
    found = compare("ours", "theirs", results, num_changed=30)
    assert sum(change.n for change in found.classes) == 100
    assert (sum(c.wins for c in found.classes), sum(c.losses for c in found.classes)) == (15, 5)
    changed = {change.sample for change in found.changed[:20]}
    assert changed == {f"clips/{i:05d}.mp4" for i in (*range(45, 60), *range(95, 100))}
    first = found.changed[0]
    assert first.sample == "clips/00045.mp4"
    assert (first.label, first.predicted_a, first.predicted_b) == ("left", "left", "right")
    assert (first.probability_a, first.label_probability_b) == pytest.approx((0.8, 0.1))


def test_runs_are_found_by_id_folder_and_record_file(make_run, results) -> None:
    a, b = make_run(A, model="ours"), make_run(B, model="theirs")
    found = compare("ours", "theirs", results)
    assert compare(a.name, b.name, results) == compare(str(a), str(b / "record.json"), []) == found


def test_order_of_samples_does_not_matter(make_run, results) -> None:
    import pyarrow.parquet as pq

    make_run(A, model="ours")
    path = make_run(B, model="theirs") / "predictions.parquet"
    expected = compare("ours", "theirs", results)
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.RandomState(0).permutation(len(table))), path)
    assert compare("ours", "theirs", results) == expected


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"task": "digits-appearance"}, "task: digits-motion / digits-appearance"),
        ({"protocol": "attentive/2 1x1 center"}, "protocol: attentive/1 1x1 center / attentive/2 1x1 center"),
        ({"digests": {"test_list": "z"}}, "test_list"),
        ({"digests": {"train_list": "z"}}, "train_list"),
        ({"class_names": ["right", "left", "up"]}, "class names"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_measurements_are_refused_by_field(make_run, results, other, words: str) -> None:
    make_run(A, model="ours")
    make_run(B, model="theirs", **other)
    with pytest.raises(BenchError, match="cannot be compared") as caught:
        compare("ours", "theirs", results)
    assert words in str(caught.value)


def test_what_could_mean_several_runs_is_asked_back(make_run, results) -> None:
    for task in ("digits-motion", "digits-appearance"):
        for model in ("ours", "theirs"):
            make_run(A, model=model, task=task)
    with pytest.raises(BenchError, match="2 tasks") as caught:
        compare("ours", "theirs", results)
    assert "ours@digits-appearance theirs@digits-appearance" in str(caught.value)
    assert compare("ours", "theirs@digits-motion", results).task == "digits-motion"
    for model in ("ours", "theirs"):
        make_run(B, model=model, protocol="linear/1 1x1 center", probe="linear")
    with pytest.raises(BenchError, match="differ in protocol"):
        compare("ours@digits-motion", "theirs@digits-motion", results)


def retrained(right: list[int], *moved: int) -> list[int]:
    """The outcomes of another training, which differ in these samples."""
    return [1 - one if place in moved else one for place, one in enumerate(right)]


def test_runs_that_differ_in_the_seed_are_seeds_of_one_model(make_run, results) -> None:
    ours = [retrained(A, *moved) for moved in ((1, 61), (2,), (62, 63, 64), (3, 65))]
    theirs = [retrained(B, *moved) for moved in ((), (46,), (47, 48, 96))]
    for seed, right in zip((0, 1, 2, 7), ours, strict=True):
        make_run(right, model="ours", seed=seed)
    for seed, right in zip((0, 1, 2), theirs, strict=True):
        make_run(right, model="theirs", seed=seed)
    found = compare("ours", "theirs", results)
    expected = difference(trained_hits(np.array(ours)), trained_hits(np.array(theirs)))
    assert (found.a.seeds, found.b.seeds, found.seeds) == ([0, 1, 2, 7], [0, 1, 2], [0, 1, 2, 7])
    assert (found.n, found.clusters, found.notes) == (100, 100, [])
    assert (found.difference, found.low, found.high, found.p_value, found.mde) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value, expected.mde)
    )
    more, less = np.mean(ours, axis=0) > np.mean(theirs, axis=0), np.mean(ours, axis=0) < np.mean(theirs, axis=0)
    assert (found.wins, found.losses) == (more.sum(), less.sum())
    assert sum(one.wins for one in found.classes) == found.wins
    assert found.a.value == pytest.approx(100 * np.mean(ours)) and found.a.low < found.a.value < found.a.high
    assert "seeds" in found.interval and "seeds" in found.test


def test_trainings_that_differ_widen_the_interval(make_run, results) -> None:
    for seed in range(3):
        make_run(A, model="ours", seed=seed)
        make_run(B, model="theirs", seed=seed)
        make_run(retrained(A, *range(8 * seed)), model="moved", seed=seed)
    steady, moved = (compare(name, "theirs", results) for name in ("ours", "moved"))
    assert moved.high - moved.low > 1.5 * (steady.high - steady.low)
    assert steady.p_value < 0.05 < moved.p_value < 1 and moved.mde > steady.mde


@pytest.mark.parametrize("seeds", [1, 3])
def test_models_that_never_differ_still_have_an_interval(make_run, results, seeds: int) -> None:
    for seed in range(seeds):
        make_run(A, model="ours", seed=seed)
        make_run(A, model="twin", seed=seed)
    found = compare("ours", "twin", results)
    assert (found.difference, found.p_value) == (0, 1) and -5 < found.low < 0 < found.high < 5


@pytest.mark.parametrize(("ours", "theirs"), [((1,), (3,)), ((1, 2), (3,)), ((0,), (0, 1, 2))])
def test_one_probe_on_a_side_is_said(make_run, results, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    for seed in ours:
        make_run(A, model="ours", seed=seed)
    for seed in theirs:
        make_run(B, model="theirs", seed=seed)
    found, single = compare("ours", "theirs", results), paired(A, B)
    (note,) = found.notes
    assert note == of_samples_alone(len(ours), len(theirs)) and "one probe" in note
    assert (found.difference, found.wins, found.losses) == (10, 15, 5)
    assert found.p_value == pytest.approx(single.p_value)
    assert (found.low, found.high) == pytest.approx((100 * single.low, 100 * single.high), abs=0.5)


def test_other_weights_under_one_name_stay_out(make_run, results) -> None:
    make_run(B, model="ours", digests={"encoder": "older"}, seed=0)
    newest = make_run(A, model="ours", digests={"encoder": "newer"}, seed=1)
    make_run(B, model="theirs", seed=1)
    found = compare("ours", "theirs", results)
    assert found.a.run_ids == [newest.name]
    assert found.notes == ["1 run of ours with other weights left out", ONE_PROBE]


def test_samples_of_one_video_are_one_cluster(make_run, results) -> None:
    videos = [f"/data/{i // 5}.mp4" for i in range(100)]
    folder = make_run(A, model="ours", videos=videos)
    make_run(B, model="theirs", videos=videos)
    found = compare("ours", "theirs", results)
    assert (found.clusters, found.test) == (20, "exact sign flips of whole clusters")
    assert found.p_value == paired(A, B, videos).p_value
    assert b"/data/" not in (folder / "predictions.parquet").read_bytes()


def test_videos_of_their_own_are_not_written(make_run) -> None:
    import pyarrow.parquet as pq

    folder = make_run([1, 0], videos=["a.mp4", "b.mp4"])
    assert "video" not in pq.read_schema(folder / "predictions.parquet").names


def test_samples_that_one_run_could_not_read_are_left_out_and_said(make_run, results) -> None:
    make_run(A, model="ours")
    make_run(B[:98], model="theirs")
    found = compare("ours", "theirs", results)
    assert found.n == 98
    assert found.notes == ["2 samples that not every run could read are left out", ONE_PROBE]


def _spoil(folder: Path, kind: str) -> None:
    path = folder / "predictions.parquet"
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    else:
        record = json.loads((folder / "record.json").read_text())
        record["scores"][0].update(correct=1, value=1, low=0, high=2)
        (folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing", "is missing"), ("truncated", "not readable"), ("edited", "1 of 100")],
)
def test_a_run_that_its_predictions_contradict_is_not_compared(make_run, tmp_path: Path, kind: str, words: str) -> None:
    folder = make_run(A, model="ours")
    make_run(B, model="theirs")
    _spoil(folder, kind)
    for name in (str(folder), "ours"):
        with pytest.raises(BenchError, match=words):
            compare(name, "theirs", [tmp_path / "results"])
    with pytest.raises(BenchError, match=words):
        read_seeds(folder, read_record(folder / "record.json"))


def test_runs_that_were_left_out_are_named_beside_a_comparison(make_run, tmp_path: Path) -> None:
    make_run(A, model="ours")
    make_run(B, model="theirs")
    spoilt = make_run(A, model="third")
    _spoil(spoilt, "missing")
    note, _ = compare("ours", "theirs", [tmp_path / "results"]).notes
    assert note.startswith(f"left out: {spoilt}") and "predictions.parquet is missing" in note


def test_bad_input_is_one_line(bench_command: Run, make_run, tmp_path: Path) -> None:
    folder = make_run(A, model="ours")
    options = ("--results", tmp_path / "results")
    assert_refused(bench_command("compare", "ours", "thiers", *options), "thiers", "known: ours")
    assert_refused(bench_command("compare", "ours", "ours", "--results", tmp_path / "nowhere"), "no such folder")
    (tmp_path / "other").mkdir()
    assert_refused(bench_command("compare", "ours", "ours", "--results", tmp_path / "other"), "no records yet")
    make_run(B, model="theirs", run_id=folder.name, results=tmp_path / "other")
    done = bench_command("compare", "ours", "theirs", *options, "--results", tmp_path / "other")
    assert_refused(done, "no run is called 'theirs'", "both have the run id", folder.name)


def test_json_has_the_public_fields(bench_command: Run, make_run, tmp_path: Path) -> None:
    make_run(A, model="ours")
    make_run(B, model="theirs")
    done = bench_command("compare", "ours", "theirs", "--results", tmp_path / "results", "--json")
    found = json.loads(done.stdout)
    assert found["unit"] == "points" and found["difference"] == 10 and found["n"] == 100
    assert {"low", "high", "p_value", "mde"} <= found.keys()


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits(make_run, results, width: int) -> None:
    long = "timm/vit_large_patch14_dinov2.lvd142m_with_a_long_name"
    make_run(A, model=long, class_names=[f"Pretending to put something next to something {i}" for i in range(3)])
    make_run(B, model="<b>", class_names=[f"Pretending to put something next to something {i}" for i in range(3)])
    text = _printed(compare(long, "<b>", results), width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("+10.0", "p = 0.041", "<b>", "15 times only A right"):
        assert word in text


def _printed(found: Comparison, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ComparisonView(found))
    return capture.get()
