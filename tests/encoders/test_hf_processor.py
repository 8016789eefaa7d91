"""From a processor's configuration to what an encoder sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from bench import BenchError
from bench.encoders.hf_processor import preprocessing
from bench.video.views import crop_views, normalise

VIDEOMAE = {
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


def seen(given: dict[str, Any], family: str = "videomae", resolution: int = 224) -> dict[str, Any]:
    return preprocessing(given, family, resolution, "model hf:test")


def test_a_plain_file_is_taken_as_it_is() -> None:
    assert seen(VIDEOMAE) == {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bilinear",
        "crop": 1.0,
        "squash": False,
    }


def test_what_a_file_leaves_out_is_what_its_processor_does() -> None:
    assert seen({"size": 224})["mean"] == (0.5,) * 3
    assert seen({"crop_size": None, "do_center_crop": False})["crop"] == 1.0
    vjepa2 = seen({"size": {"shortest_edge": 256}}, "vjepa2", 256)
    assert vjepa2["crop"] == 224 / 256 and vjepa2["mean"] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("given", "black", "white"),
    [
        ({}, (0 - 1 - 0.5) / 0.5, (2 - 1 - 0.5) / 0.5),
        ({"do_normalize": False}, -1.0, 1.0),
        ({"offset": False, "do_normalize": False}, 0.0, 2.0),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 255.0),
        ({"rescale_factor": 1 / 255, "offset": False}, -1.0, 1.0),
    ],
)
def test_rescaling_and_offset_go_into_mean_and_std(given: dict[str, Any], black: float, white: float) -> None:
    values = seen(given, "vivit")
    frames = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 3)
    pixels = normalise(frames, values["mean"], values["std"])[0, :, 0, 0]
    assert pixels.tolist() == pytest.approx([black, white], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("crop", [96, 224, 256, 384, 448])
def test_the_short_side_is_the_files_whatever_the_rounding(crop: int) -> None:
    for short in range(crop, 2 * crop):
        share = seen({"size": {"shortest_edge": short}, "crop_size": crop}, resolution=crop)["crop"]
        assert math.floor(crop / share) == short


def test_a_fixed_height_and_width_squash() -> None:
    values = seen({"size": {"height": 256, "width": 256}})
    assert values["squash"] and math.floor(224 / values["crop"]) == 256


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"resample": 9}, "resample 9"),
        ({"do_resize": False}, "do_resize False"),
        ({"crop_size": {"height": 224, "width": 112}}, "not a square"),
        ({"crop_size": 112}, "crops to 112 pixels, the model takes 224"),
        ({"size": 200}, "resizes to 200"),
    ],
)
def test_what_is_not_supported_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        seen(given)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("family", "processor", "options", "resolution"),
    [
        ("videomae", "VideoMAEImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": 32}, 32),
        ("vivit", "VivitImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}, 32),
        ("vjepa2", "VJEPA2VideoProcessor", {"crop_size": 32}, 32),
    ],
)
def test_equals_the_processors_of_transformers(
    family: str, processor: str, options: dict[str, Any], resolution: int
) -> None:
    """Within 2 of 255: its resize of tensors rounds otherwise than Pillow's."""
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, processor)(**options)
    values = seen(theirs.to_dict(), family, resolution)
    video = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    short = math.floor(resolution / values["crop"])
    crops = crop_views(video, resolution, 1, short_side=short, interpolation=values["interpolation"])
    ours = normalise(crops, values["mean"], values["std"])[0].transpose(0, 1)
    given = torch.from_numpy(video).movedim(-1, 1) if "Video" in processor.removeprefix("VideoMAE") else list(video)
    expected = next(iter(theirs(given, return_tensors="pt").values()))[0]
    assert expected.shape == ours.shape
    assert (ours - expected).abs().max() < 2 / 255 / min(values["std"])
