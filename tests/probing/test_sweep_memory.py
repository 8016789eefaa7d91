"""Memory of a fused sweep: what a step keeps for its backward pass does not grow with settings times tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from bench.probing import attentive
from bench.probing.attentive import AttentiveSweep, initial_weights, pool_tokens
from bench.probing.loop import setting_losses
from benchmarks.sweep_size import allocated_peak

DIM, HEADS, CLIPS, CLASSES = 32, 4, 6, 5


@contextmanager
def saved() -> Iterator[dict[int, int]]:
    """Bytes of all memory that autograd holds on to, by address."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield sizes


def kept_bytes(settings: int, num_tokens: int) -> int:
    """What the forward pass of so many settings keeps, besides their weights."""
    sweep = AttentiveSweep(initial_weights(DIM, CLASSES, seed=0), settings, HEADS)
    tokens = torch.randn(CLIPS, num_tokens, DIM)
    with saved() as sizes:
        setting_losses(sweep.logits(tokens), torch.zeros(CLIPS, dtype=torch.int64))
    return sum(sizes.values())


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip at a time, and no attention weights kept, as with far more tokens."""
    monkeypatch.setattr(attentive, "_CPU_CHUNK", 1)
    monkeypatch.setattr(attentive, "_CPU_ATTENTION", 1000)


@pytest.mark.usefixtures("small_caches")
def test_what_more_tokens_cost_does_not_depend_on_the_settings() -> None:
    growth = {s: kept_bytes(s, 800) - kept_bytes(s, 200) for s in (1, 5, 20)}
    assert growth[1] == growth[5] == growth[20] == CLIPS * 600 * DIM * 4  # the batch itself


def test_attention_weights_are_kept_up_to_a_fixed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "_CPU_ATTENTION", 20 * HEADS * CLIPS * 300)
    growth = {s: kept_bytes(s, 300) - kept_bytes(s, 200) for s in (1, 20)}
    assert growth[20] - growth[1] == 19 * HEADS * CLIPS * 100 * 4
    assert kept_bytes(20, 301) < kept_bytes(20, 300)


@pytest.mark.usefixtures("small_caches")
def test_the_peak_of_a_step_grows_with_settings_by_one_clips_attention() -> None:
    """Besides the tokens' attention, a setting has what belongs to its weights and to its pooled values."""

    def peak(settings: int, num_tokens: int) -> int:
        sweep = AttentiveSweep(initial_weights(DIM, CLASSES, seed=0), settings, HEADS)
        tokens, labels = torch.randn(CLIPS, num_tokens, DIM), torch.zeros(CLIPS, dtype=torch.int64)
        sweep.backward(tokens, labels)
        return allocated_peak(lambda: sweep.backward(tokens, labels))

    growth = {s: peak(s, 1800) - peak(s, 1200) for s in (1, 20)}
    one_clip = 20 * HEADS * 600 * 4
    assert growth[20] - growth[1] <= 4 * one_clip < CLIPS * one_clip


@pytest.mark.parametrize("eps", [1e-5, None])
@pytest.mark.parametrize("chunk", [1, 1 << 21], ids=["clip by clip", "at once"])
def test_attention_that_is_computed_again_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, eps: float | None, chunk: int
) -> None:
    monkeypatch.setattr(attentive, "_CPU_CHUNK", chunk)
    tokens, d_pooled = torch.randn(CLIPS, 300, DIM), torch.randn(CLIPS, 80, DIM)
    results = []
    for most in (1 << 24, 0):
        monkeypatch.setattr(attentive, "_CPU_ATTENTION", most)
        queries = torch.randn(80, DIM, generator=torch.Generator().manual_seed(0)).requires_grad_()
        pooled = pool_tokens(queries, tokens, eps=eps)
        pooled.backward(d_pooled)
        results.append((pooled.detach(), queries.grad))
    for kept, again in zip(*results, strict=True):
        assert kept is not None and again is not None and torch.equal(kept, again)
