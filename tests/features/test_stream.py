"""Training clips that are encoded as they are needed: the same for any workers and batches, accounted for, resumed."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bench
from bench import BenchError
from bench.cards.load import flat, load_probe_card, override
from bench.core.progress import Silent
from bench.data.formats.lists import read_rows
from bench.encoders import load_encoder
from bench.features.extract import ExtractOptions, extract, space_fields
from bench.features.spec import ClipTokens, item_key, sample_items
from bench.features.store import FeatureSet, Store
from bench.features.stream import ClipStream
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.pipeline.run import extract_features, prepare
from bench.pipeline.suite import open_inputs
from bench.probing import fit
from bench.probing.objectives import OneLabel
from bench.probing.source import Rows
from bench.records.schema import Record
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.contents import content_ids
from bench.video.train_views import TrainViews

pytestmark = pytest.mark.slow

STILL = ClipPlan(
    frames_per_clip=8, frame_step=1, num_segments=1, views=1, size=16, sampling="center", seed=0,
    short_side=16, decoder="auto",
)  # fmt: skip
AUGMENTED = TrainViews(frames_per_clip=4, frame_step=1, num_segments=2, size=16, policy="official-video", seed=0)
SPEC = ClipTokens()
SHORT = {"probe.epochs": 2, "probe.batch_size": 8, "probe.lr": 1e-3}


def items_of(data: Path) -> list[VideoItem]:
    samples = read_rows(data / "train.csv").samples(data)
    contents = content_ids(data, [sample.path for sample in samples])
    return [sample_items(sample, contents, 1)[0] for sample in samples]


def stream_of(items: list[VideoItem], plan: ClipPlan | TrainViews, **options: Any) -> ClipStream:
    check = options.pop("check", None)
    how = ExtractOptions(**{"num_workers": 0, **options})
    return ClipStream(load_encoder("random"), [SPEC.request(item) for item in items], plan, SPEC, how, check)


def tokens_of(stream: ClipStream, wanted: list[tuple[int, Rows]]) -> torch.Tensor:
    return torch.cat([chunk.tokens for chunk in stream.chunks(wanted)])


def test_epochs_are_the_draws_that_a_cache_would_hold(bright_and_dark: Path, tmp_path: Path) -> None:
    items, encoder = items_of(bright_and_dark)[:4], load_encoder("random")
    first, second = (tokens_of(stream_of(items, AUGMENTED), [(epoch, np.arange(4))]) for epoch in (0, 1))
    assert first.shape == (4, 2 * 32, 64) and not torch.allclose(first, second, atol=1e-2)
    store = Store(tmp_path, space_fields(encoder, AUGMENTED, SPEC))
    draws = [replace(item, draw=draw) for draw in (0, 1) for item in items]
    done = extract(
        encoder,
        [SPEC.request(item) for item in draws],
        AUGMENTED,
        SPEC,
        store,
        ExtractOptions(num_workers=0, batch_size=3),
    )
    cached = torch.stack([torch.from_numpy(store.item(item_key(item))[0].copy()) for item in draws])
    torch.testing.assert_close(cached.float(), torch.cat([first, second]), rtol=0, atol=4e-3)
    assert done.encoded_clips == 8 * 2
    still = stream_of(items, STILL)
    assert torch.equal(tokens_of(still, [(0, np.arange(4))]), tokens_of(still, [(1, np.arange(4))]))


def test_workers_give_the_same_bits_and_batches_the_same_probe(bright_and_dark: Path) -> None:
    items = items_of(bright_and_dark)[:12]
    items[5] = replace(items[5], path=str(bright_and_dark / "missing.mp4"))
    labels = np.arange(len(items)) % 2
    recipe = override(load_probe_card("vjepa1-paper"), "probe", {"epochs": 2, "batch_size": 8})
    fitted = [
        fit(recipe, stream_of(items, AUGMENTED, **options), OneLabel(labels, 2), 1, seed=0).probe.state_dict()
        for options in ({}, {"num_workers": 2}, {"batch_size": 1}, {"batch_size": 6})
    ]
    for number, weights in enumerate(fitted):
        for name, weight in weights.items():
            if number == 1:
                assert torch.equal(weight, fitted[0][name]), name
            torch.testing.assert_close(weight, fitted[0][name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_sample_that_fails_is_left_out_and_not_tried_again(bright_and_dark: Path, num_workers: int) -> None:
    items = items_of(bright_and_dark)[:6]
    Path(items[2].path).write_bytes(b"no video")
    told: list[int] = []
    stream = stream_of(items, STILL, num_workers=num_workers, check=lambda failures: told.append(len(failures)))
    batches = [(epoch, rows) for epoch in range(12) for rows in (np.array([4, 2, 0]), np.array([2]), np.array([5, 1]))]
    chunks = list(stream.chunks(batches))
    assert [chunk.rows.tolist() for chunk in chunks] == [[4, 0], [], [5, 1]] * 12
    assert [(chunk.num_asked, chunk.ends_batch) for chunk in chunks] == [(3, True), (1, True), (2, True)] * 12
    assert list(stream.counts.failures) == [2] and stream.counts.clips == 48
    assert len(told) == 1 or num_workers  # which are asked for it again before it has failed
    expected = tokens_of(stream_of(items, STILL), [(0, np.array([4, 0, 5, 1]))])
    torch.testing.assert_close(torch.cat([chunk.tokens for chunk in chunks[:3]]), expected, rtol=0, atol=1e-5)


def options_of(data: Path, folder: Path, **options: Any) -> dict[str, Any]:
    given = {"task": "custom", "name": "brightness", "axis": "appearance", "workers": 0, "settings": SHORT}
    given |= {"data": data, "cache": folder / "cache", "results": folder / "results", "probe": "vjepa1-paper"}
    return given | options


def evaluate(data: Path, folder: Path, **options: Any) -> Record:
    record: Record = bench.evaluate(**options_of(data, folder, **options))
    return record


def probe_of(folder: Path, record: Record) -> dict[str, torch.Tensor]:
    return load_file(folder / "results" / record.run_id / "probe.safetensors")


def test_a_streaming_run_is_accounted_for(bright_and_dark: Path, tmp_path: Path) -> None:
    (bright_and_dark / "clips" / "train_0.mp4").unlink()
    (bright_and_dark / "clips" / "train_3.mp4").write_bytes(b"no video")
    first, again = (evaluate(bright_and_dark, tmp_path, max_failed=0.1) for _ in range(2))
    assert {failure.sample for failure in first.failures} == {"clips/train_0.mp4", "clips/train_3.mp4"}
    assert (first.num_train, first.scores[0].n) == (22, 12)
    assert first.protocol == "vjepa1-paper/3 1x1 center epochs=2 batch_size=8"
    assert first.cost.encoder_clips == 2 * 22 + 12 and first.resolved["train_clips"]["draws"] == 2
    training = first.resolved["training"]
    assert training["streamed_clips"] == 44 and 0 < training["waiting_share"] < 1 and training["clips_per_s"] > 0
    assert (again.cost.encoder_clips, again.cost.cached_clips, again.cost.cached_probe) == (0, 12, True)
    assert again.failures == first.failures and again.scores == first.scores and again.num_train == 22
    assert not list((tmp_path / "cache" / "training").glob("*"))


def test_too_many_failures_end_the_training(bright_and_dark: Path, tmp_path: Path) -> None:
    for number in (3, 4):
        (bright_and_dark / "clips" / f"train_{number}.mp4").write_bytes(b"no video")
    with pytest.raises(BenchError, match="2 of 24 train samples cannot be read"):
        evaluate(bright_and_dark, tmp_path, max_failed=0.05)


def test_a_choice_is_made_on_still_clips_of_samples_that_are_not_trained_on(
    bright_and_dark: Path, tmp_path: Path
) -> None:
    settings = {"probe.epochs": 1, "probe.batch_size": 8, "probe.lr": [1e-3, 1e-2], "probe.weight_decay": 0.1}
    record = evaluate(bright_and_dark, tmp_path, probe="vjepa2", settings=settings)
    held_out = record.resolved["training"]["held_out_samples"]
    assert held_out == 2 and record.cost.encoder_clips == 22 + held_out + 12
    assert record.resolved["held_out_clips"]["sampling"] == "center" and record.num_train == 24
    assert all(head.held_out_loss is not None and head.test_loss is None for head in record.heads)
    assert not record.selected_on_test


def test_the_papers_own_choice_is_made_on_the_test_split_after_training_on_everything(
    bright_and_dark: Path, tmp_path: Path
) -> None:
    settings = {"probe.epochs": 1, "probe.batch_size": 8, "probe.lr": [1e-6, 1e-3, 1e-2], "probe.weight_decay": 0.1}
    record = evaluate(bright_and_dark, tmp_path, probe="vjepa2-paper", settings=settings)
    assert record.selected_on_test and record.resolved["training"]["held_out_samples"] == 0
    assert record.cost.encoder_clips == 24 + 12, "every training clip once, every test clip once"
    best = max(record.heads, key=lambda head: (head.test_accuracy, -head.test_loss))
    assert best.chosen and best.test_accuracy == pytest.approx(record.scores[0].value)
    assert all(head.held_out_accuracy is None for head in record.heads)
    assert any(note.startswith("selected on test: the best of 3 settings") for note in record.notes)


class Interrupt(Silent):
    """Sends this process what Ctrl-C sends, at the n-th report on the training."""

    def __init__(self, number: int) -> None:
        self._left = number

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        if name.endswith(": train"):
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_and_the_same_command_again_give_the_same_probe(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "probe.epochs": 3}
    alone = evaluate(bright_and_dark, tmp_path / "a", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        evaluate(bright_and_dark, tmp_path / "b", settings=settings, reporter=Interrupt(5))
    (kept,) = (tmp_path / "b" / "cache" / "training").glob("*/*.safetensors")
    assert kept.name == "train-0-0.safetensors"
    record = evaluate(bright_and_dark, tmp_path / "b", settings=settings, batch_size=100)
    assert record.cost.encoder_clips < alone.cost.encoder_clips + 12
    ours, theirs = probe_of(tmp_path / "b", record), probe_of(tmp_path / "a", alone)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_augmented_views_are_cached_and_chosen_on_still_clips(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {"probe.epochs": 2, "probe.min_steps": 1, "probe.lr": [1e-3, 1e-2], "probe.weight_decay": 0.01}
    settings = {**settings, "probe.train_views": 3, "probe.augmentation": "official", "probe.held_out": 0.2}
    first, again = (evaluate(bright_and_dark, tmp_path, probe="attentive", settings=settings) for _ in range(2))
    assert first.cost.encoder_clips == 24 * 3 + 5 + 12 and first.resolved["training"]["held_out_samples"] == 5
    assert (again.cost.encoder_clips, again.cost.cached_clips) == (0, 24 * 3 + 5 + 12)
    assert "train_views=3 augmentation=official" in first.protocol
    assert first.resolved["train_clips"]["policy"] == "official-video"
    plain = evaluate(bright_and_dark, tmp_path, probe="attentive", settings={**SHORT, "probe.min_steps": 1})
    assert plain.digests["train_features"] != first.digests["train_features"]


def test_another_process_finds_what_was_prepared(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "probe.lr": [1e-3, 1e-2], "probe.augmentation": "official", "probe.train_views": 2}
    settings["probe.held_out"] = 0.2
    plan = make_plan(make_options(options_of(bright_and_dark, tmp_path, probe="attentive", settings=settings)))
    prepared = prepare(plan, Silent())
    ours, theirs = prepared.inputs, open_inputs(pickle.loads(pickle.dumps(prepared.job)))
    assert isinstance(ours.train, FeatureSet) and isinstance(theirs.train, FeatureSet)
    assert ours.held_out is not None and theirs.held_out is not None
    everything, five = np.arange(24), np.arange(5)
    assert torch.equal(ours.train.read(everything, 1), theirs.train.read(everything, 1))
    assert torch.equal(ours.held_out.tokens.read(five, 0), theirs.held_out.tokens.read(five, 0))
    assert np.array_equal(ours.held_out.rows, theirs.held_out.rows) and len(ours.held_out.readable) == 5


@pytest.fixture
def plan_of(bright_and_dark: Path, tmp_path: Path) -> Any:
    def make(**options: Any) -> RunPlan:
        return make_plan(make_options(options_of(bright_and_dark, tmp_path, **options)))

    return make


def test_a_forecast_counts_every_epoch_and_no_training_cache(plan_of: Any) -> None:
    clip = plan_of(settings={}).clip_tokens
    streamed = forecast(plan_of(settings={}))
    assert streamed.clips == 20 * 24 + 12 and streamed.tokens == streamed.clips * clip
    assert streamed.feature_bytes == 12 * clip * 64 * 2
    chosen = forecast(plan_of(probe="vjepa2", settings={"probe.refit": True}))
    assert chosen.clips == 20 * 22 + 2 + 20 * 24 + 12 and chosen.feature_bytes == (2 + 12) * clip * 64 * 2
    paper = forecast(plan_of(probe="vjepa2-paper", settings={}))
    assert paper.clips == 20 * 24 + 12 and paper.feature_bytes == 12 * clip * 64 * 2
    views = {"probe.train_views": 4, "probe.augmentation": "official", "probe.held_out": 0.2}
    assert forecast(plan_of(probe="attentive", settings=views)).clips == 4 * 24 + 5 + 12


def test_a_forecast_of_clips_apart_counts_one_training_clip(plan_of: Any) -> None:
    apart = {"clip.segments": 2, "clip.attend_across_segments": False}
    clip = plan_of(settings=apart).clip_tokens
    cached = forecast(plan_of(probe="attentive", settings=apart))
    assert cached.clips == 24 + 12 * 2 and cached.feature_bytes == cached.clips * clip * 64 * 2
    streamed = forecast(plan_of(probe="vjepa2", settings=apart))
    assert streamed.clips == 20 * 22 + (2 + 12) * 2 and streamed.feature_bytes == (2 + 12) * 2 * clip * 64 * 2


def test_protocols_say_how_training_clips_come_about(plan_of: Any) -> None:
    assert plan_of(settings={}).protocol == "vjepa1-paper/3 1x1 center"
    cached = plan_of(settings={"probe.streaming": False, "probe.train_views": 8})
    assert cached.protocol == "vjepa1-paper/3 1x1 center train_views=8 streaming=False"
    assert plan_of(probe="attentive", settings={}).protocol == "attentive/3 1x1 center"
    assert plan_of(settings={"probe.augmentation": "none"}).protocol.endswith("center augmentation=none")


def test_recipes_without_augmentation_are_written_as_before_there_was_any() -> None:
    for name in ("attentive", "linear", "knn"):
        recipe = load_probe_card(name)
        assert not {"augmentation", "streaming"} & (recipe.model_dump().keys() | flat(recipe).keys())
    assert load_probe_card("vjepa1-paper").model_dump(mode="json")["streaming"] is True


@pytest.mark.parametrize(
    ("probe", "settings", "words"),
    [
        ("linear", {"streaming": True}, "pooled tokens need those of all samples at once"),
        ("knn", {"streaming": True}, "pooled tokens need those of all samples at once"),
        ("vjepa1-paper", {"train_views": 2}, "fresh view"),
        ("attentive", {"augmentation": "some"}, "augmentation"),
    ],
)
def test_cards_that_cannot_be_are_refused(probe: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        override(load_probe_card(probe), "probe", settings)


def test_a_streaming_recipe_has_nothing_to_extract(plan_of: Any) -> None:
    with pytest.raises(BenchError, match="none go to the cache"):
        extract_features(plan_of(settings={}), load_encoder("random"), Silent())
