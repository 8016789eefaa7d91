"""Any metric, resampled by whole groups: paired differences with intervals and tests, from group sums alone.

A group is what samples were cut from, such as a video: samples of one group are not independent, so that groups are
drawn, never samples.

*Interval.* The percentile bootstrap of the difference, both models on the same draws of groups. Percentiles are too
narrow for few groups; their levels are set wider, as Student's t is wider than the normal (Hesterberg, The American
Statistician 69 (2015) 371, expanded percentiles).

*Test.* Signs of the groups' pseudo-values are flipped. The pseudo-value of a group, G * all - (G - 1) * all but it, is
what the group adds to the metric; for a mean it is the group's own mean, and the test then is the exact one of
accuracies. If two models are equal, swapping their answers to one video is as likely as not, and it changes the sign
of that video's pseudo-value in the difference. Unlike a bootstrap test it holds its level with few videos, and it needs
no more than G numbers of each model. All patterns
of signs are counted up to 2^14, beyond that as many are drawn.

Everything is deterministic: draws follow from the number of groups. Values are in the units of the score.

Shapes: n samples, G groups, D draws, K seeds.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.core.hashing import text_digest

if TYPE_CHECKING:
    from bench.metrics.metric import Answers, GroupSums, Metric

DRAWS = 1000
"""Resamplings of the groups."""
_MOST_FLIPS = 14
"""Groups up to which all patterns of signs are counted."""
_EQUAL = 1e-9
"""Changes below this share of the largest one are rounding."""
_MAX_NUMBERS = 1 << 20
"""Multiplicities held at once."""

Floats = NDArray[np.float64]


def group_names(samples: Sequence[str], groups: NDArray[Any] | None) -> NDArray[Any]:
    """What the group of each sample is called, [n]: by the first of its samples' ids.

    Numbers of videos differ between runs that could read different samples; these names do not.
    """
    ids = np.array(samples, dtype=object)
    if groups is None:
        return ids
    _, member = np.unique(groups, return_inverse=True)
    first: dict[int, str] = {}
    for group, sample in zip(member.tolist(), samples, strict=True):
        first[group] = min(first.get(group, sample), sample)
    return np.array([first[group] for group in member.tolist()], dtype=object)


@dataclass(frozen=True)
class MeanSums:
    """Sums of a metric that is a mean over samples. A GroupSums."""

    groups: tuple[str, ...]
    sums: Floats
    """Sum of the samples' values in each group, [G]."""
    sizes: Floats
    """Samples of each group, [G]."""

    @staticmethod
    def of(values: ArrayLike, names: NDArray[Any]) -> MeanSums:
        """Sum one value for each sample [n], in the units of the score, by the name of its group."""
        groups, member = np.unique(names, return_inverse=True)
        sums = np.bincount(member, weights=np.asarray(values, dtype=np.float64))
        sizes: Floats = np.bincount(member).astype(np.float64)
        return MeanSums(tuple(groups.tolist()), sums.astype(np.float64), sizes)

    def at(self, multiplicity: NDArray[Any]) -> Floats:
        """The mean [D] where each group counts `multiplicity` [D, G] times; NaN where none does."""
        sums, sizes = multiplicity @ self.sums, multiplicity @ self.sizes
        means: Floats = np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0)
        return means


