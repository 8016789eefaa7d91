"""The four-block probe is the official one, and a sweep of it is its settings trained separately."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from probing.reference import ReferenceProbe
from probing.sources import learnable
from support import GOLDEN
from torch import Tensor

from bench.cards.load import Optimisation, ProbeCard
from bench.probing import blocks, fit, load_probe, predict
from bench.probing.attentive import AttentiveProbe
from bench.probing.attentive import initial_weights as one_block_weights
from bench.probing.blocks import BlockProbe, BlockSweep, block_logits, initial_weights, tensor_shapes
from bench.probing.loop import SweepOptimiser, learning_rate
from bench.probing.objectives import OneLabel


def test_golden_logits_of_every_head() -> None:
    golden = np.load(GOLDEN / "vjepa2_probe.npz")
    probe, tokens = load_probe(GOLDEN / "vjepa2_probe.pt", num_heads=2), torch.from_numpy(golden["tokens"])
    logits = probe(tokens, all_heads=True)
    assert logits.shape == (2, 2, 7)
    assert np.abs(logits.numpy() - golden["logits_per_head"]).max() < 1e-5
    assert torch.equal(probe(tokens), logits[0])


@pytest.mark.parametrize(
    ("dim", "classes", "count"),
    [
        (1024, 174, 49_514_670),
        (1024, 400, 49_746_320),
        (1024, 1000, 50_361_320),
        (1024, 48, 49_385_520),
        (1408, 174, 93_494_190),
        (1408, 48, 93_316_656),
    ],
)
def test_number_of_parameters(dim: int, classes: int, count: int) -> None:
    """The figures of protocol.md 4.2."""
    assert sum(map(math.prod, tensor_shapes(dim, classes, 4).values())) == count


def test_one_block_is_the_one_block_probe() -> None:
    weights, expected = initial_weights(12, 5, 1, seed=0), one_block_weights(12, 5, seed=0)
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    tokens = torch.randn(3, 7, 12)
    torch.testing.assert_close(BlockProbe(weights, 3)(tokens), AttentiveProbe(weights, 3)(tokens))


def sweep_and_references(num_settings: int) -> tuple[BlockSweep, list[ReferenceProbe]]:
    """A float64 sweep of four blocks whose settings all differ, and the same weights in plain modules."""
    torch.manual_seed(0)
    sweep = BlockSweep({n: w.double() for n, w in initial_weights(12, 5, 4, seed=0).items()}, num_settings, 3)
    sweep.stack.values.add_(torch.randn(sweep.stack.values.shape, dtype=torch.float64) * 0.1)
    references = []
    for index in range(num_settings):
        reference = ReferenceProbe(12, 5, 3, num_blocks=4).double()
        reference.load_state_dict(sweep.stack.setting(index))
        references.append(reference)
    return sweep, references


@pytest.mark.parametrize("micro_batch_clips", [1, 3, 100])
def test_outputs_and_gradients_of_separate_modules(micro_batch_clips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_MICRO_BATCH_VALUES", micro_batch_clips * 9 * 12)
    sweep, references = sweep_and_references(3)
    tokens, labels = torch.randn(4, 9, 12, dtype=torch.float64), torch.tensor([0, 4, 2, 2])
    sweep.stack.gradients.fill_(7.0)  # what an earlier step left must not be added to
    losses = sweep.backward(tokens, labels)
    for index, reference in enumerate(references):
        expected = reference(tokens)
        loss = F.cross_entropy(expected, labels)
        loss.backward()
        torch.testing.assert_close(sweep.logits(tokens)[index], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(sweep.probe(index)(tokens), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(losses[index], loss.detach(), rtol=0, atol=1e-12)
        for name, parameter in reference.named_parameters():
            gradient = sweep.stack.weights[name].grad
            torch.testing.assert_close(gradient[index], parameter.grad, rtol=1e-9, atol=1e-9, msg=name)


def test_a_sweep_is_separate_modules_under_torch_adamw() -> None:
    """Six steps of two settings as V-JEPA 2 takes them: every parameter decays, no clipping (protocol.md 5.1)."""
    recipe = Optimisation(epochs=6, batch_size=4, lr=(1e-3, 1e-2), weight_decay=(0.4,), decay_biases=True)
    sweep, references = sweep_and_references(2)
    batches = [(torch.randn(4, 6, 12, dtype=torch.float64), torch.randint(0, 5, (4,))) for _ in range(6)]
    optimiser = SweepOptimiser(sweep.stack, recipe, recipe.settings, epochs=6, steps_per_epoch=1)
    for tokens, labels in batches:
        sweep.backward(tokens, labels)
        optimiser.step()
    for index, (setting, reference) in enumerate(zip(recipe.settings, references, strict=True)):
        separate = torch.optim.AdamW(reference.parameters(), weight_decay=setting.weight_decay)
        for step, (tokens, labels) in enumerate(batches, start=1):
            separate.param_groups[0]["lr"] = learning_rate(setting, step, total_steps=6, steps_per_epoch=1)
            separate.zero_grad()
            F.cross_entropy(reference(tokens), labels).backward()
            separate.step()
        ours = {name: weight[index].detach() for name, weight in sweep.stack.weights.items()}
        for name, theirs in without_key_biases(dict(reference.named_parameters())).items():
            torch.testing.assert_close(without_key_biases(ours)[name], theirs.detach(), rtol=0, atol=1e-7, msg=name)


def without_key_biases(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A bias of the keys cancels in the softmax: its gradient is rounding, which AdamW blows up to a full step."""
    dim = weights["linear.weight"].shape[1]
    cut = {name: slice(2 * dim, None) for name in weights if name.endswith("qkv.bias")}
    cut |= {name: slice(dim, None) for name in weights if name.endswith("kv.bias") and name not in cut}
    return {name: weight[cut[name]] if name in cut else weight for name, weight in weights.items()}


