"""How often the interval of what is lost without order, or with one frame, as a share of the score above chance, holds
the truth, on simulated outcomes whose shares are known.

    python benchmarks/motion_shares.py        # a minute of one core; the figures of docs/controls.md

Two probes share the difficulty of each sample, as two probes of one encoder do: their outcomes correlate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics.intervals import bootstrap_ratio_interval

CLASSES, SIMULATIONS, DRAWS = 8, 300, 1000
CASES = ((320, 0.6, 0.3), (320, 0.35, 0.2), (800, 0.6, 0.125), (320, 0.9, 0.85))
"""Test samples, accuracy on ordered clips, accuracy on the control's."""


def outcomes(accuracy: float, difficulty: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """1 where a sample [n] is right, with probability `accuracy` over all difficulties."""
    burden = (difficulty + random.random(len(difficulty))) / 2
    # The mean of two uniform numbers: its quantile function.
    bearable = np.sqrt(accuracy / 2) if accuracy <= 0.5 else 1 - np.sqrt((1 - accuracy) / 2)
    return (burden < bearable).astype(np.float64)


def coverage(n: int, ordered: float, control: float, random: np.random.Generator) -> float:
    """Share of the intervals that hold the true share."""
    truth = (ordered - control) / (ordered - 1 / CLASSES)
    held = []
    for _ in range(SIMULATIONS):
        difficulty = random.random(n)
        right, right_without = (outcomes(accuracy, difficulty, random) for accuracy in (ordered, control))
        interval = bootstrap_ratio_interval(right - right_without, right - 1 / CLASSES, draws=DRAWS)
        if interval is not None:
            held.append(interval.low <= truth <= interval.high)
    return sum(held) / len(held)


def main() -> None:
    random = np.random.default_rng(1)
    for n, ordered, control in CASES:
        print(f"n {n}, ordered {ordered:.1%}, control {control:.1%}: {coverage(n, ordered, control, random):.1%}")


if __name__ == "__main__":
    main()
