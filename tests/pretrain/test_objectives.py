"""The objectives: the official V-JEPA loss, plain references of the others, and where gradients go.

Shapes: B clips, N tokens, n tokens of a mask, D channels, V videos, P channels of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from support import GOLDEN
from torch import Tensor

from bench.encoders.predictor import Predictor, PredictorConfig
from bench.encoders.vjepa import VisionTransformer, VitConfig, gather_tokens, init_untrained
from bench.pretrain import load_state
from bench.pretrain.objectives import OBJECTIVES, contrast, features, pixels, slow
from bench.pretrain.presets import MASKED, ObjectiveName, ObjectiveOptions
from bench.pretrain.state import Projector, ProjectorConfig, TrainState

CONFIG = VitConfig(
    embed_dim=24, depth=3, num_heads=2, mlp_dim=48, patch_size=4, num_frames=4, resolution=8, use_rope=False
)
PATCH_VALUES = 3 * 2 * 4 * 4
UNNORMALISED = ObjectiveOptions(normalise_patches=False)


def small_state(objective: ObjectiveName) -> TrainState:
    """Untrained networks that can learn: every weight is drawn, and the two encoders differ."""
    torch.manual_seed(0)
    encoder, target_encoder = VisionTransformer(CONFIG), VisionTransformer(CONFIG)
    init_untrained(encoder, seed=0, std=0.1)
    init_untrained(target_encoder, seed=1, std=0.1)
    head: Predictor | Projector
    if objective in MASKED:
        out_dim = 24 if objective == "features" else PATCH_VALUES
        head = Predictor(
            PredictorConfig(
                encoder_dim=24, out_dim=out_dim, embed_dim=12, depth=1, num_heads=2, grid=CONFIG.native_grid
            )
        )
    else:
        head = Projector(ProjectorConfig(encoder_dim=24, hidden_dim=16, out_dim=6))
    return TrainState(encoder, head, target_encoder.requires_grad_(False))


def clips(count: int = 4) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal((count, 3, 4, 8, 8))).float()


def masks(count: int = 4) -> tuple[list[Tensor], list[Tensor]]:
    """Two kinds of mask of a 2x2x2 grid: contexts [B, 3], [B, 2] and targets [B, 5], [B, 4]."""
    order = torch.stack([torch.from_numpy(np.random.RandomState(i).permutation(8)) for i in range(count)])
    return [order[:, :3], order[:, 6:]], [order[:, 3:], order[:, 1:5]]


def given(vectors: Tensor) -> TrainState:
    """A state whose projections are `vectors` [2V, P], whatever the clips are."""
    return TrainState(
        encoder=cast(Any, lambda _: vectors[:, None]), predictor=cast(Any, lambda x: x), target_encoder=cast(Any, None)
    )


def test_features_is_the_official_loss() -> None:
    golden = np.load(GOLDEN / "vjepa1_pretrain.npz")
    contexts, targets = (
        [torch.from_numpy(golden[f"{kind}_mask_{i}"]) for i in range(2)] for kind in ("context", "target")
    )
    state = load_state(GOLDEN / "vjepa1_pretrain.pth.tar", num_heads=2)
    with torch.no_grad():
        ours = features(state, torch.from_numpy(golden["clips_i8"].astype(np.float32) / 32), contexts, targets)
    for i in range(2):
        np.testing.assert_allclose(ours["targets"][i], golden[f"targets_{i}"], atol=1e-5)
        np.testing.assert_allclose(ours["predictions"][i], golden[f"predictions_{i}"], atol=1e-5)
        assert ours["loss_per_mask"][i].item() == pytest.approx(golden["loss_per_mask"][i], abs=1e-5)
    assert ours["loss"].item() == pytest.approx(float(golden["loss"]), abs=1e-5)


def test_every_name_of_a_preset_has_its_objective() -> None:
    assert set(OBJECTIVES) == set(get_args(ObjectiveName))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradients_reach_the_trained_networks_alone(name: ObjectiveName) -> None:
    state = small_state(name)
    OBJECTIVES[name](state, clips(), *masks())["loss"].backward()
    for part in (state.encoder, state.predictor):
        for parameter, tensor in part.named_parameters():
            if tensor.requires_grad:
                assert tensor.grad is not None, parameter
                assert tensor.grad.isfinite().all() and tensor.grad.abs().max() > 0, parameter
    assert all(tensor.grad is None for tensor in state.target_encoder.parameters())


@pytest.mark.parametrize("name", MASKED)
def test_only_the_context_is_seen(name: ObjectiveName) -> None:
    """Other pixels at a hidden place change the target, never the prediction."""
    state, video = small_state(name), clips()
    changed = video.clone()
    changed[:, :, :2, :4, :4] += 1  # token 0
    seen, hidden = torch.tensor([[1, 2, 5]] * 4), torch.tensor([[0, 3]] * 4)
    plain, other = (OBJECTIVES[name](state, v, [seen], [hidden], UNNORMALISED) for v in (video, changed))
    assert torch.equal(plain["predictions"][0], other["predictions"][0])
    assert (plain["targets"][0][:, 0] - other["targets"][0][:, 0]).abs().max() > 0.1


@pytest.mark.parametrize(("exponent", "expected"), [(1.0, 0.5), (2.0, 0.5**2 / 2), (1.5, 0.5**1.5 / 1.5)])
@pytest.mark.parametrize("error", [0.0, 0.5])
def test_features_measures_the_distance_to_the_normed_targets(error: float, exponent: float, expected: float) -> None:
    tokens = torch.randn(4, 8, 24) * 3 + 1
    normed = (tokens - tokens.mean(-1, keepdim=True)) / torch.sqrt(tokens.var(-1, correction=0, keepdim=True) + 1e-5)
    state = TrainState(
        encoder=cast(Any, lambda _, mask: gather_tokens(tokens, mask)),
        predictor=cast(Any, lambda _context, _seen, hidden, _index: gather_tokens(normed, hidden) + error),
        target_encoder=cast(Any, lambda _: tokens),
    )
    loss = features(state, clips(), *masks(), ObjectiveOptions(loss_exponent=exponent))["loss"]
    assert loss.item() == pytest.approx(expected if error else 0.0, abs=1e-5)


@pytest.mark.parametrize("layers", [2, 3])
def test_targets_of_several_layers_are_the_mean_of_normed_layers(layers: int) -> None:
    state, video = small_state("features"), clips()
    contexts, hidden = masks()
    ours = features(state, video, contexts, hidden, ObjectiveOptions(target_layers=layers))["targets"]
    encoder = state.target_encoder
    with torch.no_grad():
        x = encoder.patch_embed(video) + encoder.pos_embed
        normed = []
        for block in encoder.blocks:
            x = block(x)
            normed.append(_normed(x))
        expected = _normed(sum(normed[-layers:], torch.zeros(())) / layers)
    for mask, targets in zip(hidden, ours, strict=True):
        for b in range(4):
            for i, token in enumerate(mask[b].tolist()):
                torch.testing.assert_close(targets[b, i], expected[b, token], atol=1e-5, rtol=1e-4)


def _normed(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)


def test_the_variance_term_follows_the_published_formula() -> None:
    state, arguments = small_state("features"), (clips(), *masks())
    with torch.no_grad():
        plain = features(state, *arguments)
        weighted = features(state, *arguments, ObjectiveOptions(variance_weight=0.3))
    deviations = np.mean([np.sqrt(z.numpy().var(axis=1, ddof=1) + 1e-4) for z in plain["predictions"]], axis=0)
    term = np.maximum(0, 1 - deviations).mean()
    assert term > 0.1
    assert weighted["loss"].item() == pytest.approx(plain["loss"].item() + 0.3 * term, abs=1e-5)


@pytest.mark.parametrize("normalise", [True, False])
def test_pixels_predicts_the_pixels_of_hidden_patches(normalise: bool) -> None:
    """A slow reference: one token and one colour at a time."""
    state, video = small_state("pixels"), clips() * 3 + 2
    contexts, hidden = masks()
    with torch.no_grad():
        ours = pixels(state, video, contexts, hidden, ObjectiveOptions(normalise_patches=normalise))
    losses = []
    for mask, targets, predictions in zip(hidden, ours["targets"], ours["predictions"], strict=True):
        expected = np.empty(predictions.shape)
        for b in range(4):
            for i, token in enumerate(mask[b].tolist()):
                expected[b, i] = _patch(video[b].numpy(), token, normalise)
        np.testing.assert_allclose(targets, expected, atol=1e-5)
        losses.append(((predictions.numpy() - expected) ** 2).mean())
    assert ours["loss"].item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert [loss.item() for loss in ours["loss_per_mask"]] == pytest.approx(losses, rel=1e-5)


def _patch(clip: NDArray[np.float32], token: int, normalise: bool) -> list[float]:
    """The values of one token of a 2x2x2 grid, colour by colour."""
    t, h, w = np.unravel_index(token, (2, 2, 2))
    values: list[float] = []
    for colour in clip:
        patch = colour[2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4].flatten()
        values += list((patch - patch.mean()) / (patch.std(ddof=1) + 1e-6) if normalise else patch)
    return values


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_contrast_finds_the_partner_among_all_other_clips(temperature: float) -> None:
    """A slow reference: each of the 2V clips against the 2V - 1 others."""
    state, video = small_state("contrast"), clips(6)
    with torch.no_grad():
        ours = contrast(state, video, options=ObjectiveOptions(temperature=temperature))
        vectors = state.predictor(state.encoder(video).mean(dim=1)).double().numpy()
    losses, hits = [], []
    for i in range(6):
        partner = (i + 3) % 6
        cosine = {
            j: vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
            for j in range(6)
            if j != i
        }
        total = sum(math.exp(c / temperature) for c in cosine.values())
        losses.append(-math.log(math.exp(cosine[partner] / temperature) / total))
        hits.append(max(cosine, key=lambda j: cosine[j]) == partner)
    assert ours["loss"].item() == pytest.approx(np.mean(losses), abs=1e-5)
    assert ours["accuracy"].item() == pytest.approx(np.mean(hits))


def test_contrast_of_perfect_agreement() -> None:
    """Partners alike, all others at right angles: log(1 + (2V - 2) exp(-1 / temperature))."""
    ours = contrast(given(torch.eye(3).repeat(2, 1) * 5), clips(6))
    assert ours["loss"].item() == pytest.approx(math.log(1 + 4 * math.exp(-10)), rel=1e-2)
    assert ours["accuracy"].item() == 1


def test_contrast_of_clips_that_are_all_alike_is_chance() -> None:
    ours = contrast(given(torch.ones(6, 4)), clips(6))
    assert ours["loss"].item() == pytest.approx(math.log(5), abs=1e-5)


def _vicreg(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float, float]:
    """Invariance, variance and covariance terms of arXiv 2105.04906, one channel at a time."""
    count, channels = first.shape
    invariance = sum((a - b) ** 2 for a, b in zip(first.flat, second.flat, strict=True)) / (count * channels)
    spread = decorrelation = 0.0
    for z in (first, second):
        for i in range(channels):
            spread += max(0, 1 - math.sqrt(z[:, i].var(ddof=1) + 1e-4)) / channels / 2
            for j in range(channels):
                if i != j:
                    covariance = ((z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())).sum() / (count - 1)
                    decorrelation += covariance**2 / channels
    return invariance, spread, decorrelation


def test_slow_follows_the_published_formula() -> None:
    vectors = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 1.5, 6)
    invariance, spread, decorrelation = _vicreg(vectors[:5].double().numpy(), vectors[5:].double().numpy())
    weights = ObjectiveOptions(invariance=2, spread=3, decorrelation=5)
    ours = slow(given(vectors), clips(10), options=weights)
    assert ours["invariance"].item() == pytest.approx(invariance, rel=1e-4)
    assert ours["spread"].item() == pytest.approx(spread, rel=1e-4)
    assert ours["decorrelation"].item() == pytest.approx(decorrelation, rel=1e-4)
    assert ours["loss"].item() == pytest.approx(2 * invariance + 3 * spread + 5 * decorrelation, rel=1e-4)


def test_slow_of_perfect_agreement_is_nothing() -> None:
    """Alike partners, wide and uncorrelated channels: all three terms are zero."""
    wide = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * 2
    assert slow(given(wide.repeat(2, 1)), clips(8))["loss"].item() == pytest.approx(0, abs=1e-5)


def test_slow_of_clips_that_are_all_alike_is_a_collapse() -> None:
    """Every deviation is the smoothing alone, sqrt(1e-4): the spread term is 0.99 of its weight."""
    ours = slow(given(torch.ones(8, 4)), clips(8))
    assert ours["invariance"].item() == ours["decorrelation"].item() == 0
    assert ours["loss"].item() == pytest.approx(25 * 0.99, rel=1e-4)


@pytest.mark.parametrize("objective", [contrast, slow])
def test_clips_of_one_video_belong_together(objective: Callable[..., dict[str, Any]]) -> None:
    """Clip i and clip V + i are partners: any other pairing costs more."""
    vectors = F.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    paired = objective(given(vectors.repeat(2, 1)), clips(8))["loss"]
    mixed = objective(given(torch.cat([vectors, vectors.roll(1, dims=0)])), clips(8))["loss"]
    assert paired < mixed
