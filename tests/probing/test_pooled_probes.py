"""Linear and k-nearest-neighbour probes on mean-pooled tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, learnable
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from bench.cards.load import ProbeCard, load_probe_card
from bench.core.errors import BenchError
from bench.probing import fit, predict
from bench.probing.objectives import OneLabel
from bench.probing.pooled import standardisation
from bench.probing.source import PooledTokens


def linear_card(**fields: object) -> ProbeCard:
    optimisation = {"epochs": 200, "batch_size": 32, "lr": [1e-2, 1e-1], "weight_decay": [0.0], **fields}
    values = {"name": "t", "title": "t", "kind": "linear", "version": 1, "optimisation": optimisation}
    return ProbeCard.model_validate({**values, "selection": {"held_out": 0.2}})


def knn_card(*neighbours: int) -> ProbeCard:
    values = {"name": "t", "title": "t", "kind": "knn", "version": 1, "neighbours": neighbours}
    return ProbeCard.model_validate({**values, "selection": {"held_out": 0.2}})


def test_pooling_is_the_mean_over_tokens_in_float32() -> None:
    source = ArraySource(torch.randn(2, 300, 6, 12).half())
    pooled = PooledTokens(source)
    rows = np.array([299, 3, 3])
    expected = source.tokens[1, rows].float().mean(1, keepdim=True)
    torch.testing.assert_close(pooled.read(rows, 1), expected)


def test_linear_learns_what_logistic_regression_learns() -> None:
    train, labels = learnable(240)
    test, test_labels = learnable(120, seed=1)
    fitted = fit(linear_card(), train, OneLabel(labels, 3), 1, seed=0)
    ours = (predict(fitted.probe, test).argmax(1) == test_labels).mean()
    reference = LogisticRegression(max_iter=500).fit(train.tokens[0].mean(1).numpy(), labels)
    theirs = reference.score(test.tokens[0].mean(1).numpy(), test_labels)
    assert theirs > 0.8
    assert ours == pytest.approx(theirs, abs=0.05)


def test_linear_does_not_depend_on_the_scale_of_the_features() -> None:
    train, labels = learnable(60)
    scaled = ArraySource(train.tokens * 64.0 + 5.0)
    heads = [fit(linear_card(epochs=3), source, OneLabel(labels, 3), 1, seed=0).heads for source in (train, scaled)]
    for one, other in zip(*heads, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)


def test_standardisation_uses_the_given_rows_only() -> None:
    source = PooledTokens(learnable(40, views=2)[0])
    rows = np.arange(30)
    mean, deviation = standardisation(source, rows)
    used = source.values[:, :30].reshape(-1, 12)
    torch.testing.assert_close(mean, used.mean(0))
    torch.testing.assert_close(deviation, used.std(0, unbiased=False), rtol=1e-4, atol=1e-6)


def test_a_constant_feature_is_harmless() -> None:
    train, labels = learnable(60)
    train.tokens[..., 11] = 3.0
    assert not fit(linear_card(epochs=2), train, OneLabel(labels, 3), 1, seed=0).heads[0].diverged


def test_knn_votes_are_scikit_learns() -> None:
    train, labels = learnable(60)
    test, _ = learnable(30, seed=1)
    fitted = fit(knn_card(1, 5, 10), train, OneLabel(labels, 4), 1, seed=0)
    k = fitted.heads[fitted.chosen].neighbours
    reference = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(train.tokens[0].mean(1).numpy(), labels)
    expected = np.pad(reference.predict_proba(test.tokens[0].mean(1).numpy()), ((0, 0), (0, 1)))
    np.testing.assert_allclose(predict(fitted.probe, test), expected, atol=1e-6)
    assert [head.neighbours for head in fitted.heads] == [1, 5, 10]
    assert all(head.lr is None and np.isfinite(head.loss) for head in fitted.heads)


def test_knn_with_more_neighbours_than_samples() -> None:
    train, labels = learnable(30)
    with pytest.raises(BenchError, match="k = 25 neighbours, but only 24 training samples"):
        fit(knn_card(1, 25), train, OneLabel(labels, 3), 1, seed=0)


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_shipped_recipes_fit(name: str) -> None:
    train, labels = learnable(90)
    test, test_labels = learnable(60, seed=1)
    probabilities = predict(fit(load_probe_card(name), train, OneLabel(labels, 3), 1, seed=0).probe, test)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-5)
    assert (probabilities.argmax(1) == test_labels).mean() > 0.7
