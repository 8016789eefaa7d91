"""One claim of speed as a ratio: how many times as fast as a named reference, with the spread over alternating runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ratio:
    """Seconds of the reference over seconds of ours."""

    name: str
    ratio: float
    """Of the medians."""
    low: float
    """Smallest ratio of a run and the reference's run beside it."""
    high: float
    reference: str
    """What ours is compared with."""
    device: str
    runs: int


def ratio_of(name: str, reference: str, reference_s: Sequence[float], ours_s: Sequence[float]) -> Ratio:
    """The ratio of seconds that were measured in turns: run i of the reference stands beside run i of ours."""
    pairs = [theirs / ours for theirs, ours in zip(reference_s, ours_s, strict=True)]
    return Ratio(
        name=name,
        ratio=statistics.median(reference_s) / statistics.median(ours_s),
        low=min(pairs),
        high=max(pairs),
        reference=reference,
        device=f"CPU, {torch.get_num_threads()} threads",
        runs=len(pairs),
    )
