"""Absurd numbers are refused from the numbers alone: in cards, in `--set`, in presets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cards.load import load_probe_card, load_task, override
from bench.core.errors import BenchError
from bench.pipeline.estimate.plans import read_video_facts
from bench.pipeline.plan import make_plan
from bench.pretrain.plan import encoder_config
from bench.pretrain.presets import load_preset
from bench.pretrain.presets import override as change
from bench.tasks.options import make_options

ABSURD = (10**9 + 1, 10**18, 10**400, -1, 0, True, math.nan, math.inf, "many")
CARD = {"name": "mine", "title": "t", "axis": "motion", "axis_source": "s"}


@pytest.mark.parametrize("number", [10**12, 10**6 + 1, 1, -3, True, math.nan, 2.5])
def test_classes(tmp_path: Path, number: float) -> None:
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**CARD, "classes": number}))
    with pytest.raises(BenchError, match=r"card\.yaml: classes"):
        load_task(str(tmp_path / "card.yaml"))


@pytest.mark.parametrize("key", ["frames", "step", "segments", "views", "resolution", "fps", "duration_s"])
@pytest.mark.parametrize("number", [*ABSURD, 1e-300])
def test_clips(key: str, number: Any) -> None:
    with pytest.raises(BenchError, match=f"clip.{key}"):
        override(load_task("custom"), "clip", {key: number})


@pytest.mark.parametrize("key", ["epochs", "batch_size", "min_steps", "num_blocks", "num_heads", "train_views"])
@pytest.mark.parametrize("number", ABSURD)
def test_recipes(key: str, number: Any) -> None:
    with pytest.raises(BenchError, match=key):
        override(load_probe_card("attentive"), "probe", {key: number})


def test_a_deviation_that_no_pixel_has() -> None:
    with pytest.raises(BenchError, match=r"clip\.std: 1e-300 is below 0\.0001"):
        override(load_task("custom"), "clip", {"std": [0.2, 0.2, 1e-300]})


@pytest.mark.parametrize("number", [10**18, 0, True, math.nan])
def test_neighbours(number: float) -> None:
    with pytest.raises(BenchError, match="neighbours"):
        override(load_probe_card("knn"), "probe", {"neighbours": [1, number]})


def test_the_number_of_settings() -> None:
    with pytest.raises(BenchError, match="at most 1000 settings"):
        override(load_probe_card("attentive"), "probe", {"lr": [1e-3] * 100, "weight_decay": [0.1] * 100})


@pytest.mark.parametrize(
    "key",
    [
        *("encoder.num_frames", "encoder.resolution", "encoder.depth"),
        *("head.embed_dim", "head.depth", "head.num_heads", "head.hidden_dim", "head.out_dim"),
        *("epochs", "steps_per_epoch", "global_batch", "micro_batch", "frame_step", "keep_every", "lr", "eps"),
    ],
)
@pytest.mark.parametrize("number", ABSURD)
def test_presets(key: str, number: Any) -> None:
    with pytest.raises(BenchError, match=key.rpartition(".")[2]):
        change(load_preset("nano"), {key: number})


def test_sizes_that_are_absurd_together() -> None:
    with pytest.raises(BenchError, match="1000 x 10 clips of 10000 frames, 16 px are 25,600,000,000 pixels a sample"):
        make_plan(make_options({"settings": {"clip.frames": 10_000, "clip.segments": 1000, "clip.views": 10}}))
    with pytest.raises(BenchError, match="31,250,000,000 tokens"):
        encoder_config(change(load_preset("nano"), {"encoder.num_frames": 10_000, "encoder.resolution": 10_000}))


@pytest.mark.parametrize("text", ["100000x100000@30,10", "340x256@0,10", "340x256@30,99999999", "340x256@1e9,1"])
def test_a_typical_video(text: str) -> None:
    with pytest.raises(BenchError, match="--video"):
        read_video_facts(text)
