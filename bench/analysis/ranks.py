"""Which models of a column differ by a paired test, and the ranks that each of them may have.

Every pair of models is tested on the same test samples, with Holm's correction over the column: any false separation at
all has at most chance alpha. Models of several seeds are tested over samples and trainings (bench.metrics.trainings).
Where both have one seed there is no training to be known, and the tests are those of the samples alone: McNemar's exact
test, or sign flips of what each video adds in other metrics than accuracy. All pairs are tested at once, so that
thousands of models take seconds.

Separations are no order: A may be better than C while B is told apart from neither. So each model has an interval of
ranks, from 1 + the models that are significantly better to the number of models minus those significantly worse.

Shapes: R models of a column, K seeds of a model, n samples, G groups (videos, or samples where each is its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.change import Hits, trained_hits, trained_scores
from bench.metrics.resample import Resampled, contributions, flip_tails
from bench.metrics.trainings import p_values
from bench.records.tables.outcomes import Outcomes

_BLOCK = 4096
"""Samples that are compared at once."""

Floats = NDArray[np.float64]


class Ranks(NamedTuple):
    """The ranks that a model may have, 1 for the best."""

    low: int
    """1 + the models that are significantly better."""
    high: int
    """Ranked models minus those that are significantly worse."""


def rank_intervals(
    values: ArrayLike, p: NDArray[np.float64], alpha: float = 0.05, *, higher_is_better: bool = True
) -> list[Ranks]:
    """The ranks of R models, from their scores [R] and the two-sided p values of all pairs [R, R]."""
    scores = np.asarray(values, dtype=np.float64)
    pairs = np.triu_indices(len(scores), 1)
    separated = np.zeros(p.shape, bool)
    separated[pairs] = holm(p[pairs], alpha)
    ahead = scores[:, None] > scores[None, :] if higher_is_better else scores[:, None] < scores[None, :]
    better = (separated | separated.T) & ahead
    above, below = better.sum(axis=0).tolist(), better.sum(axis=1).tolist()
    return [Ranks(1 + up, len(scores) - down) for up, down in zip(above, below, strict=True)]


def p_of_hits(models: Sequence[Hits], videos: Sequence[int] | None = None) -> Floats:
    """The p values of all pairs of models, [R, R], from the outcomes [K, n] of each on one order of samples.

    `videos` [n] numbers what each sample is cut from; every sample is alone without it.
    """
    single = np.array([len(hits) == 1 for hits in models])
    if videos is None and single.all():
        return _mcnemar(np.concatenate(models))
    groups = None if videos is None else np.asarray(videos)
    p = p_values([trained_hits(hits, groups) for hits in models])
    if videos is None and single.any():
        places = np.flatnonzero(single).tolist()
        p[np.ix_(places, places)] = _mcnemar(np.concatenate([models[place] for place in places]))
    return p


def p_of_scores(models: Sequence[Sequence[Resampled]]) -> Floats:
    """The same in a metric that is no accuracy, from the resampled scores [K] of each model on the same samples."""
    single = [place for place, seeds in enumerate(models) if len(seeds) == 1]
    p = p_values([trained_scores(seeds) for seeds in models])
    if len(single) > 1:
        added = np.stack([contributions(models[place]) for place in single])
        a, b = np.triu_indices(len(single), 1)
        lower, upper = flip_tails(added[a] - added[b])
        places = np.array(single)
        p[places[a], places[b]] = p[places[b], places[a]] = np.minimum(1.0, 2 * np.minimum(lower, upper))
    return p


def hits_of(seeds: Sequence[Outcomes]) -> Hits:
    """Outcomes of the seeds of one model, 0 or 1: [K, n]. They have one order of samples; there is at least one."""
    size = (seeds[0].n + 7) // 8
    packed = np.frombuffer(b"".join(seed.right.to_bytes(size, "little") for seed in seeds), np.uint8)
    right = np.unpackbits(packed.reshape(len(seeds), size), axis=1, count=seeds[0].n, bitorder="little")
    return right.astype(np.int64)


def _mcnemar(right: NDArray[Any]) -> Floats:
    won = wins(right)
    return mcnemar_p(won, won.T)


def wins(right: NDArray[Any]) -> NDArray[np.int64]:
    """Count the samples that row a gets right and row b does not, [R, R], from outcomes [R, n]."""
    won = np.zeros((len(right), len(right)), np.int64)
    for start in range(0, right.shape[1], _BLOCK):
        block = right[:, start : start + _BLOCK].astype(np.float32)
        won += (block @ (1 - block).T).astype(np.int64)  # sums of at most 4096 ones: exact
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
    found: Floats = np.minimum(1.0, 2 * tails)[place].reshape(a.shape)
    return found


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
