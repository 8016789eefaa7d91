"""Which models of a column differ by a paired test: exact McNemar tests, Holm's correction, ranks, differences.

Everything is paired: two models are compared on the same test samples. A model with several seeds counts on each
sample with the share of its seeds that were right; the sample speaks for the model with the higher share. With one
seed each that is McNemar's test, with more it is the exact sign test, of which McNemar's is the case of two outcomes.
Samples that were cut from one video are not independent: there the video counts, for the model with the higher sum
of shares. All pairs of a column are tested at once, so that thousands of models take seconds.

Shapes: R models of a column, K seeds of a model, n samples, G videos, P pairs of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.change import paired_seeds
from bench.metrics.resample import Resampled, contributions, flip_tails
from bench.records.tables.outcomes import Outcomes

_BLOCK = 4096
"""Samples that are compared at once: 48 MiB of working memory for a thousand models."""

Floats = NDArray[np.float64]


def shares(seeds: Sequence[Outcomes]) -> NDArray[np.float32]:
    """The share of the seeds of one model that were right, 0 to 1, for each sample: [n].

    The seeds have one order of samples (`outcomes.aligned`); there is at least one.
    """
    # Division rounds correctly, so that 1/3 and 2/6 are the same number.
    made: NDArray[np.float32] = (_hits(seeds).sum(axis=0) / len(seeds)).astype(np.float32)
    return made


def _hits(seeds: Sequence[Outcomes]) -> NDArray[np.int64]:
    """Outcomes of the seeds of one model, 0 or 1: [K, n]."""
    size = (seeds[0].n + 7) // 8
    packed = np.frombuffer(b"".join(seed.right.to_bytes(size, "little") for seed in seeds), np.uint8)
    right = np.unpackbits(packed.reshape(len(seeds), size), axis=1, count=seeds[0].n, bitorder="little")
    return right.astype(np.int64)


def wins(models: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count the samples on which row a is higher than row b, [R, R], from the shares of a column's models [R, n]."""
    won = np.zeros((len(models), len(models)), np.int64)
    for start in range(0, models.shape[1], _BLOCK):
        block = models[:, start : start + _BLOCK]
        for level in np.unique(block)[1:]:
            here, below = (block == level).astype(np.float32), (block < level).astype(np.float32)
            won += (here @ below.T).astype(np.int64)  # sums of at most 4096 ones: exact
    return won


def mcnemar_p(won: ArrayLike, lost: ArrayLike) -> Floats:
    """Two-sided p values of the exact McNemar test: how unlikely so uneven a split of the discordant samples is.

    `won` and `lost` are whole numbers of one shape. Twice the lower tail of the binomial distribution with probability
    1/2, at most 1.
    """
    a, b = np.broadcast_arrays(np.asarray(won, np.int64), np.asarray(lost, np.int64))
    n, k = (a + b).ravel(), np.minimum(a, b).ravel()
    # Many pairs have the same counts.
    codes, place = np.unique(n * (n.max(initial=0) + 1) + k, return_inverse=True)
    tails = _lower_tail(*np.divmod(codes, n.max(initial=0) + 1))
    p_values: Floats = np.minimum(1.0, 2 * tails)[place].reshape(a.shape)
    return p_values


def _lower_tail(n: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
    """P(X <= k) for X of the binomial distribution (n, 1/2), k <= n / 2. All [P]."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max(initial=0) + 1)))])
    term = np.exp(log_factorial[n] - log_factorial[k] - log_factorial[n - k] - n * np.log(2))
    total: Floats = term.copy()
    k = k.astype(np.float64)
    # Terms fall from the largest on; the sum is of those that still count.
    while (term > 1e-15 * total).any():
        term = term * k / (n - k + 1)
        total, k = total + term, k - 1
    return total


def holm(p_values: ArrayLike, alpha: float = 0.05) -> NDArray[np.bool_]:
    """Which of P hypotheses Holm's step-down procedure rejects: any false rejection has at most chance `alpha`."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    fails = p[order] > alpha / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), bool)
    rejected[order[: int(np.argmax(fails)) if fails.any() else len(p)]] = True
    return rejected


def ranks(shares: Sequence[NDArray[np.float32]], alpha: float = 0.05, videos: Sequence[int] | None = None) -> list[int]:
    """The rank of each model of a column, from the shares [n] of each: 1 + the models that are significantly better.

    Every pair is tested, with Holm's correction over all pairs: any false separation in the column has at most chance
    `alpha`. A model that is better by the test has the higher mean too. `videos` [n] numbers what each sample is cut
    from; every sample is alone without it.
    """
    models = np.stack(shares)
    won = wins(models if videos is None else np.stack([_sums(one, videos) for one in models]).astype(np.float32))
    pairs = np.triu_indices(len(models), 1)
    separated = np.zeros(won.shape, bool)
    separated[pairs] = holm(mcnemar_p(won[pairs], won.T[pairs]), alpha)
    means = models.mean(axis=1, dtype=np.float64)
    better = (separated | separated.T) & (won > won.T) & (means[:, None] > means[None, :])
    return [1 + int(count) for count in better.sum(axis=0)]


def _sums(values: NDArray[Any], videos: Sequence[int]) -> Floats:
    """Sums over the samples of each video, [G], rounded so that equal sums are equal numbers."""
    _, member = np.unique(videos, return_inverse=True)
    return np.round(np.bincount(member, weights=values), 6)


def ranks_of_scores(
    models: Sequence[Sequence[Resampled]], alpha: float = 0.05, *, higher_is_better: bool = True
) -> list[int]:
    """The same in a metric that is no accuracy, from the resampled scores [K] of each model on the same samples.

    The test of a pair flips the signs of what each video adds to the difference.
    """
    added = np.stack([contributions(seeds) for seeds in models])
    means = np.array([np.mean([one.value for one in seeds]) for seeds in models])
    a, b = np.triu_indices(len(models), 1)
    lower, upper = flip_tails(added[a] - added[b])
    separated = np.zeros((len(models), len(models)), bool)
    separated[a, b] = holm(np.minimum(1.0, 2 * np.minimum(lower, upper)), alpha)
    ahead = means[:, None] > means[None, :] if higher_is_better else means[:, None] < means[None, :]
    return [1 + int(count) for count in ((separated | separated.T) & ahead).sum(axis=0)]


def difference(
    model: Sequence[Outcomes], reference: Sequence[Outcomes], videos: Sequence[int] | None = None
) -> tuple[float, float, float]:
    """Mean of the paired differences of two models, and both ends of its 95 % interval, in points.

    Both are seeds of one model, in one order of samples. Seeds are paired in their order, as `bench compare` does;
    where one model has fewer, its seeds are taken again. The interval is that of `statistics.paired`.
    """
    found = paired_seeds(_hits(model), _hits(reference), None if videos is None else np.asarray(videos, np.int64))
    return 100 * found.difference, 100 * found.low, 100 * found.high
