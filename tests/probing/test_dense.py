"""Probes of every token, against the official head in training and in evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import GOLDEN
from torch import Tensor

from bench import BenchError
from bench.metrics.iou import VOID
from bench.probing import dense, load_probe, save_probe
from bench.probing.dense import DenseProbe, DenseSweep, as_maps, initial_weights, label_map, mask_losses

ORACLE = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN / "dense" / "segmentation_head.npz").items()}
EXPECTED = json.loads((GOLDEN / "dense" / "expected.json").read_text())["segmentation_head"]
GRID = (5, 7)


def tokens_of(case: str) -> Tensor:
    """The tokens of a case, [B, N, D]. Later levels come in their own size, and are brought to that of the first."""
    levels = [ORACLE[name].float() / 32 for name in sorted(ORACLE) if name.startswith(f"{case}_tokens")]
    joined = [F.interpolate(level, size=GRID, mode="bilinear", align_corners=False) for level in levels]
    return torch.cat(joined, dim=1).flatten(2).transpose(1, 2)


def tensors_of(case: str) -> dict[str, Tensor]:
    """The official head of a case."""
    found = {name.removeprefix(f"{case}_"): tensor for name, tensor in ORACLE.items() if name.startswith(case)}
    return {name: found[name] for name in dense.tensor_shapes(24, 6, batch_norm=True)}


def masks_of(case: str) -> Tensor:
    """The masks of the two images of a case."""
    masks = ORACLE[f"{case}_gt"].int()
    return torch.where(masks == 255, VOID, masks)


MASKS = masks_of("one_level")


def untrained(initial: Mapping[str, Tensor], num_settings: int = 1, case: str = "one_level") -> DenseSweep:
    """Probes of the two images of a case."""
    return DenseSweep(initial, num_settings, GRID, lambda numbers: masks_of(case)[numbers])


@pytest.mark.parametrize("case", EXPECTED)
def test_evaluation_is_that_of_the_official_head(case: str) -> None:
    maps = as_maps(DenseProbe(tensors_of(case))(tokens_of(case)), GRID)
    torch.testing.assert_close(maps, ORACLE[f"{case}_logits"], atol=1e-4, rtol=0)
    for one, rescaled in zip(maps, ORACLE[f"{case}_logits_rescaled"], strict=True):
        best, second = rescaled.topk(2, dim=0).values
        clear = (best - second > 1e-4).numpy()
        labels = label_map(one, (rescaled.shape[1], rescaled.shape[2]))
        assert (labels == rescaled.argmax(dim=0).numpy())[clear].all() and clear.mean() > 0.99


@pytest.mark.parametrize("case", EXPECTED)
def test_a_training_step_is_that_of_the_official_head(case: str) -> None:
    tensors = tensors_of(case)
    sweep = untrained({name: tensor for name, tensor in tensors.items() if "running" not in name}, 2, case)
    sweep.mean.copy_(tensors[dense.MEAN])
    sweep.variance.copy_(tensors[dense.VARIANCE])
    losses = sweep.backward(tokens_of(case), torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx(2 * [EXPECTED[case]["training_loss"]], abs=1e-4)
    for moved, name in ((sweep.mean, "mean"), (sweep.variance, "var")):
        torch.testing.assert_close(moved, ORACLE[f"{case}_training_running_{name}"], atol=1e-4, rtol=0)
    gradients = sweep.stack.weights[dense.WEIGHT].grad
    assert gradients is not None
    for gradient in gradients:
        torch.testing.assert_close(gradient, ORACLE[f"{case}_training_conv_weight_grad"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_are_those_of_a_plain_module(batch_norm: bool) -> None:
    tokens = tokens_of("one_level")
    initial = initial_weights(24, 6, batch_norm=batch_norm, seed=3)
    sweep = untrained(initial)
    sweep.backward(tokens, torch.tensor([0, 1]))
    conv = torch.nn.Conv2d(24, 6, 1)
    conv.load_state_dict({"weight": initial[dense.WEIGHT], "bias": initial[dense.BIAS]})
    norm = torch.nn.BatchNorm2d(24) if batch_norm else torch.nn.Identity()
    pixels = F.interpolate(
        conv(norm(as_maps(tokens, GRID))), size=MASKS.shape[1:], mode="bilinear", align_corners=False
    )
    (F.cross_entropy(pixels, MASKS.long(), ignore_index=VOID, reduction="sum") / MASKS.numel()).backward()
    parameters = {f"conv.{name}": weight for name, weight in conv.named_parameters()}
    parameters |= {f"batchnorm_layer.{name}": weight for name, weight in norm.named_parameters()}
    assert parameters.keys() == sweep.stack.weights.keys()
    for name, parameter in parameters.items():
        found = sweep.stack.weights[name].grad
        assert found is not None and parameter.grad is not None
        torch.testing.assert_close(found[0], parameter.grad, atol=1e-5, rtol=1e-4)


def test_losses_do_not_depend_on_how_many_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 2, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = mask_losses(logits, MASKS)
    monkeypatch.setattr(dense, "_CPU_VALUES", 1)
    for found, expected in zip(mask_losses(logits, MASKS), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(whole[0][0, 1], mask_losses(logits[:1, 1:], MASKS[1:])[0][0, 0])


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_setting_is_a_probe_with_the_same_answers(batch_norm: bool) -> None:
    sweep = untrained(initial_weights(24, 6, batch_norm=batch_norm, seed=0), 2)
    sweep.backward(tokens_of("one_level"), torch.tensor([0, 1]))
    with torch.no_grad():
        expected = sweep.logits(tokens_of("one_level"))[1]
    probe = sweep.probe(1)
    torch.testing.assert_close(probe(tokens_of("one_level")), expected, atol=1e-5, rtol=1e-5)
    shapes = {name: tuple(tensor.shape) for name, tensor in probe.state_dict().items()}
    assert shapes == dense.tensor_shapes(24, 6, batch_norm=batch_norm)


@pytest.mark.parametrize("size", [(9, 14), (3, 4), (5, 7), (64, 1)])
def test_labels_are_those_of_torchs_interpolation(size: tuple[int, int]) -> None:
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
    assert label_map(logits, size).tolist() == expected.tolist()


def test_a_large_image_is_labelled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = label_map(logits, (50, 31))
    monkeypatch.setattr(dense, "_CPU_VALUES", 6 * 31 * 7)
    assert (label_map(logits, (50, 31)) == whole).all()


def test_a_tie_goes_to_the_lowest_class() -> None:
    assert label_map(torch.zeros(3, 2, 2), (4, 4)).tolist() == 4 * [[0] * 4]


def test_a_probe_is_read_from_its_file_as_it_was(tmp_path: Path) -> None:
    probe = DenseProbe(tensors_of("one_level"))
    probe.token_scale = 0.5
    save_probe(tmp_path / "probe.safetensors", probe, {"protocol": "x", "classes": '["a", "b", "c", "d", "e", "f"]'})
    read = load_probe(tmp_path / "probe.safetensors")
    assert (read.embed_dim, read.outputs, read.layout, read.class_names) == (24, (6,), "bench", tuple("abcdef"))
    assert torch.equal(read(tokens_of("one_level")), probe(tokens_of("one_level")))
    assert read.digest != load_probe(saved(tmp_path, tensors_of("one_level"))).digest


def saved(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    torch.save(dict(tensors), folder / "head.pth")
    return folder / "head.pth"


def test_a_head_of_the_official_code_is_read(tmp_path: Path) -> None:
    read = load_probe(saved(tmp_path, tensors_of("one_level")))
    torch.testing.assert_close(
        as_maps(read(tokens_of("one_level")), GRID), ORACLE["one_level_logits"], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({dense.WEIGHT: torch.zeros(6, 24)}, r"conv.weight has shape \[6, 24\]"),
        ({dense.BIAS: torch.zeros(5)}, "conv.bias"),
        ({dense.MEAN: None}, "running_mean"),
        ({dense.SCALE: None}, "batchnorm_layer"),
        ({dense.VARIANCE: -torch.ones(24)}, "running_var has values below 0"),
        ({"extra.weight": torch.zeros(3)}, "extra.weight"),
    ],
)
def test_heads_that_do_not_fit_together_are_refused(
    tmp_path: Path, change: Mapping[str, Tensor | None], said: str
) -> None:
    tensors = {name: tensor for name, tensor in {**tensors_of("one_level"), **change}.items() if tensor is not None}
    with pytest.raises(BenchError, match=said):
        load_probe(saved(tmp_path, tensors))
