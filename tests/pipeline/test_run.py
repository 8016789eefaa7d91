"""A whole run, on videos small enough for a test: what comes out, and what is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench import BenchError
from bench.cards.load import load_probe_card
from bench.records.schema import read_record
from bench.video.contents import content_ids

pytestmark = pytest.mark.slow

SHORT = {"probe.epochs": 1, "probe.min_steps": 60, "probe.lr": [1e-2, 1e-3], "probe.weight_decay": 0.01}


def evaluate(data: Path, cache: Path, **options: Any) -> bench.records.schema.Record:  # type: ignore[name-defined]
    given = {"task": "custom", "name": "brightness", "axis": "appearance", "workers": 0, "settings": SHORT, "seeds": 1}
    given |= {"data": data, "cache": cache / "cache", "results": cache / "results"}
    return bench.evaluate(**(given | options))


def test_an_easy_task_is_read(bright_and_dark: Path, tmp_path: Path) -> None:
    record = evaluate(bright_and_dark, tmp_path)
    score = record.scores[0]
    assert score.value == 100 and (score.correct, score.n, score.failed) == (12, 12, 0)
    assert (record.task, record.axis, record.model, record.num_train) == ("brightness", "appearance", "random", 24)
    assert record.cost.encoder_clips == 36 and record.cost.cached_clips == 0
    assert [head.chosen for head in record.heads].count(True) >= 1 and len(record.heads) == 2
    assert all(head.held_out_accuracy is not None for head in record.heads)


def test_the_record_on_disk_is_the_record(bright_and_dark: Path, tmp_path: Path) -> None:
    record = evaluate(bright_and_dark, tmp_path)
    folder = tmp_path / "results" / record.run_id
    assert read_record(folder / "record.json") == record
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert list(rows["sample"]) == [f"clips/val_{i}.mp4" for i in range(12)]
    assert (rows["label"] == rows["prediction"]).sum() == record.scores[0].correct
    assert np.allclose(np.stack(list(rows["probabilities"])).sum(1), 1, atol=1e-5)


def test_the_trained_probe_is_kept_and_gives_the_predictions(bright_and_dark: Path, tmp_path: Path) -> None:
    from bench.features.store import FeatureSet, Store
    from bench.probing import load_probe, predict

    record = evaluate(bright_and_dark, tmp_path)
    probe = load_probe(tmp_path / "results" / record.run_id / "probe.safetensors")
    space = tmp_path / "cache" / "features" / record.digests["test_features"]
    store = Store(tmp_path / "cache", json.loads((space / "space.json").read_text()))
    rows = pd.read_parquet(tmp_path / "results" / record.run_id / "predictions.parquet")
    paths = [str(bright_and_dark / sample) for sample in rows["sample"]]
    ids = content_ids(tmp_path / "cache", paths)
    keys = [f"{ids[path]}/0" for path in paths]
    store.open(keys)
    again = predict(probe, FeatureSet(store, [[key] for key in keys]))
    assert np.allclose(again, np.stack(list(rows["probabilities"])), atol=1e-6)


@pytest.mark.parametrize("probe", ["attentive", "vjepa1-paper"])
def test_heads_and_blocks_are_those_that_were_asked_for(bright_and_dark: Path, tmp_path: Path, probe: str) -> None:
    from bench.probing import load_probe

    usual = {"probe.lr": 1e-5, "probe.epochs": 2, "probe.min_steps": 1}
    settings = {**usual, "probe.num_heads": 8, "probe.num_blocks": 2}
    record = evaluate(bright_and_dark, tmp_path, probe=probe, settings=settings)
    (head,) = load_probe(tmp_path / "results" / record.run_id / "probe.safetensors").heads
    assert head.num_heads == 8 and sum(name.endswith("qkv.weight") for name in head.state_dict()) == 1
    assert {"num_blocks=2", "num_heads=8"} <= set(record.protocol.split())
    assert (record.resolved["recipe"]["num_heads"], record.resolved["recipe"]["num_blocks"]) == (8, 2)
    again = evaluate(bright_and_dark, tmp_path, probe=probe, settings={**settings, "probe.num_heads": 4})
    assert again.cost.cached_clips == (36 if probe == "attentive" else 12) and not again.cost.cached_probe
    assert again.heads[0].train_loss != record.heads[0].train_loss


@pytest.mark.parametrize("probe", ["linear", "vjepa1-paper"])
def test_another_normalisation_is_recorded_and_has_features_of_its_own(
    bright_and_dark: Path, tmp_path: Path, probe: str
) -> None:
    settings = {"probe.lr": 1e-2, "probe.epochs": 1, "probe.min_steps": 1}
    usual = evaluate(bright_and_dark, tmp_path, probe=probe, settings=settings)
    other = evaluate(bright_and_dark, tmp_path, probe=probe, settings={**settings, "clip.std": [0.5, 0.5, 0.5]})
    for split in ("train", "test"):
        assert other.digests[f"{split}_features"] != usual.digests[f"{split}_features"]
    assert other.cost.cached_clips == 0 and other.digests["encoder"] == usual.digests["encoder"]
    assert other.resolved["encoder"]["input_spec"]["std"] == [0.5, 0.5, 0.5]
    assert other.resolved["task"]["clip"]["std"] == [0.5, 0.5, 0.5] and "std" not in usual.resolved["task"]["clip"]
    assert other.input.endswith(", std 0.5,0.5,0.5") and " std 0.5,0.5,0.5 " in f"{other.protocol} "


def test_a_second_run_reads_the_cache_and_gives_the_same_answer(bright_and_dark: Path, tmp_path: Path) -> None:
    first, second = evaluate(bright_and_dark, tmp_path), evaluate(bright_and_dark, tmp_path)
    assert (second.cost.encoder_clips, second.cost.cached_clips) == (0, 36)
    predictions = [
        pd.read_parquet(tmp_path / "results" / record.run_id / "predictions.parquet") for record in (first, second)
    ]
    pd.testing.assert_frame_equal(*predictions)
    assert first.heads == second.heads and first.digests == second.digests


@pytest.mark.parametrize("options", [{"workers": 2}, {"batch_size": 1}, {"batch_size": 7}, {"decoder": "pyav"}])
def test_workers_and_batches_change_neither_score_nor_protocol(
    bright_and_dark: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    reference = evaluate(bright_and_dark, tmp_path / "a")
    record = evaluate(bright_and_dark, tmp_path / "b", **options)
    assert record.scores == reference.scores
    assert record.protocol == reference.protocol and record.digests == reference.digests


@pytest.mark.parametrize("probe", ["linear", "knn", "vjepa1-paper"])
def test_every_recipe_runs(bright_and_dark: Path, tmp_path: Path, probe: str) -> None:
    settings = {"probe.neighbours": [1, 3]} if probe == "knn" else {}
    settings |= {"probe.epochs": 2} if probe == "vjepa1-paper" else {}
    record = evaluate(bright_and_dark, tmp_path, probe=probe, settings=settings)
    assert record.probe == probe and record.protocol.startswith(f"{probe}/{load_probe_card(probe).version} ")
    if probe == "vjepa1-paper":  # two steps are too few to learn here; its rules are tested with the optimiser
        assert len(record.heads) == 1 and any("RandAugment" in note for note in record.notes)
    else:
        assert record.scores[0].value >= 90


def test_several_segments_views_and_draws(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "clip.segments": 2, "clip.views": 3, "clip.frames": 4, "probe.train_views": 2}
    record = evaluate(bright_and_dark, tmp_path, settings=settings)
    assert record.cost.encoder_clips == 24 * 2 * 2 + 12 * 2 * 3
    assert record.input == "4x16px step 1" and " 2x3 " in record.protocol
    assert record.scores[0].value == 100


@pytest.mark.parametrize("views", [2, 5])
def test_any_number_of_views_is_encoded_and_named(bright_and_dark: Path, tmp_path: Path, views: int) -> None:
    record = evaluate(bright_and_dark, tmp_path, settings={**SHORT, "clip.views": views})
    assert record.cost.encoder_clips == 24 + 12 * views and f" 1x{views} " in record.protocol
    assert record.scores[0].value == 100


APART = {"clip.segments": 2, "clip.views": 3, "clip.frames": 4, "clip.attend_across_segments": False}


@pytest.mark.parametrize(
    ("probe", "settings", "clips"),
    [
        ("attentive", {}, 24),
        ("attentive", {"probe.augmentation": "official", "probe.train_views": 2}, 24 * 2 + 1 * 2),
        ("linear", {}, 24),
        ("vjepa1-paper", {"probe.epochs": 2, "probe.min_steps": 1}, 24 * 2),
    ],
    ids=["cached", "chosen on other clips", "linear", "streamed"],
)
def test_segments_can_be_classified_one_by_one(
    bright_and_dark: Path, tmp_path: Path, probe: str, settings: dict[str, Any], clips: int
) -> None:
    """protocol.md 3.2, 4.3: trained on one clip of a video; at test the softmax is averaged over clips and views."""
    from bench.pipeline.suite import open_features
    from bench.probing import load_probe

    settings = {
        "probe.lr": [1e-2, 1e-3],
        "probe.weight_decay": 0.01,
        "probe.epochs": 1,
        "probe.min_steps": 20,
        **settings,
    }
    settings |= {"probe.lr": 1e-3} if probe == "vjepa1-paper" else {}
    record = evaluate(bright_and_dark, tmp_path, probe=probe, settings={**settings, **APART})
    assert record.cost.encoder_clips == clips + 12 * 2 * 3 and " 2x3 center clips apart" in record.protocol
    train, test = record.resolved["train_clips"], record.resolved["test_clips"]
    assert (train["num_segments"], test["num_segments"]) == (1, 2)

    folder = tmp_path / "results" / record.run_id
    space, cache = record.digests["test_features"], tmp_path / "cache"
    rows = pd.read_parquet(folder / "predictions.parquet")
    ids = content_ids(cache, [str(bright_and_dark / sample) for sample in rows["sample"]])
    tokens = open_features(cache, space, [[f"{ids[str(bright_and_dark / sample)]}/0"] for sample in rows["sample"]])
    (head,) = load_probe(folder / "probe.safetensors").heads
    each = [
        head(clip.float()).softmax(dim=-1)
        for view in range(3)
        for clip in tokens.read(np.arange(12), view).chunk(2, dim=1)
    ]
    np.testing.assert_allclose(np.stack(rows["probabilities"]), torch.stack(each).mean(0).numpy(), atol=1e-5)

    if probe == "linear":
        given = evaluate(bright_and_dark, tmp_path, probe_weights=folder / "probe.safetensors", settings=APART)
        again = pd.read_parquet(tmp_path / "results" / given.run_id / "predictions.parquet")
        pd.testing.assert_frame_equal(rows, again)
        jointly = {**settings, **APART, "clip.attend_across_segments": True}
        record = evaluate(bright_and_dark, tmp_path, probe=probe, settings=jointly)
        assert record.cost.cached_clips == 12 * 2 * 3, "the encoder sees the same test clips"
        assert "apart" not in record.protocol and "attend_across_segments" not in record.resolved["task"]["clip"]


def test_unreadable_samples_are_listed_and_never_replaced(bright_and_dark: Path, tmp_path: Path) -> None:
    (bright_and_dark / "clips" / "val_3.mp4").write_bytes(b"")
    (bright_and_dark / "clips" / "train_0.mp4").unlink()
    record = evaluate(bright_and_dark, tmp_path, max_failed=0.2)
    assert {(f.sample, f.split) for f in record.failures} == {
        ("clips/val_3.mp4", "test"),
        ("clips/train_0.mp4", "train"),
    }
    assert (record.scores[0].n, record.scores[0].failed, record.num_train) == (11, 1, 23)
    rows = pd.read_parquet(tmp_path / "results" / record.run_id / "predictions.parquet")
    assert "clips/val_3.mp4" not in set(rows["sample"]) and len(rows) == 11


def test_too_many_unreadable_samples_give_no_score(bright_and_dark: Path, tmp_path: Path) -> None:
    (bright_and_dark / "clips" / "val_3.mp4").write_bytes(b"")
    with pytest.raises(BenchError) as refusal:
        evaluate(bright_and_dark, tmp_path)
    assert "1 of 12 test files" in str(refusal.value) and "clips/val_3.mp4" in str(refusal.value)
    assert not list((tmp_path / "results").glob("*/record.json"))


def test_a_limited_run_never_shares_a_column_with_a_full_one(bright_and_dark: Path, tmp_path: Path) -> None:
    limited = evaluate(bright_and_dark, tmp_path, limit=10)
    assert limited.protocol != evaluate(bright_and_dark, tmp_path).protocol
    assert limited.scores[0].n == 10 and any("--limit" in note for note in limited.notes)


def test_changed_recipes_have_a_protocol_of_their_own(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "probe.min_steps": 61}
    assert (
        evaluate(bright_and_dark, tmp_path).protocol != evaluate(bright_and_dark, tmp_path, settings=settings).protocol
    )


def test_the_same_lists_over_other_videos_are_another_measurement(bright_and_dark: Path, tmp_path: Path) -> None:
    first = evaluate(bright_and_dark, tmp_path)
    clips = bright_and_dark / "clips"
    (clips / "val_0.mp4").write_bytes((clips / "train_2.mp4").read_bytes())
    second = evaluate(bright_and_dark, tmp_path)
    assert first.digests["test_list"] != second.digests["test_list"]
    assert any("1 test videos have the same bytes" in note for note in second.notes)


def test_limited_runs_of_several_seeds_see_the_same_samples(bright_and_dark: Path, tmp_path: Path) -> None:
    digests = [evaluate(bright_and_dark, tmp_path, limit=10, seed=seed).digests["test_list"] for seed in (0, 1)]
    assert digests[0] == digests[1]


def test_a_recipe_of_ones_own_never_shares_a_column_with_a_shipped_one(bright_and_dark: Path, tmp_path: Path) -> None:
    import yaml

    from bench.core.files import content_folder

    card = yaml.safe_load((content_folder("probes") / "linear.yaml").read_text())
    card["optimisation"]["min_steps"] = 5
    (tmp_path / "linear.yaml").write_text(yaml.safe_dump(card))
    own = evaluate(bright_and_dark, tmp_path, probe=str(tmp_path / "linear.yaml"), settings={})
    shipped = evaluate(bright_and_dark, tmp_path, probe="linear", settings={})
    assert own.probe == shipped.probe and own.protocol != shipped.protocol


def test_options_of_another_type_are_named(bright_and_dark: Path, tmp_path: Path) -> None:
    for wrong in ({"seed": "a"}, {"limit": "many"}, {"model": 3}, {"decoder": "opencv"}):
        with pytest.raises(BenchError, match=f"--{next(iter(wrong))}"):
            evaluate(bright_and_dark, tmp_path, **wrong)


def test_the_test_split_does_not_enter_the_choice(bright_and_dark: Path, tmp_path: Path) -> None:
    """With every test label turned round, the heads and what was chosen stay the same, and the score turns too."""
    right = evaluate(bright_and_dark, tmp_path)
    text = (bright_and_dark / "val.csv").read_text().splitlines()
    turned = [f"{line[:-1]}{1 - int(line[-1])}" for line in text]
    (bright_and_dark / "val.csv").write_text("\n".join(turned))
    wrong = evaluate(bright_and_dark, tmp_path)
    assert wrong.heads == right.heads
    assert wrong.scores[0].value == 100 - right.scores[0].value


def test_an_official_checkpoint_runs(bright_and_dark: Path, tmp_path: Path) -> None:
    from support import GOLDEN

    record = evaluate(
        bright_and_dark, tmp_path, model=str(GOLDEN / "vjepa1.pth.tar"), settings={**SHORT, "encoder.num_heads": 2}
    )
    assert (record.model, record.input, record.scores[0].value) == ("vjepa1", "8x64px step 4", 100)
    assert any("read as V-JEPA 1" in note for note in record.notes)
    assert record.resolved["encoder"]["report"]["key"] == "target_encoder"


def test_a_run_at_another_resolution_builds_the_encoder_for_it(bright_and_dark: Path, tmp_path: Path) -> None:
    from support import GOLDEN

    spec, settings = str(GOLDEN / "vjepa1.pth.tar"), {**SHORT, "encoder.num_heads": 2, "clip.resolution": 32}
    record = evaluate(bright_and_dark, tmp_path, model=spec, settings=settings)
    assert record.digests["encoder"] == bench.load_encoder(spec, num_heads=2, resolution=32).digest
    assert any("positions made anew for 32 px" in note for note in record.notes)


def test_unknown_options_get_the_nearest() -> None:
    with pytest.raises(BenchError, match="did you mean 'workers'"):
        bench.evaluate(worker=2)


def test_an_image_encoder_is_measured_with_and_without_times(bright_and_dark: Path, tmp_path: Path) -> None:
    small = {"clip.frames": 2, "clip.resolution": 32, "clip.crop": "full", **SHORT}
    for spec in ("timm:test_vit+untrained", "timm:test_vit+time+untrained"):
        record = evaluate(bright_and_dark, tmp_path, model=spec, settings=small)
        assert (record.model, record.input) == (spec, "2x32px step 4, bicubic")
        assert record.scores[0].value == 100
        assert record.resolved["encoder"]["input_spec"]["interpolation"] == "bicubic"
        assert record.resolved["encoder"]["report"]["weights"] == "untrained, seed 0"
    assert record.resolved["encoder"]["report"]["frame_times"] == "sin-cos code added"
