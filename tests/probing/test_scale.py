"""A scale of all tokens changes no probe: not its choice, not its answers, and not those of the file it is saved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, learnable

from bench.cards.load import ProbeCard
from bench.core.tensors import token_scale
from bench.probing import fit, predict
from bench.probing.attentive import AttentiveProbe
from bench.probing.files import load_probe, save_probe
from bench.probing.objectives import OneLabel
from bench.probing.pooled import LinearProbe

pytestmark = pytest.mark.slow

TRAINED = {"optimisation": {"epochs": 12, "batch_size": 16, "lr": [1e-3, 1e-2], "weight_decay": [0.01]}}
CARDS: dict[str, dict[str, Any]] = {
    "attentive": {"kind": "attentive", **TRAINED},
    "vjepa2": {"kind": "attentive", "num_blocks": 2, **TRAINED},
    "linear": {"kind": "linear", **TRAINED},
    "knn": {"kind": "knn", "neighbours": [1, 5]},
}
SCALES = [1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 10.0, 1e2, 1e3, 1e4]


def answers(name: str, scale: float, seen: ArraySource, labels: np.ndarray, asked: ArraySource) -> tuple[Any, Any]:
    values = {"name": "t", "title": "t", "version": 1, "selection": {"held_out": 0.2}, **CARDS[name]}
    card = ProbeCard.model_validate(values)
    fitted = fit(card, ArraySource(seen.tokens * scale), OneLabel(labels, 3), 2, seed=0)
    return fitted, predict(fitted.probe, ArraySource(asked.tokens * scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["attentive", "linear", "knn"])
def test_a_scale_of_all_tokens_changes_no_score(name: str, scale: float) -> None:
    (seen, labels), (asked, truth) = learnable(90), learnable(60, seed=1)
    plain, usual = answers(name, 1.0, seen, labels, asked)
    fitted, probabilities = answers(name, scale, seen, labels, asked)
    assert fitted.chosen == plain.chosen
    assert (probabilities.argmax(1) == truth).mean() == (usual.argmax(1) == truth).mean() > 0.5
    assert np.abs(probabilities - usual).max() < 0.02


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e4])
def test_the_probe_that_adds_to_its_tokens_gets_them_near_one(scale: float) -> None:
    (seen, labels), (asked, truth) = learnable(90), learnable(60, seed=1)
    _, usual = answers("vjepa2", 1.0, seen, labels, asked)
    _, probabilities = answers("vjepa2", scale, seen, labels, asked)
    right = [(said.argmax(1) == truth).mean() for said in (usual, probabilities)]
    assert min(right) > 0.5 and abs(right[0] - right[1]) <= 0.1


@pytest.mark.parametrize("name", ["attentive", "vjepa2", "linear"])
def test_a_saved_probe_takes_tokens_of_the_scale_that_it_was_trained_on(tmp_path: Path, name: str) -> None:
    (seen, labels), (asked, _) = learnable(60), learnable(30, seed=1)
    fitted, probabilities = answers(name, 1e-7, seen, labels, asked)
    assert isinstance(fitted.probe, AttentiveProbe | LinearProbe)
    save_probe(tmp_path / "probe.safetensors", fitted.probe, {"protocol": "t"})
    loaded = load_probe(tmp_path / "probe.safetensors").heads[0]
    assert np.array_equal(predict(loaded, ArraySource(asked.tokens * 1e-7)), probabilities)


@pytest.mark.parametrize("name", ["attentive", "linear", "knn"])
def test_powers_of_two_change_no_bit(name: str) -> None:
    (seen, labels), (asked, _) = learnable(60), learnable(30, seed=1)
    small, smaller = (answers(name, 2.0**-k, seen, labels, asked)[1] for k in (14, 24))
    assert np.array_equal(small, smaller)


def test_ordinary_tokens_are_read_as_they_are() -> None:
    seen, _ = learnable(60)
    assert token_scale(seen.tokens) == token_scale(seen.tokens * 16) == 1
    assert token_scale(torch.zeros(2, 4, 8)) == 1
