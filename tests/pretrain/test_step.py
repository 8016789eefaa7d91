"""AdamW as the official pretraining sets it up, and an update that is checked by hand."""

from __future__ import annotations

import pytest
import torch

from bench.pretrain.presets import load_preset
from bench.pretrain.state import new_state
from bench.pretrain.step import (
    apply_schedules,
    clip_gradients,
    gradients,
    learning_rate_at,
    make_optimiser,
    weight_decay_at,
)

PRESET = load_preset("demo")
RECIPE = PRESET.optimisation


def test_weights_decay_and_biases_norms_and_fixed_positions_do_not() -> None:
    state = new_state(PRESET)
    groups = make_optimiser(state, RECIPE).param_groups
    names = {
        id(p): f"{part}.{n}" for part in ("encoder", "predictor") for n, p in getattr(state, part).named_parameters()
    }
    decayed, rest = ([names[id(p)] for g in part for p in g["params"]] for part in (groups[:2], groups[2:]))
    assert {"encoder.patch_embed.proj.weight", "predictor.mask_tokens.0"} <= set(decayed)
    assert all(not name.endswith("bias") and "norm" not in name for name in decayed)
    assert all(name.endswith("bias") or "norm" in name for name in rest)
    assert len(decayed) + len(rest) == len(names) - 2
    assert not any("pos_embed" in name for name in (*decayed, *rest))


def test_schedules_reach_every_group() -> None:
    optimiser = make_optimiser(new_state(PRESET), RECIPE)
    lr, decay = apply_schedules(optimiser, RECIPE, 500)
    assert (lr, decay) == (learning_rate_at(RECIPE, 500), weight_decay_at(RECIPE, 500))
    assert [group["lr"] for group in optimiser.param_groups] == [lr] * 4
    assert [group["weight_decay"] for group in optimiser.param_groups] == [decay, decay, 0.0, 0.0]


def test_each_network_is_clipped_on_its_own() -> None:
    one, two = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    one.weight.grad, two.weight.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.3, 0.4]])
    assert clip_gradients((one, two), 1.0) == pytest.approx([5.0, 0.5])
    assert one.weight.grad.tolist()[0] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert two.weight.grad.tolist()[0] == pytest.approx([0.3, 0.4])
    clip_gradients((one, two), None)
    assert one.weight.grad.tolist()[0] == pytest.approx([0.6, 0.8], rel=1e-5)


def test_what_an_objective_leaves_out_has_a_gradient_of_zero() -> None:
    state = new_state(PRESET)
    optimiser = make_optimiser(state, RECIPE)
    state.encoder.norm.weight.sum().backward()
    found = gradients(optimiser)
    assert len(found) == sum(len(group["params"]) for group in optimiser.param_groups)
    assert sum(bool(gradient.any()) for gradient in found) == 1


def test_the_average_moves_by_its_momentum_and_leaves_positions_alone() -> None:
    state = new_state(PRESET)
    torch.nn.init.constant_(state.encoder.norm.weight, 3.0)
    before = state.target_encoder.pos_embed.clone()
    state.average(0.75)
    assert state.target_encoder.norm.weight.tolist() == [1.5] * 64
    assert torch.equal(state.target_encoder.pos_embed, before)
    assert not any(parameter.requires_grad for parameter in state.target_encoder.parameters())
