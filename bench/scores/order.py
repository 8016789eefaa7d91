"""Which model stands above which: by the columns that two models share.

A mean over whatever columns a model has would reward it for having been measured on easy tasks only. So two models are
compared on the columns that both have; where such comparisons go in a circle, or there are none, the mean difference
from all others that share a column decides, and at last the plain mean. Cells of different metrics are never averaged:
the metric of most cells decides, and the next one between models that share no cell of it.

Shapes: R models, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DIGITS = 9
"""Differences are rounded to these, so that equal means of other columns are equal."""


def best_first(values: Floats, metrics: Sequence[str]) -> list[int]:
    """The models of scores [R, C], NaN where there is none, in the order to show them; `metrics` [C] are the columns'.

    A model that beats another on what they share stands above it, unless a circle of such pairs holds both. Equals keep
    their order; models without a score come last.
    """
    from scipy.sparse.csgraph import connected_components

    known, names = ~np.isnan(values), np.array(metrics)
    by_cells = sorted(dict.fromkeys(metrics), key=lambda name: -known[:, names == name].sum())
    parts = [(np.where(known, values, 0.0)[:, names == name], known[:, names == name]) for name in by_cells]
    ahead = _differences(parts)
    mean = parts[0][0].sum(axis=1) / np.maximum(parts[0][1].sum(axis=1), 1)
    rounded = np.round([-mean, -ahead.mean(axis=1)], _DIGITS)
    usual = np.lexsort((*rounded, ~known.any(axis=1)))
    beats = ahead[np.ix_(usual, usual)] > 0
    _, circle = connected_components(beats, connection="strong")
    beats &= circle[:, None] != circle[None, :]
    losses = beats.sum(axis=0)
    order = []
    for _ in usual:
        first = int(np.argmax(losses == 0))
        order.append(int(usual[first]))
        losses -= beats[first]
        losses[first] = -1  # it has its place
    return order


def _differences(parts: Sequence[tuple[Floats, NDArray[np.bool_]]]) -> Floats:
    """By how many points each model is ahead of each other one on the columns that both have, [R, R]; 0 without any.

    `parts`: of each metric the scores, and where there are any; the first that two models share decides.
    """
    ahead = np.zeros((len(parts[0][0]), len(parts[0][0])))
    for own, known in reversed(parts):
        there = known.astype(float)
        shared = there @ there.T
        difference = np.round((own @ there.T - there @ own.T) / np.maximum(shared, 1), _DIGITS)
        ahead = np.where(shared > 0, difference, ahead)
    return ahead
