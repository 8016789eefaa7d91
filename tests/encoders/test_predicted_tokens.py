"""Tokens that the checkpoint's predictor expects after a clip: where they are asked for, and who can be asked."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoders.test_predictor import predicted_slowly
from kitchens import kitchen, with_predictor
from support import GOLDEN
from torch import Tensor

import bench
from bench import BenchError
from bench.encoders import Choice, load_encoder
from bench.encoders.families import Stated
from bench.encoders.predictor import Predictor, describe_with_predictor, load_with_predictor, steps_ahead

TWO_HEADS = partial(Choice, stated=Stated(num_heads=2))
CLIPS = torch.randn(2, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vjepa2(tmp_path: Path) -> tuple[str, Predictor]:
    path = tmp_path / "with-predictor.pt"
    return str(path), with_predictor(path)


def test_one_second_at_eight_frames_is_four_steps() -> None:
    """protocol.md 4.4: int(seconds * fps / tubelet)."""
    assert [steps_ahead(seconds, 8, 2) for seconds in (1.0, 0.25, 1.75)] == [4, 1, 7]


def test_the_predictor_is_asked_for_the_step_so_far_after_the_clip(vjepa2: tuple[str, Predictor]) -> None:
    spec, predictor = vjepa2
    joined = load_with_predictor(TWO_HEADS(spec), (4, 4, 4), 4, "cpu")
    tokens, alone = joined(CLIPS), load_encoder(spec, num_heads=2)(CLIPS)
    assert joined.facts.num_tokens(8, 64, 64) == tokens.shape[1] == 64 + 16
    assert torch.equal(tokens[:, :64], alone)
    with torch.no_grad():
        # Four steps of the clip, four that are passed over, then the one that is asked for: places 128 to 143.
        expected = predicted_slowly(predictor, alone[0], list(range(64)), list(range(128, 144)))
    torch.testing.assert_close(tokens[0, 64:], expected, atol=1e-4, rtol=1e-4)


def predicted_by_the_first_family(weights: dict[str, Tensor], tokens: Tensor, asked: list[int]) -> Tensor:
    """One clip, straight from the file's tensors: stored positions, two heads (protocol.md 1.2)."""
    w = {name.removeprefix("module.backbone."): tensor for name, tensor in weights.items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    positions = w["predictor_pos_embed"][0]
    seen = linear(tokens, "predictor_embed") + positions[: len(tokens)]
    x = torch.cat([seen, w["mask_tokens.1"][0] + positions[asked]])
    for i in range(2):
        block = f"predictor_blocks.{i}"
        heads = []
        for part in linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").view(len(x), 3, 2, -1).unbind(2):
            q, k, v = part.unbind(1)
            heads.append((q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v)
        x = x + linear(torch.cat(heads, dim=-1), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return linear(norm(x[len(tokens) :], "predictor_norm"), "predictor_proj")


def test_a_golden_checkpoint_with_stored_positions_predicts_within_them() -> None:
    spec = str(GOLDEN / "vjepa1_pretrain.pth.tar")
    clips = CLIPS[:, :, :4]  # two of the four steps that the positions cover; the last is asked for
    tokens = load_with_predictor(TWO_HEADS(spec), (2, 4, 4), 1, "cpu")(clips)
    weights = torch.load(spec, weights_only=True)["predictor"]
    expected = predicted_by_the_first_family(weights, tokens[1, :32], list(range(48, 64)))
    torch.testing.assert_close(tokens[1, 32:], expected, atol=1e-5, rtol=1e-4)


def test_other_questions_are_other_encoders(vjepa2: tuple[str, Predictor]) -> None:
    spec, _ = vjepa2
    digests = {load_with_predictor(TWO_HEADS(spec), (4, 4, 4), steps, "cpu").digest for steps in (1, 4)}
    assert len(digests | {load_encoder(spec, num_heads=2).digest}) == 3


@pytest.mark.parametrize(
    ("file", "steps", "what"),
    [
        ("vjepa1.pth.tar", 1, "the checkpoint holds no predictor"),
        ("vjepa1_pretrain.pth.tar", 4, r"stored positions are a grid of \(4, 4, 4\), .* outside: \(9, 4, 4\)"),
        ("vjepa2_1.pt", 1, "only checkpoint files of V-JEPA 1 and 2"),
        ("hf-vjepa2", 1, "only checkpoint files of V-JEPA 1 and 2"),
    ],
)
def test_who_cannot_be_asked_is_told_so(file: str, steps: int, what: str) -> None:
    with pytest.raises(BenchError, match=what) as caught:
        describe_with_predictor(TWO_HEADS(str(GOLDEN / file)), (4, 4, 4), steps)
    assert "clip.tokens=encoder" in str(caught.value)


def test_a_damaged_predictor_is_named(vjepa2: tuple[str, Predictor], tmp_path: Path) -> None:
    content: dict[str, Any] = torch.load(vjepa2[0], weights_only=True)
    del content["predictor"]["module.backbone.predictor_norm.bias"]
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(BenchError, match=r"'predictor_norm\.bias' is missing"):
        describe_with_predictor(TWO_HEADS(str(tmp_path / "damaged.pt")), (4, 4, 4), 4)


def test_a_run_reads_both_kinds_of_tokens(vjepa2: tuple[str, Predictor], tmp_path: Path) -> None:
    data = kitchen(tmp_path / "data", train=3, test=2)
    small = {"probe.epochs": 1, "probe.min_steps": 1, "probe.lr": 1e-3, "probe.weight_decay": 0.01}
    record = bench.evaluate(
        task="ek100",
        data=data,
        model=vjepa2[0],
        clip="official",
        settings={**small, "clip.frames": 8, "clip.resolution": 32, "encoder.num_heads": 2},
        workers=0,
        device="cpu",
        cache=tmp_path / "cache",
        results=tmp_path / "results",
    )
    assert record.protocol.endswith("1 s before-end frame-numbers unseen left out with predictor")
    # Four steps of 2 x 2 tokens and the predicted one, of 60 actions, 48 channels of two bytes.
    assert record.cost.feature_bytes == 60 * 5 * 4 * 48 * 2
    assert record.resolved["encoder"]["architecture"]["steps_ahead"] == 4
