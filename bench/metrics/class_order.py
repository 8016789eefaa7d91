"""Do predictions look as if the classes were in another order? A check of labels against outcomes, not of names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.metrics.intervals import wilson_interval


def suspicion(labels: Sequence[int], predictions: Sequence[int] | NDArray[np.int64]) -> str | None:
    """One clause where the predictions fit the labels far better with the classes renamed; None where they do not.

    Every predicted class takes the label that it meets most often on every other sample; the rest of the samples
    count. Far better: the low end of the 95 % interval of that accuracy is above twice the high end of the accuracy as
    it is, and above that of always naming the most frequent class.
    """
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    learn, count = slice(0, None, 2), slice(1, None, 2)
    n = len(truth[count])
    if n == 0:
        return None
    renamed = {
        value: np.bincount(truth[learn][predicted[learn] == value]).argmax() for value in np.unique(predicted[learn])
    }
    guesses = np.array([renamed.get(value, value) for value in predicted[count]])
    hits = int((guesses == truth[count]).sum())
    right = int((predicted == truth).sum())
    least = wilson_interval(hits, n).low
    most = wilson_interval(right, len(truth)).high
    constant = wilson_interval(int(np.bincount(truth).max()), len(truth)).high
    if least <= max(2 * most, constant):
        return None
    return (
        f"{100 * right / len(truth):.1f} % right, but {100 * hits / n:.1f} % of every other sample with the classes "
        "renamed: the probe's class order is probably another one"
    )
