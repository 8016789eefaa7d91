"""Segmentation of still images from start to end, on small painted scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standins import standin

import bench
from bench import BenchError
from bench.core.progress import Silent
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec
from bench.features.spec import PatchTokens
from bench.pipeline.plan import make_plan
from bench.probing import load_probe, save_probe
from bench.probing.dense import BIAS, WEIGHT, DenseProbe
from bench.records.runs import open_run
from bench.records.schema import Record
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.clip_views import VideoItem
from bench.video.loader import load_clips

SETTINGS = {
    "clip.resolution": 32,
    "probe.lr": [1e-4, 1e-2],
    "probe.weight_decay": 1e-4,
    "probe.epochs": 3,
    "probe.min_steps": 60,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation")
    standin("ade20k", folder / "data", train=24, test=12)
    return folder


def options(folder: Path, **given: Any) -> dict[str, Any]:
    settings = {**SETTINGS, **given.pop("settings", {})}
    if "probe_weights" in given:
        settings = {"clip.resolution": 32}
    usual = {"task": "ade20k", "model": "random", "data": folder / "data", "workers": 0, "device": "cpu"}
    return {**usual, "cache": folder / "cache", "results": folder / "results", **given, "settings": settings}


def run(folder: Path, **given: Any) -> Record:
    return bench.evaluate(**options(folder, **given))


def plan(folder: Path, **given: Any) -> RunPlan:
    return make_plan(make_options(options(folder, **given)), Silent())


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return run(folder)


def test_shapes_are_found_and_the_record_says_how(folder: Path, record: Record) -> None:
    iou, accuracy = record.scores
    assert (iou.metric, accuracy.metric, iou.n, iou.failed) == ("mIoU", "pixel-accuracy", 12, 0)
    assert iou.value > 80 and accuracy.value > 90 and iou.interval == "bootstrap over 12 images, 95 %"
    assert record.input == "32px image, squashed"
    assert record.protocol.startswith("segmentation-linear/1 image masks of own size epochs=3")
    assert [head.chosen for head in record.heads] == [False, True]
    (parts,) = record.breakdowns
    assert (parts.metric, parts.by, len(parts.values)) == ("IoU", "class", 150)
    assert [name for name, value in parts.values.items() if value] == ["wall", "building", "sky"]
    opened = open_run(str(folder / "results" / record.run_id))
    assert opened is not None and not opened.doubts


def test_a_mask_that_changed_is_another_task_and_its_probe_is_trained_anew(folder: Path, record: Record) -> None:
    assert run(folder).cost.cached_probe
    mask = folder / "data" / "annotations" / "training" / "ADE_train_00000001.png"
    before = mask.read_bytes()
    values = np.array(Image.open(mask))
    values[0, 0] = 2
    Image.fromarray(values).save(mask)
    try:
        again = run(folder)
    finally:
        mask.write_bytes(before)
    assert not again.cost.cached_probe and again.cost.encoder_clips == 0
    assert again.digests["train_list"] != record.digests["train_list"]
    assert again.digests["test_list"] == record.digests["test_list"]


def test_the_size_of_the_masks_is_a_part_of_the_protocol(folder: Path, record: Record) -> None:
    other = run(folder, settings={"probe.scored_at": 16})
    assert "masks of 16px" in other.protocol and "scored_at" not in other.protocol
    assert other.scores[0].value != record.scores[0].value and other.cost.encoder_clips == 0
    probe = folder / "results" / other.run_id / "probe.safetensors"
    assert run(folder, probe_weights=probe).scores == other.scores, "a given probe is scored as its file says"


def test_a_probe_whose_classes_are_in_another_order_gives_the_same_scores(
    folder: Path, record: Record, tmp_path: Path
) -> None:
    file = folder / "results" / record.run_id / "probe.safetensors"
    loaded = load_probe(file)
    order = np.random.RandomState(0).permutation(150)
    tensors = dict(loaded.heads[0].state_dict())
    tensors |= {name: tensors[name][torch.from_numpy(order)] for name in (WEIGHT, BIAS)}
    names = [record.class_names[label] for label in order]
    save_probe(tmp_path / "p.safetensors", DenseProbe(tensors), {**loaded.metadata, "classes": json.dumps(names)})
    assert run(folder, probe_weights=tmp_path / "p.safetensors").scores == record.scores


def test_an_image_that_cannot_be_read_is_a_counted_failure(tmp_path: Path) -> None:
    standin("ade20k", tmp_path / "data", train=8, test=4)
    (tmp_path / "data" / "images" / "validation" / "ADE_val_00000009.jpg").write_bytes(b"no image")
    with pytest.raises(BenchError, match="1 of 4 test samples cannot be read"):
        run(tmp_path)
    made = run(tmp_path, max_failed=0.25)
    assert (made.scores[0].n, made.scores[0].failed) == (3, 1)


def test_a_mask_that_does_not_fit_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    standin("ade20k", tmp_path / "data", train=8, test=4)
    mask = tmp_path / "data" / "annotations" / "validation" / "ADE_val_00000010.png"
    Image.new("L", (9, 9)).save(mask)
    with pytest.raises(BenchError, match="is 9x9 pixels, its image") as refused:
        plan(tmp_path)
    assert refused.value.where == str(mask)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"probe": "linear"}, "reads whole clips, not masks"),
        ({"probe": "ava-attentive"}, "reads whole clips, not masks"),
        ({"settings": {"clip.crop": "full"}}, "crop full means nothing for images with masks"),
        ({"settings": {"clip.resolution": 33}}, "do not divide into patches"),
        ({"settings": {"probe.scored_at": 0}}, "scored_at"),
        ({"controls": "shuffled"}, "--controls means nothing for images"),
    ],
)
def test_what_means_nothing_for_masks_is_refused(folder: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        plan(folder, **given)


def test_recipes_for_masks_are_for_masks_alone(tmp_path: Path) -> None:
    standin("in1k", tmp_path / "data", train=4, test=2)
    with pytest.raises(BenchError, match="recipe segmentation-linear reads masks, and task in1k has none"):
        make_plan(make_options({"task": "in1k", "data": tmp_path / "data", "probe": "segmentation-linear"}))


def test_the_whole_image_is_seen(folder: Path) -> None:
    """Corners have their own colours; a crop would lose them."""
    test = plan(folder).test_clips
    shown = Image.new("RGB", (64, 40))
    for number, place in enumerate(((0, 0), (48, 0), (0, 24), (48, 24))):
        shown.paste((60 * (number + 1),) * 3, (*place, place[0] + 16, place[1] + 16))
    shown.save(folder / "corners.png")
    (loaded,) = load_clips([VideoItem("corners", str(folder / "corners.png"))], test, num_workers=0)
    assert loaded.pixels is not None
    view = loaded.pixels.view(32, 32, 3)[..., 0]
    assert [int(view[row, column]) for row in (0, -1) for column in (0, -1)] == [60, 120, 180, 240]


class Numbered(torch.nn.Module):
    """Tokens that say their place: one special and 2 x 3 patches in each of two steps of time."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.arange(14.0).view(1, 14, 1).repeat(len(clips), 1, 2)


