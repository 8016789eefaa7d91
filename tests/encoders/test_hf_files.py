"""What is read beside a model of transformers: configurations, preprocessing, names of tensors."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import GOLDEN
from torch import Tensor, nn

from bench import BenchError
from bench.core.tensors import weights_digest
from bench.encoders.hf_files import canonical_name, preprocessing, ratio, read_configuration, whole
from bench.encoders.huggingface import describe_folder
from bench.video.views import crop_views, normalise


@pytest.mark.parametrize("number", ["1000000000", "1e300", "-10000000", "NaN", "Infinity", "1" + "0" * 400])
@pytest.mark.parametrize("form", ['{"a": %s}', '{"b": {"a": [1, %s]}}'])
def test_no_number_is_absurd(tmp_path: Path, number: str, form: str) -> None:
    (tmp_path / "config.json").write_text(form % number)
    with pytest.raises(BenchError, match=r"config\.json: .*a is no number up to 1,000,000"):
        read_configuration(tmp_path / "config.json")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "16", None, [16]])
def test_sizes_are_whole_numbers(value: Any) -> None:
    with pytest.raises(BenchError, match=r"hidden_size is .*, not a whole number from 1"):
        whole(value, "hidden_size", "model hf:m")


@pytest.mark.parametrize("value", [0, -1.0, True, "4", None, float("nan"), 1e9])
def test_ratios_are_numbers(value: Any) -> None:
    with pytest.raises(BenchError, match=r"mlp_ratio is .*, not a number above 0"):
        ratio(value, "mlp_ratio", "model hf:m")


@pytest.mark.parametrize(
    "name",
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "crop_size", "frames_per_clip", "mlp_ratio"],
)
@pytest.mark.parametrize("value", [10**9, 10**400, 0, -1, True, float("nan"), "many", None])
def test_a_folder_of_vjepa_2(tmp_path: Path, name: str, value: Any) -> None:
    shutil.copytree(GOLDEN / "hf-vjepa2", tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: value}))
    with pytest.raises(BenchError, match=name):
        describe_folder(tmp_path / "m")


VIVIT = {
    "encoder.layer.11.attention.attention.query.weight": "layers.11.attention.q_proj.weight",
    "encoder.layer.11.attention.attention.key.bias": "layers.11.attention.k_proj.bias",
    "encoder.layer.11.attention.attention.value.weight": "layers.11.attention.v_proj.weight",
    "encoder.layer.11.attention.output.dense.weight": "layers.11.attention.o_proj.weight",
    "encoder.layer.11.intermediate.dense.bias": "layers.11.mlp.fc1.bias",
    "encoder.layer.11.output.dense.weight": "layers.11.mlp.fc2.weight",
    "encoder.layer.11.layernorm_before.weight": "layers.11.layernorm_before.weight",
    "encoder.layer.11.layernorm_after.bias": "layers.11.layernorm_after.bias",
    "embeddings.cls_token": "embeddings.cls_token",
    "layernorm.weight": "layernorm.weight",
}
VIDEOMAE_NAMES = {
    "encoder.layer.0.attention.attention.q_bias": "encoder.layer.0.attention.attention.query.bias",
    "encoder.layer.0.attention.attention.v_bias": "encoder.layer.0.attention.attention.value.bias",
    "encoder.layer.0.attention.attention.query.weight": "encoder.layer.0.attention.attention.query.weight",
    "encoder.layer.0.output.dense.bias": "encoder.layer.0.output.dense.bias",
}
CASES = [("VivitModel", *pair) for pair in VIVIT.items()] + [
    ("VideoMAEModel", *pair) for pair in VIDEOMAE_NAMES.items()
]


@pytest.mark.parametrize(("model_class", "old", "new"), CASES)
def test_old_and_new_names_are_one(model_class: str, old: str, new: str) -> None:
    for prefix in ("", "model."):
        assert canonical_name(model_class, prefix + old) == prefix + new
        assert canonical_name(model_class, prefix + new) == prefix + new


def test_a_bias_of_keys_changes_nothing_in_videomae_alone() -> None:
    name = "model.encoder.layer.0.attention.attention.key.bias"
    assert canonical_name("VideoMAEModel", name) is None
    assert canonical_name("TimesformerModel", name) == name


class Named(nn.Module):
    """Tensors under names of a version."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:
        return self.tensors

    def canonical_name(self, name: str) -> str | None:
        return canonical_name("VivitModel", name)


def test_a_digest_is_of_weights_and_their_places() -> None:
    draws = {old: torch.randn(3, generator=torch.Generator().manual_seed(k)) for k, old in enumerate(VIVIT)}
    old, new = Named(draws), Named({VIVIT[name]: tensor for name, tensor in reversed(draws.items())})
    assert weights_digest(old, {}) == weights_digest(new, {})
    first, second, *_ = VIVIT
    exchanged = Named({**draws, first: draws[second], second: draws[first]})
    assert weights_digest(exchanged, {}) != weights_digest(old, {})


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