def multiplicities(num_groups: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """How often each group is drawn, [D, G]: as many groups as there are, with replacement."""
    random = np.random.RandomState(seed)
    return random.multinomial(num_groups, [1 / num_groups] * num_groups, size=draws).astype(np.int64)


@dataclass(frozen=True)
class Resampled:
    """One score of one run, made again on draws of its groups: all that paired comparisons need, in few kilobytes."""

    samples: str
    """SHA-256 of the samples with their truth, and of their groups: only what is equal in it can be paired."""
    value: float
    """The score."""
    pseudo: Floats
    """What each group adds to the score, [G], in order of the groups' names."""
    draws: NDArray[np.float32]
    """The score of each draw [D]; NaN where it holds nothing that can be scored."""

    def to_text(self) -> str:
        """Its numbers in base64."""
        parts = self.draws.astype("<f4").tobytes() + self.pseudo.astype("<f8").tobytes()
        return base64.b64encode(parts).decode("ascii")

    @staticmethod
    def from_text(text: str, samples: str, value: float) -> Resampled:
        """What `to_text` was made of. Raises ValueError where it is something else."""
        numbers = base64.b64decode(text, validate=True)
        size = 4 * DRAWS
        if len(numbers) <= size or (len(numbers) - size) % 8:
            raise ValueError(f"not the numbers of {DRAWS} draws of groups")
        draws, pseudo = np.frombuffer(numbers[:size], "<f4"), np.frombuffer(numbers[size:], "<f8")
        return Resampled(samples, value, pseudo.astype(np.float64), draws.astype(np.float32))


def redrawn(sums: GroupSums) -> tuple[float, Floats, list[str]]:
    """The metric as it is, its draws [D], and the groups in the order of their names, in which they are drawn."""
    order = _name_order(sums)
    place = np.argsort(order, kind="stable")
    value = float(sums.at(np.ones((1, len(order))))[0])
    return value, _at(sums, multiplicities(len(order))[:, place]), [sums.groups[group] for group in order]


def resampled(metric: Metric[Any], answers: Answers) -> Resampled:
    """A score of these answers, resampled. Samples may be in any order."""
    ordered = answers.of(sorted(answers.samples))
    sums = metric.sums(ordered)
    value, draws, groups = redrawn(sums)
    pseudo = added_by_groups(sums)
    digest = text_digest("\n".join([ordered.sample_digest, *groups]))
    return Resampled(digest, value, pseudo, draws.astype(np.float32))


def added_by_groups(sums: GroupSums) -> Floats:
    """What each group adds to the metric, [G], in order of the groups' names: G * all - (G - 1) * all but it."""
    groups, order = len(sums.groups), _name_order(sums)
    if isinstance(sums, MeanSums):  # of many samples, where leaving them out one by one would take long
        left = sums.sizes.sum() - sums.sizes
        all_but = np.divide(sums.sums.sum() - sums.sums, left, out=np.full(groups, np.nan), where=left > 0)[order]
    else:
        all_but = _leaving_one_out(sums, order)
    added: Floats = groups * float(sums.at(np.ones((1, groups)))[0]) - (groups - 1) * all_but
    return added


def _name_order(sums: GroupSums) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(np.array(sums.groups, dtype=object), kind="stable")
    return order


def _leaving_one_out(sums: GroupSums, order: NDArray[np.int64]) -> Floats:
    """The metric without each group, [G], in this order."""
    rows = max(1, _MAX_NUMBERS // len(order))
    parts = []
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        weights = np.ones((len(some), len(order)))
        weights[np.arange(len(some)), some] = 0
        parts.append(sums.at(weights))
    return np.concatenate(parts)


def _at(sums: GroupSums, multiplicity: NDArray[Any]) -> Floats:
    """`sums.at` of many draws, some at a time."""
    rows = max(1, _MAX_NUMBERS // multiplicity.shape[1])
    blocks = [sums.at(multiplicity[start : start + rows]) for start in range(0, len(multiplicity), rows)]
    found: Floats = np.concatenate(blocks)
    return found


@dataclass(frozen=True)
class PairedDifference:
    """One model minus another, in the units of the score; the mean over their seeds."""

    difference: float
    low: float
    """Low end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided: how likely so large a difference is between equal models."""
    p_lower: float
    """One-sided: how likely so low a difference is between equal models."""
    mde: float | None
    """About the smallest true difference that the test finds at 5 % with 80 % power; None where so few groups show
    none."""
    wins: int
    """Groups that add more to the score of the first model."""
    losses: int
    """Groups that add more to that of the second."""
    clusters: int
    """Groups."""
    confidence: float


def paired_scores(
    a: Sequence[Resampled], b: Sequence[Resampled], confidence: float = 0.95, alpha: float = 0.05
) -> PairedDifference:
    """The difference of two models' scores on the same samples, each the mean over its seeds [K]; a minus b.

    `alpha` is that of the two-sided test whose power is told. Raises BenchError where the samples are not the same, or
    fewer than two of their groups are independent.
    """
    if len({one.samples for one in (*a, *b)}) > 1:
        raise BenchError("they were not scored on the same samples, or these are not of the same videos")
    if not is_paired(a[0]):
        raise BenchError("all that can be scored is of one video: nothing is independent")
    draws = _mean([one.draws for one in a]) - _mean([one.draws for one in b])
    changes = contributions(a) - contributions(b)
    difference = float(np.mean([one.value for one in a]) - np.mean([one.value for one in b]))
    low, high = percentiles(draws[np.isfinite(draws)], len(changes), confidence)
    (lower,), (upper,) = flip_tails(changes[None])
    return PairedDifference(
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
        p_value=min(1.0, 2 * min(float(lower), float(upper))),
        p_lower=float(lower),
        mde=_detectable(changes, alpha),
        wins=int((changes > _EQUAL).sum()),
        losses=int((changes < -_EQUAL).sum()),
        clusters=len(changes),
        confidence=confidence,
    )


def is_paired(one: Resampled) -> bool:
    """Whether its groups are enough for an interval and a test: two, and no single one that all depends on."""
    return len(one.pseudo) > 1 and bool(np.isfinite(one.pseudo).all())


def contributions(seeds: Sequence[Resampled]) -> Floats:
    """What each group adds to the mean score of the seeds of one model, [G]."""
    return _mean([one.pseudo for one in seeds])


def _mean(seeds: Sequence[NDArray[Any]]) -> Floats:
    means: Floats = np.mean(np.stack(seeds).astype(np.float64), axis=0)
    return means


def percentiles(draws: Floats, num_groups: int, confidence: float) -> tuple[float, float]:
    """Both ends of an expanded percentile interval, of draws of at least two groups."""
    from scipy.stats import t

    reach = float(t.ppf((1 + confidence) / 2, num_groups - 1)) * sqrt(num_groups / (num_groups - 1))
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def flip_tails(changes: Floats) -> tuple[Floats, Floats]:
    """For each row of `changes` [P, G], the chances of a sum as low, and of one as high, if signs were fair coins' [P].

    Groups without a change say nothing. All patterns are counted where at most 14 groups changed; of more, 2^14
    patterns are drawn, and the one that was seen counts among them, which keeps the level.
    """
    largest = np.abs(changes).max(axis=1, keepdims=True)
    sizes = np.divide(np.abs(changes), largest, out=np.zeros_like(changes), where=largest > 0)
    sizes[sizes < _EQUAL] = 0
    # In units of the largest, so that equal sums are equal in spite of rounding.
    seen = (np.sign(changes) * sizes).sum(axis=1)
    slack, few = _EQUAL * changes.shape[1], (sizes > 0).sum(axis=1) <= _MOST_FLIPS
    lower, upper = np.ones(len(changes)), np.ones(len(changes))
    for row in np.flatnonzero(few):
        sums = np.zeros(1)
        for size in sizes[row][sizes[row] > 0]:
            sums = np.concatenate([sums - size, sums + size])
        lower[row], upper[row] = (sums <= seen[row] + slack).mean(), (sums >= seen[row] - slack).mean()
    if not few.all():
        many, found = np.flatnonzero(~few), 1 << _MOST_FLIPS
        low, high = np.ones(len(many)), np.ones(len(many))
        for signs in _signs(found, changes.shape[1]):
            sums = signs @ sizes[many].T
            low += (sums <= seen[many] + slack).sum(axis=0)
            high += (sums >= seen[many] - slack).sum(axis=0)
        lower[many], upper[many] = low / (1 + found), high / (1 + found)
    return lower, upper


def _signs(count: int, num_groups: int) -> Iterator[Floats]:
    """Patterns of -1 and 1, [count, G], some at a time."""
    random, rows = np.random.RandomState(0), max(1, _MAX_NUMBERS // num_groups)
    for start in range(0, count, rows):
        coins = random.randint(0, 2, (min(rows, count - start), num_groups))
        yield 2 * coins.astype(np.float64) - 1


def _detectable(changes: Floats, alpha: float) -> float | None:
    """The difference that a t test on these changes finds with 80 % power; None where no pattern of signs is rarer than
    `alpha`."""
    from scipy.stats import t

    num_groups = len(changes)
    if 2.0 ** (1 - num_groups) > alpha:
        return None
    error = float(changes.std(ddof=1)) / sqrt(num_groups)
    reach = float(t.ppf(1 - alpha / 2, num_groups - 1) + t.ppf(0.8, num_groups - 1))
    return reach * error
