"""Which training samples a choice is made on: a share of every class, or of the videos, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.core.errors import BenchError

Rows = npt.NDArray[np.int64]


def stratified_split(labels: Rows, share: float, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, both sorted; round(share * n) held out, in proportion to the classes.

    Every class keeps at least one sample to train on, so a class with a single sample is never held out, and what
    such classes cannot give is not taken from others. Unlike scikit-learn's, this split also exists for classes with
    one sample and for fewer held-out samples than classes.
    """
    stream = np.random.RandomState(seed)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = share * counts
    quota = np.minimum(np.floor(wanted).astype(np.int64), counts - 1)
    missing = round(share * len(labels)) - int(quota.sum())
    # Largest remainders first; ties in an order drawn from the seed, so that no class is favoured for its number.
    order = stream.permutation(len(counts))
    for index in order[np.argsort(-(wanted - quota)[order], kind="stable")]:
        if missing > 0 and quota[index] < min(counts[index] - 1, np.ceil(wanted[index])):
            quota[index] += 1
            missing -= 1
    held_out = np.zeros(len(labels), dtype=bool)
    for index, number in enumerate(quota):
        members = np.flatnonzero(classes == index)
        held_out[stream.permutation(members)[:number]] = True
    if not held_out.any():
        raise BenchError(
            f"{len(labels)} training samples of {len(counts)} classes leave none to choose a setting on",
            where="selection.held_out",
            fix="give more training samples, or a recipe with one setting such as vjepa1-paper",
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_videos(videos: Sequence[str], share: float, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, both rising, where what was cut from one video is alike.

    `videos` [n] name what each sample was cut from. Whole videos are held out, in an order drawn from `seed`, until
    `share` of the rows is. Raises BenchError for a single video.
    """
    names, member, counts = np.unique(np.asarray(videos), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise BenchError(
            f"all {len(videos)} training samples are of one video, which leaves none to choose a setting on",
            where="selection.held_out",
            fix="give more training videos, or a recipe with one setting",
        )
    order = np.random.RandomState(seed).permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    taken = order[: max(1, int((before < share * len(videos)).sum()))][: len(names) - 1]
    held_out = np.isin(member, taken)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
