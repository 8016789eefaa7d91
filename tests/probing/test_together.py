"""Probes of several seeds in one pass, each the mean of its settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from probing.sources import learnable

from bench.cards.load import ProbeCard, load_probe_card, override
from bench.probing import attentive, load_probe, predict, save_probe
from bench.probing.loop import TokenDropout
from bench.probing.mean import MeanProbe
from bench.probing.objectives import OneLabel
from bench.probing.scoring import near_best
from bench.probing.train import fit, fit_seeds


def card(**settings: object) -> ProbeCard:
    return override(load_probe_card("attentive"), "probe", {"min_steps": 60, "epochs": 1, "held_out": 0.2, **settings})


def test_a_seed_gives_the_same_whichever_others_are_trained_beside_it() -> None:
    train, labels = learnable(90)
    groups = tuple(f"g{row // 2}" for row in range(90))  # held-out parts of other sizes
    objective = OneLabel(labels, 3, groups)
    together = fit_seeds(card(), train, objective, 2, [3, 4, 5])
    for seed, one in zip([3, 4, 5], together, strict=True):
        alone = fit(card(), train, objective, 2, seed=seed)
        np.testing.assert_allclose(predict(one.probe, train), predict(alone.probe, train), atol=1e-5)
        assert [head.chosen for head in one.heads] == [head.chosen for head in alone.heads]
    assert np.abs(predict(together[0].probe, train) - predict(together[1].probe, train)).max() > 1e-3


def test_a_toy_problem_is_learned_and_the_way_there_is_kept() -> None:
    train, labels = learnable(90)
    (fitted,) = fit_seeds(card(min_steps=240), train, OneLabel(labels, 3), 2, [0])
    assert (predict(fitted.probe, train).argmax(1) == labels).mean() > 0.95
    assert [step for step, _ in fitted.curve] == [60, 120, 180, 240] and fitted.num_held_out == 18
    chosen = [head.accuracy for head in fitted.heads if head.chosen]
    assert fitted.curve[-1][1] == pytest.approx(np.mean(chosen)) and chosen


def test_held_out_samples_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.probing.train._KEPT_BYTES", 0)  # batches are read as they come
    train, labels = learnable(60)
    (fitted,) = fit_seeds(card(), train, OneLabel(labels, 3), 2, [0])
    rest, held = (set(side.tolist()) for side in OneLabel(labels, 3).hold_out(0.2, seed=0))
    batches = [set(rows) for _, *rows in train.seen if len(rows) <= fitted.batch_size]
    assert all(rows <= rest or rows <= held for rows in batches)
    assert sum(rows <= rest for rows in batches) == fitted.steps
    assert sum(len(rows) for rows in batches if rows <= held) == 4 * len(held), "looked at at every quarter"


def test_the_answer_is_the_mean_of_the_probabilities(tmp_path: Path) -> None:
    train, labels = learnable(60)
    (fitted,) = fit_seeds(card(), train, OneLabel(labels, 3), 2, [1])
    tokens = train.tokens[0, :9]
    assert isinstance(fitted.probe, MeanProbe) and len(fitted.probe.probes) > 1
    wanted = torch.stack([one(tokens).softmax(-1) for one in fitted.probe.probes]).mean(0)
    torch.testing.assert_close(fitted.probe(tokens).softmax(-1), wanted)
    save_probe(tmp_path / "probe.safetensors", fitted.probe, {"protocol": "attentive/3"})
    assert torch.equal(load_probe(tmp_path / "probe.safetensors")(tokens), fitted.probe(tokens))


def test_settings_that_are_shown_to_be_worse_do_not_answer() -> None:
    assert near_best([False] * 3, [0.8, 0.75, 0.5], [0.0] * 3, 100) == (0, 1)
    assert near_best([True, False, False], [0.9, 0.75, 0.742], [0.0] * 3, 10_000) == (1, 2)
    assert near_best([False] * 2, [1.0, 0.99], [0.0] * 2, 100) == (0,)


def test_channels_start_with_zero_mean_and_unit_variance() -> None:
    train, _ = learnable(80)
    train.tokens = train.tokens * torch.logspace(-2, 1, 12) + torch.linspace(-1, 1, 12)
    norm = attentive.standard_norm(train, norm_eps=attentive.NORM_EPS)
    x = torch.nn.functional.layer_norm(train.tokens, (12,))
    scaled = x * norm[f"{attentive.BLOCK}.norm1.weight"] + norm[f"{attentive.BLOCK}.norm1.bias"]
    flat = scaled.flatten(0, -2)
    torch.testing.assert_close(flat.mean(0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.var(0, unbiased=False), torch.ones(12), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 10), (0.5, 5), (0.99, 1)])
def test_other_tokens_are_left_out_in_every_step(share: float, kept: int) -> None:
    tokens = torch.arange(10.0).expand(4, 10)[..., None].expand(4, 10, 2)
    drop = TokenDropout(share, seed=0)
    first, second = drop(tokens), drop(tokens)
    assert first.shape == (4, kept, 2) and set(first.flatten().tolist()) <= set(range(10))
    assert all(len(set(row.tolist())) == kept for row in first[..., 0])
    assert (share == 0) == torch.equal(first, second)
    assert torch.equal(TokenDropout(share, seed=0)(tokens), first)
