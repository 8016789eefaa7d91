"""Sources that stand between the cache and a probe change nothing but how, and how fast, tokens are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, learnable

from bench.cards.load import load_probe_card, override
from bench.probing import attentive, train
from bench.probing.attentive import NORM_EPS
from bench.probing.objectives import OneLabel
from bench.probing.source import NormalisedTokens, SingleClips


def test_tokens_are_normalised_as_in_a_batch() -> None:
    source = ArraySource((torch.randn(2, 300, 5, 24) * 3 + 1).half())
    kept = NormalisedTokens(source, eps=NORM_EPS)
    rows = np.array([299, 0, 7])
    for view in (0, 1):
        expected = torch.nn.functional.layer_norm(source.read(rows, view).float(), (24,), eps=NORM_EPS)
        assert torch.equal(kept.read(rows, view), expected)


@pytest.mark.parametrize("chunk", [1 << 21, 100])
def test_a_training_is_the_same_bit_by_bit(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Also where a batch is worked on in several chunks, which normalise again in the backward pass."""
    monkeypatch.setattr(attentive, "_CPU_CHUNK", chunk)
    card = override(load_probe_card("attentive"), "probe", {"min_steps": 20, "epochs": 10, "lr": [1e-2, 1e-3]})
    source, labels = learnable(90, views=2)
    source.tokens = source.tokens.half()
    fitted, reads = [], []
    for kept_bytes in (1 << 28, 0):
        monkeypatch.setattr(train, "_KEPT_BYTES", kept_bytes)
        source.seen.clear()
        fitted.append(train.fit(card, source, OneLabel(labels, 3), 2, seed=0))
        reads.append(len(source.seen))
    kept, read = fitted
    assert reads[0] == 1 + 2 < reads[1], "a few tokens tell the scale, then each view is read once"
    assert kept.heads == read.heads
    for name, weight in kept.probe.state_dict().items():
        assert torch.equal(weight, read.probe.state_dict()[name])


def test_single_clips_are_the_parts_of_a_view_and_each_view_is_read_once() -> None:
    source = ArraySource(torch.arange(2 * 5 * 6 * 3, dtype=torch.float32).view(2, 5, 6, 3))
    apart, rows = SingleClips(source, 3), np.array([4, 1])
    assert (apart.num_samples, apart.num_views, apart.num_tokens, apart.embed_dim) == (5, 6, 2, 3)
    read = [apart.read(rows, view) for view in range(6)]
    expected = [clip for view in range(2) for clip in source.tokens[view, [4, 1]].chunk(3, dim=1)]
    assert all(torch.equal(*pair) for pair in zip(read, expected, strict=True))
    assert source.seen == [(0, 4, 1), (1, 4, 1)]
    other = np.array([0])
    assert torch.equal(apart.read(other, 5), source.tokens[1, :1, 4:])
