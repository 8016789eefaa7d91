"""The fused sweep is the official probe: against golden outputs, and against a plain module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from probing.reference import ReferenceProbe

from bench.core.errors import BenchError
from bench.encoders.checkpoints import load_vjepa
from bench.encoders.families import Stated
from bench.probing import attentive, load_probe
from bench.probing.attentive import AttentiveSweep, check_heads, initial_weights
from bench.probing.loop import setting_losses

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def test_golden_logits_and_probabilities() -> None:
    golden = np.load(GOLDEN / "vjepa1_probe.npz")
    encoder, _ = load_vjepa(GOLDEN / "vjepa1.pth.tar", stated=Stated(num_heads=2))
    probe = load_probe(GOLDEN / "vjepa1_probe.pth.tar", num_heads=2)
    clips = torch.from_numpy(golden["clips_i8"]).float() / 32.0  # [segments, views, B, 3, T, H, W]
    with torch.no_grad():
        tokens = [torch.cat([encoder(segment) for segment in view], dim=1) for view in clips.transpose(0, 1)]
        logits = torch.stack([probe(view) for view in tokens])
    assert np.abs(logits.numpy() - golden["logits_per_view"]).max() < 1e-5
    assert np.abs(logits.softmax(-1).mean(0).numpy() - golden["probabilities"]).max() < 1e-6


def sweep_and_references(
    num_settings: int, dim: int, heads: int, classes: int
) -> tuple[AttentiveSweep, list[ReferenceProbe]]:
    """A float64 sweep whose settings all differ, and the same weights in plain modules."""
    weights = {name: weight.double() for name, weight in initial_weights(dim, classes, seed=0).items()}
    sweep = AttentiveSweep(weights, num_settings, heads)
    sweep.stack.values.add_(torch.randn(sweep.stack.values.shape, dtype=torch.float64) * 0.3)
    references = []
    for index in range(num_settings):
        reference = ReferenceProbe(dim, classes, heads).double()
        reference.load_state_dict(sweep.stack.setting(index))
        references.append(reference)
    return sweep, references


def assert_like_references(
    sweep: AttentiveSweep, references: list[ReferenceProbe], tokens: torch.Tensor, labels: torch.Tensor
) -> None:
    logits = sweep.logits(tokens)
    sweep.stack.gradients.fill_(7.0)  # every gradient must be assigned, none added to what was there
    sweep.stack.backward(setting_losses(logits, labels))
    for index, reference in enumerate(references):
        expected = reference(tokens)
        F.cross_entropy(expected, labels).backward()
        torch.testing.assert_close(logits[index], expected, rtol=0, atol=1e-12)
        for name, parameter in reference.named_parameters():
            gradient = sweep.stack.weights[name].grad
            torch.testing.assert_close(gradient[index], parameter.grad, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("chunk", [1 << 21, 100], ids=["one chunk", "many chunks"])
@pytest.mark.parametrize("num_settings", [1, 20])
def test_outputs_and_gradients_of_the_reference(num_settings: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "_CPU_CHUNK", chunk)
    torch.manual_seed(0)
    sweep, references = sweep_and_references(num_settings, dim=12, heads=3, classes=5)
    assert_like_references(sweep, references, torch.randn(4, 9, 12, dtype=torch.float64), torch.tensor([0, 4, 2, 2]))


@settings(max_examples=15, deadline=None)
@given(
    num_settings=st.integers(1, 4),
    heads=st.integers(1, 4),
    width=st.integers(2, 5),
    classes=st.integers(2, 6),
    batch=st.integers(1, 4),
    num_tokens=st.integers(1, 7),
    seed=st.integers(0, 2**16),
)
def test_any_shape(
    num_settings: int, heads: int, width: int, classes: int, batch: int, num_tokens: int, seed: int
) -> None:
    torch.manual_seed(seed)
    sweep, references = sweep_and_references(num_settings, heads * width, heads, classes)
    tokens = torch.randn(batch, num_tokens, heads * width, dtype=torch.float64)
    assert_like_references(sweep, references, tokens, torch.randint(0, classes, (batch,)))


def test_half_precision_tokens_are_widened() -> None:
    sweep = AttentiveSweep(initial_weights(12, 5, seed=0), 2, 3)
    tokens = torch.randn(3, 6, 12).half()
    assert torch.equal(sweep.logits(tokens), sweep.logits(tokens.float()))


def test_key_bias_has_no_gradient() -> None:
    sweep = AttentiveSweep(initial_weights(12, 5, seed=0), 2, 3)
    sweep.stack.backward(setting_losses(sweep.logits(torch.randn(3, 6, 12)), torch.tensor([0, 1, 2])))
    gradient = sweep.stack.weights["pooler.cross_attention_block.xattn.kv.bias"].grad
    assert gradient is not None
    assert not gradient[:, :12].any()
    assert gradient[:, 12:].any()


def test_every_setting_starts_equal() -> None:
    logits = AttentiveSweep(initial_weights(12, 5, seed=0), 3, 2).logits(torch.randn(2, 4, 12))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_a_single_probe_is_its_row_of_the_sweep() -> None:
    torch.manual_seed(0)
    sweep, _ = sweep_and_references(3, dim=12, heads=3, classes=5)
    tokens = torch.randn(2, 6, 12, dtype=torch.float64)
    torch.testing.assert_close(sweep.probe(1)(tokens), sweep.logits(tokens)[1])
    assert not any(parameter.requires_grad for parameter in sweep.probe(1).parameters())


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(BenchError, match="12 channels cannot have 5 heads"):
        check_heads(12, 5)
