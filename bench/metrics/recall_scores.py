"""Which actions, verbs and nouns were foreseen -> class-mean recall at 5 with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.metrics.recall import recall_interval, recall_of_hits
from bench.metrics.score import Score

BEST = 5
"""Answers that count."""
HEADS = ("action", "verb", "noun")
"""What a score is of, in the order of a record."""


def metric_name(head: str) -> str:
    """What records call the score of a head."""
    return f"{head}-recall@{BEST}"


def scores_of_hits(
    heads: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]], videos: Sequence[int], failed: int
) -> list[Score]:
    """The scores of a run: `heads` has the labels [n] of each head and whether they are among the best answers [n].

    `videos` [n] names what each sample was cut from: the interval draws videos, and there is none for a single one.
    """
    several, scores = len(set(videos)) > 1, []
    for head in HEADS:
        labels, hits = heads[head]
        low, high = recall_interval(labels, hits, videos) if several else (0.0, 1.0)
        scores.append(
            Score(
                metric=metric_name(head),
                value=100 * recall_of_hits(labels, hits).mean,
                low=100 * low,
                high=100 * high,
                correct=None,
                n=len(labels),
                failed=failed,
                interval="bootstrap over videos, 95 %" if several else "none: one video tells nothing of others",
            )
        )
    return scores
