"""Tokens that are normalised beforehand change nothing but the time that a training takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, learnable

from bench.cards import load_probe_card, override
from bench.probing import kernels, train
from bench.probing.attentive import NORM_EPS
from bench.probing.source import NormalisedTokens


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
    monkeypatch.setattr(kernels, "_CPU_CHUNK", chunk)
    card = override(load_probe_card("attentive"), "probe", {"min_steps": 20, "epochs": 10, "lr": [1e-2, 1e-3]})
    source, labels = learnable(90, views=2)
    source.tokens = source.tokens.half()
    fitted, reads = [], []
    for kept_bytes in (1 << 28, 0):
        monkeypatch.setattr(train, "_KEPT_BYTES", kept_bytes)
        source.seen.clear()
        fitted.append(train.fit(card, source, labels, 3, 2, seed=0))
        reads.append(len(source.seen))
    kept, read = fitted
    assert reads[0] == 2 < reads[1]
    assert kept.heads == read.heads
    for name, weight in kept.probe.state_dict().items():
        assert torch.equal(weight, read.probe.state_dict()[name])
