"""The three-query probe: its function, its loss, its choice on held-out videos."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from probing.reference import Pooler
from probing.sources import ArraySource
from torch import Tensor, nn

from bench import BenchError
from bench.cards.load import Optimisation, ProbeCard, Selection
from bench.probing import actions, fit
from bench.probing.actions import ActionClasses, action_losses, focal_loss
from bench.probing.attentive import NORM_EPS
from bench.probing.blocks import BlockSweep, block_logits
from bench.probing.objectives import FocalLoss, NextAction

CLASSES = ActionClasses(num_verbs=3, num_nouns=4, pairs=((0, 1), (0, 3), (1, 0), (2, 1), (2, 2)))


class PlainProbe(nn.Module):
    """Three queries that each run alone through the plain pooler, and three heads."""

    def __init__(self, dim: int, num_heads: int, num_blocks: int) -> None:
        super().__init__()
        self.pooler = Pooler(dim, num_heads, num_blocks)
        self.pooler.query_tokens = nn.Parameter(torch.zeros(1, 3, dim))
        self.verb_classifier, self.noun_classifier, self.action_classifier = (
            nn.Linear(dim, size) for size in CLASSES.sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.pooler.blocks:
            x = block(x)
        queries = self.pooler.query_tokens.expand(len(x), -1, -1)
        alone = [self.pooler.cross_attention_block(queries[:, i : i + 1], x)[:, 0] for i in range(3)]
        heads = (self.verb_classifier, self.noun_classifier, self.action_classifier)
        return torch.cat([head(of_query) for head, of_query in zip(heads, alone, strict=True)], dim=-1)


def slow_focal(logits: Tensor, targets: list[int]) -> float:
    """Element by element, as the paper of the loss writes it: alpha_t (1 - p_t)^gamma -log p_t."""
    total = 0.0
    for row, target in zip(logits.double().tolist(), targets, strict=True):
        for label, logit in enumerate(row):
            p = 1 / (1 + math.exp(-logit))
            p_t, alpha_t = (p, 0.25) if label == target else (1 - p, 0.75)
            total += -alpha_t * (1 - p_t) ** 2 * math.log(p_t)
    return total


def random_weights(num_blocks: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = actions.tensor_shapes(12, CLASSES.sizes, num_blocks)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_queries_attend_over_tokens_and_not_over_each_other(num_blocks: int) -> None:
    plain = PlainProbe(12, 2, num_blocks)
    weights = random_weights(num_blocks)
    plain.load_state_dict(weights)  # the official names, all of them
    tokens = torch.randn(5, 7, 12, generator=torch.Generator().manual_seed(1))
    ours = block_logits(weights, tokens, 2, norm_eps=NORM_EPS)
    assert torch.allclose(ours, plain(tokens), atol=1e-5)


@pytest.mark.parametrize(("dim", "sizes"), [(1024, (97, 289, 3568)), (1408, (97, 300, 3806))])
def test_number_of_parameters(dim: int, sizes: tuple[int, int, int]) -> None:
    """The formula of protocol.md 4.2."""
    count = sum(map(math.prod, actions.tensor_shapes(dim, sizes, 4).values()))
    assert count == 47 * dim**2 + 54 * dim + sum(sizes) * (dim + 1)


def test_the_loss_is_the_focal_loss() -> None:
    logits = 4 * torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    targets = [0, 8, 3, 3, 1, 5]
    assert focal_loss(logits, torch.tensor(targets)).sum().item() == pytest.approx(
        slow_focal(logits, targets), rel=1e-5
    )
    sure = torch.full((1, 3), -200.0)
    assert torch.isfinite(focal_loss(sure, torch.tensor([0]))).all()


def test_an_action_tells_its_verb_and_its_noun() -> None:
    logits = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    expected = [
        slow_focal(row[None, :3], [verb]) + slow_focal(row[None, 3:7], [noun]) + slow_focal(row[None, 7:], [action])
        for row, verb, noun, action in zip(logits, (2, 0), (1, 3), (3, 1), strict=True)
    ]
    assert action_losses(logits, torch.tensor([3, 1]), CLASSES).tolist() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_the_plain_probe() -> None:
    weights, targets = random_weights(2), torch.tensor([4, 0, 2])
    tokens = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(2))
    sweep = BlockSweep(weights, 2, 2, FocalLoss(CLASSES))
    losses = sweep.backward(tokens, targets)
    plain = PlainProbe(12, 2, 2)
    plain.load_state_dict(weights)
    loss = action_losses(plain(tokens), targets, CLASSES).mean()
    loss.backward()
    assert torch.allclose(losses, loss.expand(2), rtol=1e-5)
    for name, parameter in plain.named_parameters():
        for setting in range(2):
            gradient = sweep.stack.weights[name].grad
            assert gradient is not None and parameter.grad is not None
            assert torch.allclose(gradient[setting], parameter.grad, atol=1e-6), name


def kitchen(num_samples: int, *, seed: int = 0) -> tuple[ArraySource, NextAction]:
    """Tokens in which one direction tells the verb and another the noun, ten samples a video."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % 5
    pairs = torch.tensor(CLASSES.pairs)[labels]
    tokens = torch.randn(1, num_samples, 4, 12, generator=generator)
    tokens[0, :, 1] += 6 * torch.eye(12)[pairs[:, 0]]
    tokens[0, :, 2] += 6 * torch.eye(12)[5 + pairs[:, 1]]
    videos = tuple(f"P{i // 10:02d}" for i in range(num_samples))
    return ArraySource(tokens), NextAction(labels.numpy(), videos, CLASSES)


