"""Do the statistics of several probe seeds keep their promises? Parts of `python -m benchmarks.honesty`.

A model answers n samples in each of K trainings. A latent score decides whether an answer is right: a part is the
difficulty of the sample, which all models share, a part is the model's own and the same in every training, and the rest
is anew in each training. The threshold moves with the training, so that its accuracy varies by `training_sd` points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from bench.analysis.change import change_of_hits, trained_hits
from bench.analysis.gate import judge
from bench.analysis.gate_rows import Outcomes
from bench.analysis.ranks import Ranks, mcnemar_p, p_of_hits, rank_intervals
from bench.metrics.trainings import share_interval
from benchmarks.promises import Table, chance, few, percent

Hits = NDArray[np.int64]
_ACCURACY = 0.7
_SAMPLES = 800
_MODELS = 8
_BOARDS = 1000
"""Most simulations of a board."""


@dataclass(frozen=True)
class Model:
    """An encoder, and how its probe varies from training to training."""

    accuracy: float
    """Over samples and trainings, 0 to 1."""
    own: float = 0.1
    """Variance of the model's own part, of 1 in all."""
    noise: float = 0.1
    """Variance of what is anew in every training."""
    training_sd: float = 1.0
    """Of the accuracy, in points."""

    def answers(
        self, random: np.random.Generator, easy: NDArray[np.float64], own: NDArray[np.float64], seeds: int
    ) -> Hits:
        """Outcomes [K, n] of trainings on samples of this difficulty [n] and with this own part [n]."""
        stable = sqrt(1 - self.own - self.noise) * easy + sqrt(self.own) * own
        scores = stable + sqrt(self.noise) * random.standard_normal((seeds, len(easy)))
        cut = norm.ppf(self.accuracy)
        shift = self.training_sd / 100 / norm.pdf(cut)
        # A threshold that varies widens the latent score: the accuracy over trainings stays what it is.
        cuts = cut * sqrt(1 + shift**2) + shift * random.standard_normal((seeds, 1))
        made: Hits = (scores < cuts).astype(np.int64)
        return made


def board(random: np.random.Generator, models: Sequence[Model], seeds: int, n: int = _SAMPLES) -> list[Hits]:
    """Outcomes [K, n] of each model on the same samples."""
    easy = random.standard_normal(n)
    return [model.answers(random, easy, random.standard_normal(n), seeds) for model in models]


def seeds(repeats: int, random: np.random.Generator) -> None:
    """Scores and comparisons of K trainings, n = 800; beside them what McNemar's test says of the first seeds alone."""
    table = Table(
        "seeds", "training SD", "score coverage %", "p < 0.05 of equal models, %", "first seeds alone, %",
        "difference coverage %", "p < 0.05 at 3 points, %",
    )  # fmt: skip
    for number in (2, 3, 5):
        for training_sd in (0.0, 0.8, 1.6, 4.0):
            first, worse = (Model(level, training_sd=training_sd) for level in (_ACCURACY, _ACCURACY - 0.03))
            held, alarms, alone, covered, told = [], [], [], [], []
            for _ in range(repeats):
                a, b, c = board(random, [first, first, worse], number)
                low, high = share_interval(trained_hits(a))
                held.append(low <= 100 * _ACCURACY <= high)
                alarms.append(change_of_hits(a, b).p_value < 0.05)
                alone.append(bool(mcnemar_p((a[0] > b[0]).sum(), (a[0] < b[0]).sum()) < 0.05))
                found = change_of_hits(a, c)
                covered.append(found.low <= 3 <= found.high)
                told.append(found.p_value < 0.05)
            kept = few(percent(alarms), repeats) and (training_sd > 2 or percent(held) > 93 - chance(repeats, 0.95))
            shares = [percent(one) for one in (held, alarms, alone, covered, told)]
            table.row(number, training_sd, *shares, kept=kept)


