"""The optimisation is the official one: golden trace, torch's AdamW and clipping, schedules, isolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from probing.reference import ReferenceProbe

from bench.cards.load import Optimisation, Setting
from bench.probing import load_probe
from bench.probing.attentive import AttentiveSweep, initial_weights
from bench.probing.loop import SweepOptimiser, clip_gradients, learning_rate, setting_losses, weight_decay
from bench.probing.weights import Stack

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def recipe(**fields: object) -> Optimisation:
    return Optimisation.model_validate({"epochs": 10, "batch_size": 4, "lr": [1e-3], "weight_decay": [0.01], **fields})


def test_golden_training_trace() -> None:
    golden = np.load(GOLDEN / "vjepa1_probe_training.npz")
    official = recipe(start_lr_ratio=0.2, warmup_epochs=3, final_lr=1e-6, final_weight_decay=1e-6, clip_norm=1.0)
    sweep = AttentiveSweep(
        load_probe(GOLDEN / "vjepa1_probe.pth.tar", num_heads=2).heads[0].state_dict(), 1, num_heads=2
    )
    optimiser = SweepOptimiser(sweep.stack, official, official.settings, epochs=12, steps_per_epoch=1)
    tokens, labels = torch.from_numpy(golden["tokens"]), torch.from_numpy(golden["labels"])
    losses, rates, decays = [], [], []
    for step in range(1, 13):
        loss = setting_losses(sweep.logits(tokens), labels)
        sweep.stack.backward(loss)
        optimiser.step()
        losses.append(loss.item())
        rates.append(learning_rate(official.settings[0], step, total_steps=12, steps_per_epoch=1))
        decays.append(weight_decay(official.settings[0], step, total_steps=12))
    assert np.abs(np.array(losses) - golden["losses"]).max() < 1e-6
    np.testing.assert_allclose(rates, golden["lrs"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(decays, golden["weight_decays"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay_biases", [False, True])
def test_a_sweep_is_single_modules_under_torch_adamw(decay_biases: bool) -> None:
    """Weights after ten steps of three settings, against modules with torch's AdamW and clip_grad_norm_."""
    sweep_recipe = recipe(
        lr=[1e-3, 1e-2, 3e-2],
        weight_decay=[0.3],
        warmup_epochs=2,
        start_lr_ratio=0.1,
        clip_norm=0.5,
        decay_biases=decay_biases,
    )
    torch.manual_seed(0)
    initial = {name: weight.double() for name, weight in initial_weights(12, 5, seed=0).items()}
    # Key biases have no gradient but the rounding of the plain module, which AdamW would scale up to a step.
    batches = [(torch.randn(4, 6, 12, dtype=torch.float64), torch.randint(0, 5, (4,))) for _ in range(10)]
    sweep = AttentiveSweep(initial, 3, 3)
    optimiser = SweepOptimiser(sweep.stack, sweep_recipe, sweep_recipe.settings, epochs=10, steps_per_epoch=1)
    for tokens, labels in batches:
        sweep.stack.backward(setting_losses(sweep.logits(tokens), labels))
        optimiser.step()
    for index, setting in enumerate(sweep_recipe.settings):
        probe = ReferenceProbe(12, 5, 3).double()
        probe.load_state_dict(initial)
        named = dict(probe.named_parameters())
        decayed = [p for name, p in named.items() if decay_biases or not (p.ndim == 1 or "bias" in name)]
        rest = [p for name, p in named.items() if not decay_biases and (p.ndim == 1 or "bias" in name)]
        reference = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": setting.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        )
        for step, (tokens, labels) in enumerate(batches, start=1):
            for group in reference.param_groups:
                group["lr"] = learning_rate(setting, step, total_steps=10, steps_per_epoch=1)
            reference.zero_grad()
            F.cross_entropy(probe(tokens), labels).backward()
            torch.nn.utils.clip_grad_norm_(probe.parameters(), 0.5)
            reference.step()
        for name, parameter in named.items():
            ours, theirs = sweep.stack.weights[name][index].detach(), parameter.detach()
            if name.endswith("kv.bias"):
                ours, theirs = ours[12:], theirs[12:]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7, msg=name)


def test_a_fused_sweep_is_its_settings_one_by_one() -> None:
    grid = recipe(lr=[1e-3, 1e-2], weight_decay=[0.0, 0.4], clip_norm=1.0)
    initial = {name: weight.double() for name, weight in initial_weights(12, 5, seed=1).items()}
    torch.manual_seed(0)
    batches = [(torch.randn(4, 6, 12), torch.randint(0, 5, (4,))) for _ in range(10)]

    def train(settings: list[Setting]) -> torch.Tensor:
        sweep = AttentiveSweep(initial, len(settings), 3)
        optimiser = SweepOptimiser(sweep.stack, grid, settings, epochs=10, steps_per_epoch=1)
        for tokens, labels in batches:
            sweep.stack.backward(setting_losses(sweep.logits(tokens), labels))
            optimiser.step()
        return sweep.stack.values

    together = train(grid.settings)
    alone = torch.cat([train([setting]) for setting in grid.settings])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    assert not torch.equal(together[0], together[1])


