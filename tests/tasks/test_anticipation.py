"""A whole run of anticipation on a small kitchen: what is seen, what is scored, what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kitchens import kitchen
from support import GOLDEN, Run
from tampering import Spoil, in_record, in_rows, in_table, said_of

import bench
from bench import BenchError
from bench.probing import load_probe
from bench.records.schema import Record, read_record

pytestmark = pytest.mark.slow

SHORT = {"probe.lr": [1e-2, 1e-6], "probe.weight_decay": 0.01, "probe.min_steps": 1, "clip.frames": 8}
ONE_EPOCH = {"probe.epochs": 1, "probe.lr": 1e-2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kitchen(tmp_path_factory.mktemp("epic") / "data")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def evaluate(data: Path, results: Path, *, settings: dict[str, Any] | None = None, **options: Any) -> Record:
    settings = {**SHORT, "probe.epochs": 10, **(settings or {})}
    given = {"task": "ek100", "data": data, "workers": 0, "device": "cpu", "settings": settings, "seeds": 1}
    record: Record = bench.evaluate(**{**given, "cache": results / "cache", "results": results / "results", **options})
    return record


@pytest.fixture(scope="module")
def before_start(data: Path, results: Path) -> Record:
    return evaluate(data, results)


def test_what_is_announced_is_foreseen(before_start: Record) -> None:
    action, verb, noun = before_start.scores
    assert [score.metric for score in before_start.scores] == ["action-recall@5", "verb-recall@5", "noun-recall@5"]
    assert all((score.correct, score.n, score.failed) == (None, 60, 0) for score in before_start.scores)
    assert action.value > 80 and verb.value == noun.value == 100  # of four verbs and three nouns, five are all
    assert action.low <= action.value <= action.high and "videos" in action.interval
    assert (before_start.num_train, before_start.num_classes) == (144, 12)
    assert before_start.protocol.startswith("attentive/3 1x1 center 8 fps ")
    assert before_start.protocol.endswith(" 1 s before-start")


def test_one_setting_is_chosen_for_all_scores_on_held_out_videos(before_start: Record) -> None:
    assert [head.chosen for head in before_start.heads] == [True, False]
    best, other = (head.held_out_accuracy or 0 for head in before_start.heads)
    assert best > other
    assert before_start.resolved["training"]["held_out_samples"] % 12 == 0  # videos of twelve actions


def test_clips_that_end_before_the_end_see_something_else(data: Path, results: Path, before_start: Record) -> None:
    record = evaluate(data, results, clip="before-end")
    assert record.scores[0].value < 65 < before_start.scores[0].value  # five of twelve are 42 %
    assert record.protocol != before_start.protocol
    assert record.digests["test_features"] != before_start.digests["test_features"]


def test_the_best_answers_are_kept_and_give_the_scores(results: Path, before_start: Record) -> None:
    folder = results / "results" / before_start.run_id
    assert read_record(folder / "record.json") == before_start
    rows = pd.read_parquet(folder / "top5.parquet")
    assert len(rows) == 60 and rows["sample"].is_unique and rows["video"].nunique() == 5
    for score in before_start.scores:
        head = score.metric.partition("-")[0]
        hits = [label in top for label, top in zip(rows[f"{head}_label"], rows[f"{head}_top5"], strict=True)]
        assert 100 * pd.Series(hits).groupby(rows[f"{head}_label"]).mean().mean() == pytest.approx(score.value)
        assert all((np.diff(scores) <= 0).all() for scores in rows[f"{head}_scores"])
    probe = load_probe(folder / "probe.safetensors").heads[0]
    assert probe.get_parameter("pooler.query_tokens").shape == (1, 3, 64)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (in_record(lambda r: r["scores"][2].update(value=99.0, low=90)), "noun-recall@5 is 100.000000 by"),
        (in_record(lambda r: r["scores"][0].update(low=1.0)), "low end of the interval of action"),
        (in_record(lambda r: r["scores"].pop()), "the record has action-recall@5, verb-recall@5"),
        (in_record(lambda r: r["scores"].reverse()), "it gives the scores action-recall@5"),
        (in_record(lambda r: r["scores"][1].update(metric="action-recall@5")), "several scores of action-recall@5"),
        (in_table("top5.parquet", "verb_label", lambda rows: [*rows[1:], rows[0]]), "top5.parquet contradicts it"),
        (in_table("top5.parquet", "action_top5", lambda rows: [row[::-1] for row in rows[:9]] + rows[9:]), ""),
        (in_table("top5.parquet", "action_top5", lambda rows: [[0] * 5, *rows[1:]]), "not the 5 classes of highest"),
        (in_table("top5.parquet", "noun_scores", lambda rows: [row[::-1] for row in rows]), "not the 5 classes"),
        (in_table("top5.parquet", "video", lambda rows: [0] * len(rows)), "low end of the interval of action"),
        (in_table("top5.parquet", "sample", lambda rows: [rows[0]] * 4 + rows[4:]), "is there 4 times"),
        (in_rows("top5.parquet", lambda rows: rows[:-1]), "59 samples, and the record says 60"),
    ],
)
def test_what_the_best_answers_contradict_is_not_believed(
    results: Path, before_start: Record, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    found = said_of(results / "results" / before_start.run_id, spoil, tmp_path)
    assert found.startswith("left out: ") if said else found == ""
    assert said in found


def test_a_second_run_reads_features_and_probe_from_the_cache(data: Path, results: Path, before_start: Record) -> None:
    again = evaluate(data, results)
    assert (again.cost.encoder_clips, again.cost.cached_clips, again.cost.cached_probe) == (0, 204, True)
    assert again.scores == before_start.scores and again.heads == before_start.heads


def test_heads_and_blocks_are_those_that_were_asked_for(data: Path, results: Path) -> None:
    settings = {**ONE_EPOCH, "probe.num_heads": 2, "probe.num_blocks": 2}
    record = evaluate(data, results, settings=settings)
    probe = load_probe(results / "results" / record.run_id / "probe.safetensors").heads[0]
    assert probe.num_heads == 2 and "pooler.blocks.0.attn.qkv.weight" in probe.state_dict()
    assert " num_blocks=2 num_heads=2 " in record.protocol


def test_clips_before_actions_are_normalised_as_the_user_says(data: Path, results: Path) -> None:
    record = evaluate(data, results, settings={**ONE_EPOCH, "clip.mean": [0, 0, 0], "clip.std": [1, 1, 1]})
    space = results / "cache" / "features" / record.digests["test_features"] / "space.json"
    fields = json.loads(space.read_text())
    assert (fields["mean"], fields["std"]) == ([0, 0, 0], [1, 1, 1]) and " mean 0,0,0 std 1,1,1 " in record.protocol


def test_a_broken_video_is_a_counted_failure(tmp_path: Path) -> None:
    data = kitchen(tmp_path / "data", train=6, test=4)
    (data / "P02" / "videos" / "P02_02.MP4").write_bytes(b"no video")
    with pytest.raises(BenchError, match="12 of 48 test samples cannot be read"):
        evaluate(data, tmp_path)
    record = evaluate(data, tmp_path, max_failed=0.25, settings=ONE_EPOCH)
    assert all((score.n, score.failed) == (36, 12) for score in record.scores)
    assert {failure.sample for failure in record.failures} == {f"P02_02_{place}" for place in range(12)}


def test_actions_that_are_never_trained_on_count_or_are_left_out(tmp_path: Path) -> None:
    data = kitchen(tmp_path / "data", train=6, test=2)
    path = data / "annotations" / "EPIC_100_validation.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",9"]) + "\n")
    counted = evaluate(data, tmp_path, settings=ONE_EPOCH)
    assert (counted.num_classes, counted.scores[0].n) == (13, 24)
    assert "1 test actions are of 1 pairs of verb and noun that are never trained on" in counted.notes
    left_out = evaluate(data, tmp_path, clip="official-encoder", settings=ONE_EPOCH)
    assert (left_out.num_classes, left_out.scores[0].n) == (12, 23)
    assert "1 test actions left out: no training sample has their verb and noun" in left_out.notes
    assert "1 s before-end frame-numbers unseen left out" in left_out.protocol


def test_several_training_views_draw_times(data: Path, results: Path, before_start: Record) -> None:
    record = evaluate(data, results, settings={**ONE_EPOCH, "probe.train_views": 2})
    assert record.cost.encoder_clips == 2 * 144 and record.cost.cached_clips == 60
    assert record.resolved["train_clips"]["ending"] == {
        "seconds": 1.0,
        "anchor": "before-start",
        "drawn": True,
        "by_number": False,
    }
    assert record.digests["train_features"] != before_start.digests["train_features"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"probe": "linear"}, "linear probe.*--probe attentive or ek100-paper"),
        ({"probe": "ava-attentive"}, "reads boxes"),
        ({"clip": "official"}, r"model random.*no predicted tokens.*clip\.tokens=encoder"),
        ({"settings": {"clip.sampling": "random"}}, "clips before an action"),
        ({"settings": {"clip.segments": 2}}, "clips before an action"),
        ({"settings": {"clip.anchor": "after"}}, r"clip\.anticipation\.anchor"),
        ({"probe_weights": Path("probe.pt")}, "probe.lr means nothing with --probe-weights: nothing is trained"),
        ({"settings": {"probe.num_heads": 7}}, "64 channels cannot have 7 heads"),
    ],
)
def test_what_does_not_fit_is_refused(data: Path, results: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(BenchError, match=what) as caught:
        evaluate(data, results, **options)
    assert "\n" not in str(caught.value)


def test_a_setting_may_be_chosen_by_the_test_split_and_the_record_says_so(data: Path, results: Path) -> None:
    settings = {"clip.frames": 8, "probe.streaming": False, "probe.augmentation": "none", "probe.num_blocks": 1}
    options = {**settings, "probe.epochs": 2, "probe.lr": [1e-2, 1e-6], "probe.weight_decay": 0.01}
    record = evaluate(data, results, probe="vjepa2-paper", settings=options)
    assert record.selected_on_test and record.notes[0].startswith("selected on test: the best of 2 settings")
    best = max(record.heads, key=lambda head: head.test_accuracy or 0)
    assert best.chosen and best.test_accuracy == pytest.approx(record.scores[0].value)
    assert all(head.held_out_accuracy is None for head in record.heads)


def test_predicted_tokens_are_of_one_time_ahead(data: Path, results: Path) -> None:
    clip = {"clip.tokens": "encoder+predictor", "clip.fps": 2, "clip.frames": 4}
    settings = {"probe.train_views": 2, **clip, "encoder.num_heads": 2}
    with pytest.raises(BenchError, match="several training views draw it"):
        evaluate(data, results, model=str(GOLDEN / "vjepa1_pretrain.pth.tar"), settings={**ONE_EPOCH, **settings})


def test_several_layers_are_read_of_the_encoder_alone(data: Path, results: Path, before_start: Record) -> None:
    record = evaluate(data, results, settings={**ONE_EPOCH, "clip.layers": "1,2"})
    assert record.cost.feature_bytes == 2 * before_start.cost.feature_bytes
    with pytest.raises(BenchError, match="last layer"):
        evaluate(data, results, settings={"clip.layers": "1,2", "clip.tokens": "encoder+predictor"})


def test_the_data_can_be_verified_and_are_not_cut(bench_command: Run, data: Path) -> None:
    verified = bench_command("data", "verify", "ek100", "--data", data, "--workers", 0, "--json")
    report = json.loads(verified.stdout)
    assert {split: part["readable"] for split, part in report["splits"].items()} == {"train": 144, "test": 60}
    assert not report["problems"]
    refused = bench_command("data", "prepare", "ek100", "--data", data, "--out", "prepared")
    assert refused.returncode == 2 and "lie before the actions" in refused.stderr


def test_the_command_ends_with_a_board(bench_command: Run, tmp_path: Path) -> None:
    data = kitchen(tmp_path / "data", train=3, test=2)
    given = {**SHORT, "probe.lr": 0.01, "probe.epochs": 1}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    command = ["--task", "ek100", "--data", data, "--model", "random", "--workers", 0, *settings]
    assert bench_command("extract", *command).returncode == 0
    done = bench_command("run", *command, "--json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["cost"]["encoder_clips"] == 0 and len(record["scores"]) == 3
    board = bench_command("leaderboard")
    assert board.returncode == 0 and "random" in board.stdout, board.stderr
