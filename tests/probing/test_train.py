"""The story of a fit: held-out choice, refit, determinism, divergence, views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, learnable

from bench.cards.load import Optimisation, ProbeCard
from bench.core.errors import BenchError
from bench.probing import FittedProbe, fit, predict
from bench.probing.loop import batches, make_plan
from bench.probing.objectives import OneLabel
from bench.probing.scoring import choose
from bench.probing.source import TestSamples


def card(kind: str = "attentive", *, selection: dict[str, object] | None = None, **fields: object) -> ProbeCard:
    optimisation = {
        "epochs": 15,
        "batch_size": 16,
        "lr": [3e-3, 1e-2],
        "weight_decay": [0.01],
        "clip_norm": 1.0,
        **fields,
    }
    return ProbeCard.model_validate(
        {
            "name": "test",
            "title": "test",
            "kind": kind,
            "version": 1,
            "optimisation": optimisation,
            "selection": selection if selection is not None or len(optimisation["lr"]) == 1 else {"held_out": 0.2},
        }
    )


def accuracy(fitted: FittedProbe, source: ArraySource, labels: np.ndarray) -> float:
    return float((predict(fitted.probe, source).argmax(1) == labels).mean())


def test_a_toy_problem_is_learned() -> None:
    train, labels = learnable(90)
    test, test_labels = learnable(60, seed=1)
    calls: list[tuple[str, int, int]] = []
    fitted = fit(card(), train, OneLabel(labels, 3), 2, seed=0, progress=lambda *call: calls.append(call))
    assert accuracy(fitted, test, test_labels) > 0.9
    assert (fitted.num_held_out, fitted.batch_size, fitted.epochs, fitted.steps) == (18, 16, 15, 90)
    assert calls[0] == ("sweep", 1, 75)
    assert calls[-1] == ("refit", 90, 90)
    chosen = [head for head in fitted.heads if head.chosen]
    assert [head.index for head in chosen] == [fitted.chosen]
    assert all((head.accuracy or 0) * 18 == pytest.approx(round((head.accuracy or 0) * 18)) for head in fitted.heads)


def test_same_seed_same_result_to_the_bit() -> None:
    train, labels = learnable(40)
    first, second = (fit(card(epochs=3), train, OneLabel(labels, 3), 2, seed=5) for _ in range(2))
    other = fit(card(epochs=3), train, OneLabel(labels, 3), 2, seed=6)
    assert first.heads == second.heads
    assert np.array_equal(predict(first.probe, train), predict(second.probe, train))
    assert not np.array_equal(predict(first.probe, train), predict(other.probe, train))


def test_a_single_setting_trains_on_everything() -> None:
    train, labels = learnable(30)
    fitted = fit(card(lr=[1e-2]), train, OneLabel(labels, 3), 2, seed=0)
    assert fitted.num_held_out == 0
    assert {row for _, *rows in train.seen for row in rows} == set(range(30))
    (head,) = fitted.heads
    assert (head.accuracy, head.loss, head.chosen) == (None, None, True)


def test_held_out_samples_are_not_trained_on_before_the_choice() -> None:
    train, labels = learnable(60)
    fitted = fit(card(selection={"held_out": 0.2, "refit": False}, epochs=2), train, OneLabel(labels, 3), 2, seed=0)
    reads = [rows for _, *rows in train.seen[1:]]  # the first read tells the scale of the tokens
    scored = set(reads[-1])
    batches_read = [rows for rows in reads if set(rows) != scored]  # held-out samples are looked at in between, too
    trained = {row for rows in batches_read for row in rows}
    assert (len(batches_read), len(trained), len(scored)) == (fitted.steps, 48, 12)
    assert not trained & scored


def test_refit_changes_nothing_but_the_samples() -> None:
    """The refit of a sweep is the probe that its chosen setting alone gives on all samples."""
    train, labels = learnable(60)
    swept = fit(card(epochs=4), train, OneLabel(labels, 3), 2, seed=0)
    chosen = swept.heads[swept.chosen]
    alone = fit(card(epochs=4, lr=[chosen.lr]), train, OneLabel(labels, 3), 2, seed=0)
    assert np.array_equal(predict(swept.probe, train), predict(alone.probe, train))


def test_a_choice_on_the_test_split_trains_every_setting_on_all_samples() -> None:
    """As papers do that report the best of a sweep: nothing is held out, and the best is taken as it is."""
    train, labels = learnable(60)
    test, test_labels = learnable(40, seed=1)
    recipe = card(epochs=4, selection={"chosen_on": "test"})
    fitted = fit(recipe, train, OneLabel(labels, 3), 2, seed=0, chosen_on=TestSamples(test, test_labels))
    assert {row for _, *rows in train.seen for row in rows} == set(range(60))
    assert fitted.num_held_out == 0 and fitted.steps == 4 * 4
    found = {head.index: head.accuracy for head in fitted.heads}
    assert fitted.heads[fitted.chosen].accuracy == max(found.values()) == accuracy(fitted, test, test_labels)
    for head in fitted.heads:
        alone = fit(card(epochs=4, lr=[head.lr]), train, OneLabel(labels, 3), 2, seed=0)
        assert accuracy(alone, test, test_labels) == pytest.approx(head.accuracy)


def test_a_choice_on_the_test_split_needs_it() -> None:
    train, labels = learnable(30)
    with pytest.raises(ValueError, match="nothing to choose a setting on"):
        fit(card(selection={"chosen_on": "test"}), train, OneLabel(labels, 3), 2, seed=0)


def test_a_diverged_setting_disturbs_no_other() -> None:
    train, labels = learnable(60)
    healthy = fit(card(clip_norm=None, lr=[3e-3, 1e-2]), train, OneLabel(labels, 3), 2, seed=0)
    fitted = fit(card(clip_norm=None, lr=[3e-3, 1e-2, 1e30]), train, OneLabel(labels, 3), 2, seed=0)
    assert [head.diverged for head in fitted.heads] == [False, False, True]
    assert (fitted.heads[2].accuracy, fitted.heads[2].loss, fitted.heads[2].train_loss) == (None,) * 3
    for ours, theirs in zip(fitted.heads, healthy.heads, strict=False):
        assert ours.accuracy == theirs.accuracy
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)


def test_all_settings_diverged_is_an_error() -> None:
    train, labels = learnable(30)
    with pytest.raises(BenchError, match="diverged"):
        fit(card(lr=[1e30, 1e31]), train, OneLabel(labels, 3), 2, seed=0)
    train.tokens[0, 0] = float("nan")
    with pytest.raises(BenchError, match="features are finite"):
        fit(card(lr=[1e-3]), train, OneLabel(labels, 3), 2, seed=0)


def test_choice_is_accuracy_then_loss_then_order() -> None:
    assert choose([False] * 3, [5, 7, 7], [0.1, 0.5, 0.4]) == 2
    assert choose([False] * 3, [7, 7, 7], [0.4, 0.4, 0.4]) == 0
    assert choose([True, False], [9, 1], [0.1, 2.0]) == 1


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [(1000, (50, 20, 60)), (10, (1, 10, 120)), (100_000, (256, 391, 20)), (1010, (50, 21, 58))],
)
def test_plan(num_samples: int, expected: tuple[int, int, int]) -> None:
    recipe = Optimisation(epochs=20, min_steps=1200, batch_size=256, min_steps_per_epoch=20, lr=(1,), weight_decay=(0,))
    plan = make_plan(recipe, num_samples)
    assert (plan.batch_size, plan.steps_per_epoch, plan.epochs) == expected


def test_every_epoch_sees_every_sample_once_in_a_new_order_and_the_views_in_turn() -> None:
    recipe = Optimisation(epochs=4, batch_size=4, lr=(1.0,), weight_decay=(0.0,))
    rows = np.arange(10, 20)
    steps = list(batches(rows, make_plan(recipe, 10), 3, seed=0))
    orders = [np.concatenate([r for e, r, _ in steps if e == epoch]) for epoch in range(4)]
    assert all(sorted(order) == list(rows) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert [view for epoch, _, view in steps if epoch == 3] == [0, 0, 0]
    assert [len(r) for _, r, _ in steps[:3]] == [4, 4, 2]


def test_prediction_averages_the_softmax_of_the_views() -> None:
    train, labels = learnable(30)
    fitted = fit(card(lr=[1e-2], epochs=2), train, OneLabel(labels, 3), 2, seed=0)
    test, _ = learnable(7, views=3, seed=2)
    probabilities = predict(fitted.probe, test, batch_size=2)
    expected = torch.stack([fitted.probe(view).softmax(-1) for view in test.tokens]).mean(0)
    assert probabilities.shape == (7, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-6)


def test_threads_are_restored() -> None:
    train, labels = learnable(30)
    before = torch.get_num_threads()
    fit(card(lr=[1e-2], epochs=1), train, OneLabel(labels, 3), 2, seed=0)
    assert torch.get_num_threads() == before


def test_heads_that_do_not_divide_the_width() -> None:
    train, labels = learnable(30)
    with pytest.raises(BenchError, match="heads"):
        fit(card(), train, OneLabel(labels, 3), 5, seed=0)