def boards(repeats: int, random: np.random.Generator) -> None:
    """Boards of 8 models, n = 800: how often any two are falsely told apart, and whether ranks hold the true ones."""
    table = Table(
        "seeds", "models", "boards with a false separation %", "sign test on shares %",
        "ranks that hold the true one %", "mean width of ranks", "different pairs told apart %",
    )  # fmt: skip
    steady = [Model(_ACCURACY, noise=0.02, training_sd=0.5)] * 4 + [Model(_ACCURACY, noise=0.5, training_sd=2)] * 4
    pairs = [Model(level) for level in np.repeat([0.76, 0.72, 0.68, 0.64], 2)]
    steps = [Model(level) for level in np.linspace(0.74, 0.60, _MODELS)]
    made = {"equal": [Model(_ACCURACY)] * _MODELS, "equal, half of them unsteady": steady}
    made |= {"four pairs, 4 points apart": pairs, "2 points apart": steps}
    for number in (1, 3, 5):
        for name, models in made.items():
            false, signs, held, width, told = [], [], [], [], []
            levels = np.array([model.accuracy for model in models])
            better = levels[:, None] > levels[None, :]
            for _ in range(min(repeats, _BOARDS)):
                hits = board(random, models, number)
                values = [one.mean() for one in hits]
                found = rank_intervals(values, p_of_hits(hits))
                held += hold(found, levels)
                false.append(not all(held[-_MODELS:]))
                signs.append(not all(hold(rank_intervals(values, sign_test(hits)), levels)))
                width += [ranks.high - ranks.low for ranks in found]
                told.append(sum(ranks.low - 1 for ranks in found) / max(1, better.sum()))
            kept = few(percent(false), len(false)) or number == 1
            shares = percent(false), percent(signs), percent(held)
            apart = 100 * float(np.mean(told)) if better.any() else ""
            table.row(number, name, *shares, float(np.mean(width)), apart, kept=kept)


def hold(found: Sequence[Ranks], levels: NDArray[np.float64]) -> list[bool]:
    """Which of these ranks hold the true ones; models of equal accuracy have all ranks between them."""
    lows = [1 + int((levels > one).sum()) for one in levels]
    highs = [len(levels) - int((levels < one).sum()) for one in levels]
    return [r.low <= low and high <= r.high for r, low, high in zip(found, lows, highs, strict=True)]


def sign_test(hits: Sequence[Hits]) -> NDArray[np.float64]:
    """The p values of all pairs by the samples on which the higher share of trainings is right, which is no test of
    accuracies: it finds models that are unsteady."""
    shares = np.stack([one.mean(axis=0) for one in hits])
    won = (shares[:, None] > shares[None, :] + 1e-9).sum(axis=2)
    return np.asarray(mcnemar_p(won, won.T))


@lru_cache(maxsize=16)
def part_of(discordance: float) -> float:
    """The variance that differs between two trainings which disagree on this share of the samples."""

    def excess(part: float) -> float:
        cut = norm.ppf(_ACCURACY)
        both = float(multivariate_normal([0, 0], [[1, 1 - part], [1 - part, 1]]).cdf([cut, cut]))
        return 2 * (_ACCURACY - both) - discordance

    return float(brentq(excess, 1e-4, 1.0))


def gate_of_seeds(repeats: int, random: np.random.Generator) -> None:
    """What `bench check` says of one row at a margin of 1 point, n = 1000; single trainings disagree on a tenth."""
    table = Table("seeds", "training SD", "what differs", "true drop", "pass %", "regression %", "cannot tell %")
    part = part_of(0.1)
    # The samples that change are others in every training (the encoder is as it was), or the same ones in all.
    kinds = {"each training": (0.0, part), "the encoder": (part, 0.0)}
    for number in (3, 5):
        for training_sd in (0.5, 1.0):
            for name, (own, noise) in kinds.items():
                for drop in (0.0, 0.01, 0.03):
                    said = []
                    for _ in range(repeats):
                        easy, one, other = random.standard_normal((3, 1000))
                        then = Model(_ACCURACY, own, noise, training_sd).answers(random, easy, one, number)
                        after = Model(_ACCURACY - drop, own, noise, training_sd).answers(random, easy, other, number)
                        said.append(judge([Outcomes(then, after)], 1.0)[0])
                    shares = [percent([one == status for one in said]) for status in ("pass", "regression", "unknown")]
                    kept = (drop > 0 or few(shares[1], repeats)) and (drop == 0 or few(shares[0], repeats))
                    if drop == 0.03 and number == 5:
                        kept = kept and shares[1] >= 80 - chance(repeats, 0.8)
                    table.row(number, training_sd, name, 100 * drop, *shares, kept=kept)
