"""What probes are trained for: a loss, a choice on samples or whole videos that are held out, answers from 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.cards.load import ProbeCard, load_probe_card, override
from bench.metrics.detection import label_map
from bench.probing import fit
from bench.probing.actions import ActionClasses
from bench.probing.objectives import BinaryCrossEntropy, ManyLabels, NextAction, Objective, OneLabel
from bench.probing.scoring import mean_sigmoid


class Boxes:
    """Boxes whose first two channels say which of two actions are true; both may be."""

    num_views = 1

    def __init__(self, count: int, num_tokens: int = 4, seed: int = 0) -> None:
        stream = np.random.RandomState(seed)
        self.labels = stream.randint(0, 2, (count, 2)).astype(np.int64)
        self.num_samples, self.num_tokens, self.embed_dim = count, num_tokens, 8
        tokens = stream.standard_normal((count, num_tokens, 8)).astype(np.float32)
        tokens[:, :, :2] += 3 * self.labels[:, None]
        self.tokens = torch.from_numpy(tokens)
        self.objective = ManyLabels(self.labels, tuple(f"v{place * 10 // count}" for place in range(count)))

    def read(self, rows: np.ndarray, view: int) -> torch.Tensor:
        return self.tokens[torch.from_numpy(rows)]


@pytest.mark.parametrize("probe", ["ava-paper", "ava-attentive"])
def test_actions_that_are_true_together_are_learned(probe: str) -> None:
    changes = {"lr": [1e-2, 1e-3], "weight_decay": [0.01]} if probe == "ava-attentive" else {"lr": [1e-2], "epochs": 60}
    recipe = override(load_probe_card(probe), "probe", {"batch_size": 32, "epochs": 15, "min_steps": 1, **changes})
    train, test = Boxes(120), Boxes(60, seed=1)
    fitted = fit(recipe, train, train.objective, 2, seed=0)
    probabilities = mean_sigmoid(fitted.probe, test, device="cpu", batch_size=25)
    assert np.allclose(probabilities, train.objective.outputs(fitted.probe, test, None, device="cpu"), atol=1e-6)
    assert probabilities.shape == (60, 2)
    assert ((probabilities > 0.5) == test.labels).mean() > 0.9
    assert (probabilities[(test.labels == 1).all(axis=1)] > 0.5).mean() > 0.85
    assert [head.chosen for head in fitted.heads].count(True) == 1
    if recipe.selection:
        best = max(head.accuracy or 0 for head in fitted.heads)
        assert fitted.heads[fitted.chosen].accuracy == best > 0.9
        assert fitted.num_held_out == 24


def test_the_paper_recipe_is_the_papers() -> None:
    """protocol.md 3.7."""
    recipe = load_probe_card("ava-paper")
    rules = recipe.optimisation
    assert rules is not None and recipe.selection is None and recipe.kind == "linear"
    assert (rules.batch_size, rules.epochs, len(rules.settings)) == (64, 30, 1)
    [only] = rules.settings
    assert (only.lr, only.weight_decay, only.warmup_epochs, only.final_lr) == (1e-4, 0.05, 2, 1e-6)
    assert only.start_lr == pytest.approx(1e-6)
    assert recipe.boxes is not None and recipe.boxes.layers == 4
    assert load_probe_card("ava-attentive").num_settings == 20


def test_the_loss_is_torchs_for_every_setting() -> None:
    logits, targets = torch.randn(3, 5, 4), torch.randint(0, 2, (5, 4))
    expected = [F.binary_cross_entropy_with_logits(one, targets.float()).item() for one in logits]
    assert BinaryCrossEntropy().means(logits, targets).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "knn", "optimisation": None, "neighbours": [1]}, "nearest neighbours vote for a single class"),
        ({"augmentation": "official"}, "cuts boxes away"),
        ({"selection": {"chosen_on": "test"}}, "probes of boxes are chosen on held-out videos"),
    ],
)
def test_a_recipe_for_boxes_cannot_ask_for_what_they_do_not_have(changes: dict[str, Any], message: str) -> None:
    recipe = load_probe_card("ava-attentive").model_dump()
    with pytest.raises(ValueError, match=message):
        ProbeCard.model_validate({**recipe, **changes})


@pytest.mark.parametrize("changes", [{"streaming": True}, {"num_blocks": 4}])
def test_a_recipe_for_boxes_may_stream_and_have_blocks(changes: dict[str, Any]) -> None:
    recipe = override(load_probe_card("ava-attentive"), "probe", changes)
    assert recipe.boxes is not None and {name: getattr(recipe, name) for name in changes} == changes


def test_ranked_labels_have_the_precision_of_their_classes() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.9, 0.3], [0.7, 0.2, 0.4]])
    assert label_map(labels, scores) == pytest.approx((0.5 + 0.5 * 2 / 3 + 1) / 2)
    assert label_map(np.zeros_like(labels), scores) == 0.0


NUMBERS = np.random.RandomState(0)
VIDEOS = tuple(f"v{number % 11}" for number in NUMBERS.permutation(90))
CLASSES = ActionClasses(3, 4, ((0, 1), (0, 3), (1, 0), (2, 1), (2, 2)))
OBJECTIVES: list[Objective] = [
    OneLabel(NUMBERS.randint(0, 6, 90), 6),
    ManyLabels(NUMBERS.randint(0, 2, (90, 4)), VIDEOS),
    NextAction(NUMBERS.randint(0, 5, 90), VIDEOS, CLASSES),
]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: type(one).__name__)
def test_no_example_is_trained_on_and_held_out(objective: Objective, share: float, seed: int) -> None:
    """Of all examples, of a part of the labels, and of what is held out of the whole and lies in that part."""
    part = objective.draw(share, seed=seed + 1)
    for some in (objective, objective.take(part)):
        rest, held_out = some.hold_out(0.2, seed=seed)
        assert len(rest) and len(held_out)
        assert np.array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(len(some.targets)))
        assert len(held_out) == pytest.approx(0.2 * len(some.targets), abs=9)
    assert np.array_equal(part, np.unique(part)) and len(part) == pytest.approx(90 * share, abs=9)
    assert np.array_equal(objective.take(part).targets, objective.targets[part])
    assert len(objective.made_up(12, 3).hold_out(0.5, seed=0)[1]) == 6


@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=lambda one: type(one).__name__)
def test_videos_are_drawn_and_held_out_whole(objective: ManyLabels | NextAction) -> None:
    for rows in (objective.draw(0.3, seed=2), objective.hold_out(0.3, seed=2)[1]):
        chosen = {objective.videos[row] for row in rows.tolist()}
        assert rows.tolist() == [row for row, video in enumerate(objective.videos) if video in chosen]