def test_recomputing_keeps_less_in_memory_and_changes_nothing() -> None:
    weights = {name: weight.requires_grad_() for name, weight in initial_weights(24, 5, 4, seed=0).items()}
    tokens = torch.randn(2, 40, 24)
    kept: dict[bool, int] = {}
    gradients: dict[bool, Tensor] = {}
    for recompute in (False, True):
        saved: list[int] = []

        def note(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = block_logits(weights, tokens, 3, norm_eps=1e-5, recompute=recompute).square().sum()
        kept[recompute] = sum(saved)
        (gradients[recompute],) = torch.autograd.grad(loss, [weights["pooler.blocks.0.attn.qkv.weight"]])
    assert kept[True] < kept[False] / 3
    assert torch.equal(gradients[True], gradients[False])


def card(lr: list[float], *, epochs: int, selection: dict[str, object] | None = None) -> ProbeCard:
    optimisation = {"epochs": epochs, "batch_size": 16, "lr": lr, "weight_decay": [0.01], "decay_biases": True}
    fields = {"name": "test", "title": "test", "kind": "attentive", "num_blocks": 2, "version": 1}
    return ProbeCard.model_validate({**fields, "optimisation": optimisation, "selection": selection})


@pytest.mark.parametrize("refit", [True, False])
def test_groups_that_fit_the_memory_give_the_same_probe(refit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = learnable(36)
    swept = card([3e-3, 1e-2, 1e30], epochs=4, selection={"held_out": 0.2, "refit": refit})
    fitted, phases = [], []
    for size in (1, 2, 3):
        monkeypatch.setattr(blocks, "settings_at_once", lambda num_weights, device, size=size: size)
        seen: list[str] = []
        fitted.append(
            fit(swept, train, OneLabel(labels, 3), 2, seed=0, progress=lambda phase, *_, seen=seen: seen.append(phase))
        )
        phases.append(list(dict.fromkeys(seen)))
    assert fitted[0].heads == fitted[1].heads == fitted[2].heads
    assert [head.diverged for head in fitted[0].heads] == [False, False, True]
    assert fitted[0].chosen == fitted[1].chosen == fitted[2].chosen
    probabilities = [predict(one.probe, train) for one in fitted]
    assert np.array_equal(probabilities[0], probabilities[1]) and np.array_equal(probabilities[0], probabilities[2])
    assert phases[1][:2] == ["sweep, part 1 of 2", "sweep, part 2 of 2"] and phases[2][0] == "sweep"


def test_a_toy_problem_is_learned() -> None:
    train, labels = learnable(90)
    test, test_labels = learnable(60, seed=1)
    fitted = fit(card([1e-2], epochs=15), train, OneLabel(labels, 3), 2, seed=0)
    assert isinstance(fitted.probe, BlockProbe)
    assert (predict(fitted.probe, test).argmax(1) == test_labels).mean() > 0.8


def test_the_group_size_follows_from_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "free_memory_bytes", lambda device: 10 * 2**30)
    # Weight, gradient and two moments, 4 bytes each, in half of the free memory.
    assert blocks.settings_at_once(49_514_670, torch.device("cpu")) == 5 * 2**30 // (16 * 49_514_670) == 6
    assert blocks.settings_at_once(10**12, torch.device("cpu")) == 1