def test_schedule_without_warm_up() -> None:
    plain = Setting(lr=1e-3, weight_decay=0.3)
    rates = [learning_rate(plain, step, total_steps=4, steps_per_epoch=1) for step in range(1, 5)]
    assert rates == pytest.approx([1e-3 * 0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(1, 5)])
    assert [weight_decay(plain, step, total_steps=4) for step in (1, 4)] == [0.3, 0.3]


def test_warm_up_starts_at_its_share_and_reaches_the_peak() -> None:
    [warm] = recipe(lr=[1.0], start_lr_ratio=0.5, warmup_epochs=2).settings
    rates = [learning_rate(warm, step, total_steps=10, steps_per_epoch=2) for step in range(1, 11)]
    assert rates[:4] == pytest.approx([0.625, 0.75, 0.875, 1.0])
    assert rates[-1] == 0.0


def test_listed_settings_keep_schedules_of_their_own() -> None:
    """Of V-JEPA 2 on ImageNet (protocol.md 5.3): one setting whose decay falls to 0, others that warm up from 2e-4."""
    falling = Setting(lr=1e-3, weight_decay=1e-3, final_weight_decay=0.0)
    warming = Setting(lr=2e-3, weight_decay=5e-4, start_lr=2e-4, warmup_epochs=2)
    listed = Optimisation(epochs=5, batch_size=4, sweep=(falling, warming), decay_biases=True)
    initial = {name: weight.double() for name, weight in initial_weights(12, 5, seed=0).items()}
    torch.manual_seed(0)
    batches = [(torch.randn(4, 6, 12, dtype=torch.float64), torch.randint(0, 5, (4,))) for _ in range(10)]
    sweep = AttentiveSweep(initial, 2, 3)
    optimiser = SweepOptimiser(sweep.stack, listed, listed.settings, epochs=5, steps_per_epoch=2)
    for tokens, labels in batches:
        sweep.stack.backward(setting_losses(sweep.logits(tokens), labels))
        optimiser.step()
    for index in range(2):
        probe = ReferenceProbe(12, 5, 3).double()
        probe.load_state_dict(initial)
        reference = torch.optim.AdamW(probe.parameters())
        for step, (tokens, labels) in enumerate(batches, start=1):
            half_wave = 0.5 * (1 + np.cos(np.pi * step / 10))
            after_warm_up = 0.5 * (1 + np.cos(np.pi * (step - 4) / 6))
            group = reference.param_groups[0]
            group["lr"] = (
                1e-3 * half_wave if index == 0 else 2e-4 + 1.8e-3 * step / 4 if step < 4 else 2e-3 * after_warm_up
            )
            group["weight_decay"] = 1e-3 * half_wave if index == 0 else 5e-4
            reference.zero_grad()
            F.cross_entropy(probe(tokens), labels).backward()
            reference.step()
        for name, theirs in probe.named_parameters():
            ours = sweep.stack.weights[name][index].detach()
            rows = slice(12, None) if name.endswith("kv.bias") else slice(None)
            torch.testing.assert_close(ours[rows], theirs.detach()[rows], rtol=0, atol=1e-7, msg=name)


def test_clipping_is_torchs_rule_for_each_setting() -> None:
    stack = Stack({"w": torch.zeros(2, 3), "b": torch.zeros(3)}, 4)
    gradients = torch.randn(4, 9) * torch.tensor([[0.01], [1.0], [100.0], [float("nan")]])
    stack.gradients.copy_(gradients)
    clip_gradients(stack, 1.0)
    for index in range(3):
        parameter = torch.zeros(9, requires_grad=True)
        parameter.grad = gradients[index].clone()
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        torch.testing.assert_close(stack.gradients[index], parameter.grad)
    assert stack.gradients[3].isnan().all()


def test_grouping_decays_the_query_but_no_bias_and_no_norm() -> None:
    weights = initial_weights(12, 5, seed=0)
    stack = Stack(weights, 1)
    decayed = sum(w.numel() for name, w in weights.items() if name.endswith(("weight", "query_tokens")) and w.ndim > 1)
    assert stack.num_decayed == decayed
    free = [w.numel() for name, w in weights.items() if w.ndim == 1]
    assert stack.num_decayed + sum(free) == stack.values.shape[1]
    ones, zeros = (int((stack.values[0, decayed:] == value).sum()) for value in (1.0, 0.0))
    assert (ones, zeros) == (2 * 12, sum(free) - 2 * 12 - 5), "all but the classifier's biases are units and zeros"