def test_patches_are_averaged_over_time_without_special_tokens() -> None:
    facts = EncoderFacts(
        name="numbered",
        embed_dim=2,
        num_heads=1,
        patch_size=4,
        tubelet_size=1,
        input_spec=InputSpec(num_frames=2, resolution=8),
        architecture={},
        special_tokens=1,
        still_frames=2,
    )
    spec = PatchTokens()
    encoder = Encoder(facts, Numbered())
    tokens = spec.read(encoder, torch.zeros(1, 3, 2, 8, 12), [])
    assert tokens.shape[1:] == spec.shape(facts, (2, 8, 12)) == (6, 2)
    assert tokens[0, :, 0].tolist() == [(first + first + 7) / 2 for first in range(1, 7)]


def test_layers_are_joined_channel_by_channel(folder: Path) -> None:
    several = plan(folder, settings={"clip.layers": "0,2"})
    encoder = several.load_encoder()
    clips = torch.randn(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = several.spec.read(encoder, clips, [])
    steps, height, width = encoder.grid(1, 32, 32)
    parts = [part.view(2, steps, height * width, -1).mean(dim=1) for part in encoder.layers(clips, (0, 2))]
    torch.testing.assert_close(tokens, torch.cat(parts, dim=-1))
    assert steps > 1 and tokens.shape[1:] == several.kept_shape