def card(**changes: object) -> ProbeCard:
    rules = Optimisation(epochs=25, batch_size=20, lr=(1e-2, 1e-6), weight_decay=(0.01,))
    given = {"name": "short", "title": "", "kind": "attentive", "version": 1, "optimisation": rules}
    return ProbeCard(**{**given, "selection": Selection(held_out=0.25, refit=True), **changes})  # type: ignore[arg-type]


def test_one_setting_is_chosen_on_held_out_videos() -> None:
    source, objective = kitchen(300)
    fitted = fit(card(), source, objective, 2, seed=0)
    assert fitted.chosen == 0 and fitted.num_held_out == 80
    assert [head.accuracy is not None for head in fitted.heads] == [True, True]
    rest, held_out = objective.hold_out(0.25, seed=0)
    videos = objective.videos
    assert not {videos[row] for row in rest} & {videos[row] for row in held_out}
    assert sorted([*rest, *held_out]) == list(range(300))
    scores = objective.outputs(fitted.probe, kitchen(50, seed=1)[0], None, device="cpu")
    assert scores.shape == (50, 12) and (scores > 0).all() and (scores < 1).all()
    verbs, nouns = np.array(CLASSES.pairs)[np.arange(50) % 5].T
    for part, truth in ((scores[:, :3], verbs), (scores[:, 3:7], nouns), (scores[:, 7:], np.arange(50) % 5)):
        assert (part.argmax(axis=1) == truth).mean() > 0.85


def test_the_choice_is_recall_over_actions() -> None:
    """One of a frequent action missed weighs less than the only one of a rare action."""
    labels = np.array([0, 0, 0, 6])
    objective = NextAction(labels, ("a",) * 4, ActionClasses(1, 7, tuple((0, noun) for noun in range(7))))
    low_first = torch.arange(7.0).repeat(4, 1)  # the two first actions are not among the best five
    high_first = -low_first
    heads = torch.zeros(4, 8)
    logits = torch.stack([torch.cat([heads, low_first], dim=1), torch.cat([heads, high_first], dim=1)])
    source = ArraySource(torch.arange(4.0).view(1, 4, 1, 1))
    recalls, _ = objective.qualities(
        lambda tokens: logits[:, tokens.flatten().long()], source, np.arange(4), labels, device="cpu", at_once=3
    )
    assert recalls == [0.5, 0.5]


def test_one_video_leaves_none_to_choose_on() -> None:
    source, objective = kitchen(10)
    with pytest.raises(BenchError, match="one video"):
        fit(card(), source, replace(objective, videos=("P01",) * 10), 2, seed=0)
