"""Probes of every token, against the official head in training and in evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import GOLDEN
from torch import Tensor

from bench.metrics.iou import VOID
from bench.probing import dense
from bench.probing.dense import DenseProbe, DenseSweep, Grid, initial_weights, label_map, mask_losses, upsampled

ORACLE = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN / "dense" / "segmentation_head.npz").items()}
EXPECTED = json.loads((GOLDEN / "dense" / "expected.json").read_text())["segmentation_head"]
CASE = "one_level"
GRID = Grid(layers=1, steps=1, special_tokens=0, height=5, width=7)


def official(names: str) -> dict[str, Tensor]:
    """Tensors of the official head whose names begin with one of `names`."""
    found = {name.removeprefix(f"{CASE}_"): tensor for name, tensor in ORACLE.items() if name.startswith(CASE)}
    return {name: tensor for name, tensor in found.items() if name.startswith(tuple(names.split()))}


def official_tokens() -> Tensor:
    return (ORACLE[f"{CASE}_tokens0_i8"].float() / 32).flatten(2).transpose(1, 2)


def official_masks() -> Tensor:
    masks = ORACLE[f"{CASE}_gt"].int()
    return torch.where(masks == 255, VOID, masks)


def test_evaluation_is_that_of_the_official_head() -> None:
    logits = DenseProbe(official("batchnorm_layer conv"), GRID)(official_tokens())
    torch.testing.assert_close(logits, ORACLE[f"{CASE}_logits"], atol=1e-4, rtol=0)
    rescaled = upsampled(logits, tuple(EXPECTED[CASE]["rescale_to"]))
    torch.testing.assert_close(rescaled, ORACLE[f"{CASE}_logits_rescaled"], atol=1e-4, rtol=0)
    for one, expected in zip(logits, ORACLE[f"{CASE}_logits_rescaled"], strict=True):
        best, second = expected.topk(2, dim=0).values
        clear = (best - second > 1e-4).numpy()
        assert (label_map(one, (37, 50)) == expected.argmax(dim=0).numpy())[clear].all()


def test_a_training_step_is_that_of_the_official_head() -> None:
    trained = {name: tensor for name, tensor in official("batchnorm_layer conv").items() if "running" not in name}
    sweep = DenseSweep(trained, 2, GRID)
    before = official("batchnorm_layer.running")
    sweep.mean.copy_(before[dense.MEAN])
    sweep.variance.copy_(before[dense.VARIANCE])
    losses = sweep.backward(official_tokens(), official_masks())
    assert losses.tolist() == pytest.approx(2 * [EXPECTED[CASE]["training_loss"]], abs=1e-4)
    for moved, name in ((sweep.mean, "mean"), (sweep.variance, "var")):
        torch.testing.assert_close(moved, ORACLE[f"{CASE}_training_running_{name}"], atol=1e-4, rtol=1e-5)
    gradients = sweep.stack.weights[dense.WEIGHT].grad
    assert gradients is not None
    for gradient in gradients:
        torch.testing.assert_close(gradient, ORACLE[f"{CASE}_training_conv_weight_grad"], atol=1e-4, rtol=0)


def test_tokens_of_several_layers_are_joined_on_channels_as_officially() -> None:
    """The second level of the oracle is coarser, and the official head brings it to the grid of the first."""
    levels = [ORACLE[f"two_levels_tokens{level}_i8"].float() / 32 for level in (0, 1)]
    levels[1] = F.interpolate(levels[1], size=(5, 7), mode="bilinear", align_corners=False)
    padded = [F.pad(level, (0, 0, 0, 0, 0, 24 - level.shape[1])) for level in levels]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in padded], dim=1)
    tensors = {
        name.removeprefix("two_levels_"): tensor
        for name, tensor in ORACLE.items()
        if name.startswith(("two_levels_batchnorm", "two_levels_conv"))
    }
    wide = {  # the channels that the second level lacks have no weight
        name: F.pad(tensor, (*[0] * (2 * tensor.ndim - 4), 0, 12)) if tensor.ndim == 4 else F.pad(tensor, (0, 12))
        for name, tensor in tensors.items()
        if name != dense.BIAS
    }
    wide[dense.BIAS] = tensors[dense.BIAS]
    logits = DenseProbe(wide, Grid(2, 1, 0, 5, 7))(tokens)
    torch.testing.assert_close(logits, ORACLE["two_levels_logits"], atol=1e-4, rtol=0)


def test_special_tokens_are_left_out_and_steps_of_time_averaged() -> None:
    grid = Grid(layers=1, steps=2, special_tokens=1, height=1, width=2)
    tokens = torch.tensor([[[9.0], [1], [2], [9], [3], [6]]])
    assert grid.patches(tokens).flatten().tolist() == [2, 4]


@pytest.mark.parametrize("size", [(9, 14), (3, 4), (5, 7), (64, 1)])
def test_upsampling_is_torchs(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsampled(logits, size), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_are_those_of_a_plain_module(batch_norm: bool) -> None:
    tokens, masks = official_tokens(), official_masks()
    initial = initial_weights(24, 6, batch_norm=batch_norm, seed=3)
    sweep = DenseSweep(initial, 1, GRID)
    sweep.backward(tokens, masks)
    conv = torch.nn.Conv2d(24, 6, 1)
    conv.load_state_dict({"weight": initial[dense.WEIGHT], "bias": initial[dense.BIAS]})
    module = torch.nn.Sequential(*([torch.nn.BatchNorm2d(24)] if batch_norm else []), conv)
    logits = module(tokens.transpose(1, 2).reshape(2, 24, 5, 7))
    pixels = F.interpolate(logits, size=masks.shape[1:], mode="bilinear", align_corners=False)
    (F.cross_entropy(pixels, masks.long(), ignore_index=VOID, reduction="sum") / masks.numel()).backward()
    names = {dense.WEIGHT: conv.weight, dense.BIAS: conv.bias}
    if batch_norm:
        names |= {dense.SCALE: module[0].weight, dense.SHIFT: module[0].bias}
    for name, parameter in names.items():
        found = sweep.stack.weights[name].grad
        assert found is not None and parameter.grad is not None
        torch.testing.assert_close(found[0], parameter.grad, atol=1e-5, rtol=1e-4)


def test_losses_do_not_depend_on_how_many_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 2, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = mask_losses(logits, official_masks())
    monkeypatch.setattr(dense, "_CPU_VALUES", 1)
    for found, expected in zip(mask_losses(logits, official_masks()), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(whole[0][0, 1], mask_losses(logits[:1, 1:], official_masks()[1:])[0][0, 0])


def test_a_setting_is_a_probe_with_the_same_answers() -> None:
    sweep = DenseSweep(initial_weights(24, 6, batch_norm=True, seed=0), 2, GRID)
    sweep.backward(official_tokens(), official_masks())
    with torch.no_grad():
        expected = sweep.logits(official_tokens())[1]
    torch.testing.assert_close(sweep.probe(1)(official_tokens()), expected, atol=1e-5, rtol=1e-5)


def test_a_large_image_is_labelled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = label_map(logits, (50, 31))
    monkeypatch.setattr(dense, "_CPU_VALUES", 6 * 31 * 7)
    assert (label_map(logits, (50, 31)) == whole).all()


def test_a_tie_goes_to_the_lowest_class() -> None:
    assert label_map(torch.zeros(3, 2, 2), (4, 4)).tolist() == 4 * [[0] * 4]
