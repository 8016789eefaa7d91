"""Encoders read from their files give the official answers, within 1e-4 in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import GOLDEN

import bench
from bench.encoders import describe_encoder
from bench.encoders.checkpoints import load_vjepa
from bench.encoders.families import Stated

TOLERANCE = 1e-4


def pixels(int8: NDArray[np.int8]) -> torch.Tensor:
    return torch.from_numpy(int8.astype(np.float32) / 32)


def agree(tokens: torch.Tensor, answer: NDArray[Any]) -> bool:
    return tokens.shape == answer.shape and bool((tokens - torch.from_numpy(answer)).abs().max() < TOLERANCE)


@pytest.mark.parametrize(
    ("file", "answers", "clips", "tokens"),
    [
        ("vjepa1.pth.tar", "vjepa1_encoder.npz", "clip_i8", "tokens"),
        ("vjepa1.pth.tar", "vjepa1_encoder.npz", "clip_16_frames_i8", "tokens_16_frames"),
        ("vjepa1.pth.tar", "vjepa1_encoder.npz", "clip_96px_i8", "tokens_96px"),
        ("vjepa2.pt", "vjepa2_encoder.npz", "clip_i8", "tokens"),
        ("vjepa2.pt", "vjepa2_encoder.npz", "clip_16_frames_i8", "tokens_16_frames"),
        ("vjepa2.pt", "vjepa2_encoder.npz", "clip_96x64px_i8", "tokens_96x64px"),
        ("vjepa2_1.pt", "vjepa2_1_encoder.npz", "clip_i8", "tokens"),
        ("vjepa2_1.pt", "vjepa2_1_encoder.npz", "clip_96x64px_i8", "tokens_96x64px"),
        ("vjepa2_1.pt", "vjepa2_1_encoder.npz", "image_i8", "image_tokens"),
    ],
)
def test_official_tokens(file: str, answers: str, clips: str, tokens: str) -> None:
    golden = np.load(GOLDEN / answers)
    encoder = bench.load_encoder(str(GOLDEN / file), num_heads=2)
    assert agree(encoder(pixels(golden[clips])), golden[tokens])


def test_the_online_encoder_is_read_when_it_is_asked_for() -> None:
    golden = np.load(GOLDEN / "vjepa1_encoder.npz")
    model, _ = load_vjepa(GOLDEN / "vjepa1.pth.tar", stated=Stated(key="encoder", num_heads=2))
    with torch.inference_mode():
        assert agree(model(pixels(golden["clip_i8"])), golden["tokens_online_encoder"])


def test_the_four_levels_of_2_1() -> None:
    golden = np.load(GOLDEN / "vjepa2_1_encoder.npz")
    levels = bench.load_encoder(str(GOLDEN / "vjepa2_1.pt"), num_heads=2).layers(
        pixels(golden["clip_i8"]), [2, 5, 8, 11]
    )
    assert agree(torch.cat(levels, dim=-1), golden["tokens_4_levels"])


def test_the_four_levels_of_2_1_as_the_tokens_of_a_probe() -> None:
    """The official oracle joins the levels along the channels, a probe gets them along the sequence."""
    golden = np.load(GOLDEN / "vjepa2_1_encoder.npz")
    encoder = bench.load_encoder(str(GOLDEN / "vjepa2_1.pt"), num_heads=2)
    tokens = encoder.reading([2, 5, 8, 11])(pixels(golden["clip_i8"]))
    assert agree(torch.cat(tokens.chunk(4, dim=1), dim=-1), golden["tokens_4_levels"])


@pytest.mark.parametrize("folder", ["hf-vjepa2", "hf-vjepa2-classifier"])
def test_hugging_face_tokens(folder: str) -> None:
    golden = np.load(GOLDEN / "hf_vjepa2.npz")
    clips = pixels(golden["pixel_values_videos_i8"]).transpose(1, 2)
    assert agree(bench.load_encoder(str(GOLDEN / folder))(clips), golden["tokens"])


@pytest.mark.parametrize(
    ("clip", "resolution"), [("8f_96px", 96), ("8f_48px", 48), ("16f_64px", 64), ("16f_96px", 96), ("16f_64px", None)]
)
def test_v_jepa_1_built_for_another_resolution(clip: str, resolution: int | None) -> None:
    """The official evaluation makes the positions anew in space, and interpolates them in time."""
    golden = np.load(GOLDEN / "vjepa1_resolution.npz")
    encoder = bench.load_encoder(str(GOLDEN / "vjepa1.pth.tar"), num_heads=2, resolution=resolution)
    assert agree(encoder(pixels(golden[f"clip_{clip}_i8"])), golden[f"tokens_{clip}"])
    assert encoder.facts == describe_encoder(str(GOLDEN / "vjepa1.pth.tar"), num_heads=2, resolution=resolution)


def test_an_encoder_that_is_called_with_another_size_interpolates() -> None:
    golden = np.load(GOLDEN / "vjepa1_resolution.npz")
    encoder = bench.load_encoder(str(GOLDEN / "vjepa1.pth.tar"), num_heads=2)
    tokens = encoder(pixels(golden["clip_8f_96px_i8"]))
    assert (tokens - torch.from_numpy(golden["tokens_8f_96px"])).abs().max() > 0.1


DIGESTS = {"vjepa1.pth.tar": "0204fd2", "vjepa2.pt": "f252a71", "vjepa2_1.pt": "02458d9"}


@pytest.mark.parametrize(("file", "moves"), [("vjepa1.pth.tar", True), ("vjepa2.pt", False), ("vjepa2_1.pt", False)])
def test_only_positions_made_anew_are_another_encoder(file: str, moves: bool) -> None:
    """Digests address features and records: those of native sizes stay what they were."""
    at_home = bench.load_encoder(str(GOLDEN / file), num_heads=2, resolution=64)
    away = bench.load_encoder(str(GOLDEN / file), num_heads=2, resolution=96)
    assert at_home.digest.startswith(DIGESTS[file])
    assert (away.digest != at_home.digest) is moves
    assert any("positions made anew for 96 px" in note for note in away.report["notes"]) is moves


def test_a_resolution_that_does_not_divide_into_patches_is_refused() -> None:
    with pytest.raises(bench.BenchError, match="do not divide into patches"):
        bench.load_encoder(str(GOLDEN / "vjepa1.pth.tar"), num_heads=2, resolution=90)
