"""In which order a clip shows its frames: the controls of motion against appearance.

Only the order of a clip's own frames changes, after they were chosen; what is done to their pixels does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.core.types import FrameOrder


def in_order(frames: Sequence[int], order: FrameOrder, rng: np.random.RandomState) -> list[int]:
    """The frame numbers of a clip [T] as `order` shows them [T].

    static: frame T // 2 at every place. shuffled: a permutation drawn from `rng` that shows another sequence than
    `frames`, so never the identity; only a clip whose frames are all the same stays as it is.
    """
    given = list(frames)
    if order == "reversed":
        return given[::-1]
    if order == "static":
        return [given[len(given) // 2]] * len(given)
    if order == "ordered" or len(set(given)) < 2:
        return given
    while True:
        shuffled = [given[place] for place in rng.permutation(len(given))]
        if shuffled != given:
            return shuffled
