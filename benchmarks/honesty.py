"""Do the statistics keep their promises? Simulates models of known accuracy; the tables of docs/statistics.md.

    python -m benchmarks.honesty                        # everything, 2000 simulations a row, eight minutes of one core
    python -m benchmarks.honesty --only gate --repeats 500

Two models answer n samples. Independent samples differ only in who is right: both, neither, one of the two; the share
of the last is the discordance. Where samples share videos, a latent score decides whether an answer is right: a part
is the difficulty of the sample, which the models share, the rest is the model's own, and some of either is common
to all samples of a video. The functions measured are those that `bench run`, `bench compare` and `bench check` call.

Promises: coverage within 95 +- 1.5 %, at most 5 % false alarms, at most 5 % of drops as large as the margin pass,
stated power. A row is marked BROKEN where it misses one by more than two standard errors; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, multivariate_normal, norm

from bench.analysis.gate import judge
from bench.analysis.gate_rows import Outcomes
from bench.metrics.box_scores import BoxAnswers
from bench.metrics.detection import CORNERS
from bench.metrics.intervals import bootstrap_interval, detectable_difference, paired, wilson_interval
from bench.metrics.metric import metric_of
from bench.metrics.recall import HEADS, RankedAnswers, ranked_answers
from bench.metrics.resample import paired_scores, resampled
from benchmarks.honest_seeds import boards, gate_of_seeds, seeds
from benchmarks.promises import Table, chance, covers, few, percent

Answers = NDArray[np.int64]
ACCURACY = 0.7
"""Of the first model; the second is below it by the true difference."""
BOOTSTRAPS = 300
"""Simulations of the bootstrap, which is measured for comparison only."""
RESAMPLED = 400
"""Simulations of metrics that are resampled."""
CLASSES = 12
"""Of those metrics."""


@dataclass(frozen=True)
class Videos:
    """How samples share videos."""

    name: str
    sizes: Answers
    own: float
    """Share of a model's own part that is common to the samples of a video."""

    @property
    def groups(self) -> Answers:
        """Number of the video of each sample [n]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def simulate(
    random: np.random.Generator, repeats: int, n: int, discordance: float, difference: float
) -> Iterator[tuple[Answers, Answers]]:
    """Outcomes [n] of two models on independent samples; the first is better by the difference."""
    only_a, only_b = (discordance + difference) / 2, (discordance - difference) / 2
    both = ACCURACY - only_a
    for counts in random.multinomial(n, [only_a, only_b, both, 1 - discordance - both], size=repeats):
        yield np.repeat([1, 0, 1, 0], counts), np.repeat([0, 1, 1, 0], counts)


@lru_cache(maxsize=64)
def own_share(discordance: float, difference: float) -> float:
    """The variance of a model's own part at which two such models disagree this often."""
    a, b = norm.ppf(ACCURACY), norm.ppf(ACCURACY - difference)

    def excess(own: float) -> float:
        both = float(multivariate_normal([0, 0], [[1, 1 - own], [1 - own, 1]]).cdf([a, b]))
        return 2 * ACCURACY - difference - 2 * both - discordance

    return float(brentq(excess, 1e-4, 1.0))


def simulate_videos(
    random: np.random.Generator, repeats: int, videos: Videos, discordance: float, difference: float
) -> Iterator[tuple[Answers, Answers]]:
    """Outcomes [n] of two models on samples that share videos; the first is better by the difference."""
    own, groups = own_share(discordance, difference), videos.groups
    cuts = norm.ppf(ACCURACY), norm.ppf(ACCURACY - difference)

    def noise(common: float) -> NDArray[np.float64]:
        shared = random.standard_normal(len(videos.sizes))[groups]
        return sqrt(common) * shared + sqrt(1 - common) * random.standard_normal(len(groups))

    for _ in range(repeats):
        difficulty = sqrt(1 - own) * noise(0.5)
        first, second = ((difficulty + sqrt(own) * noise(videos.own) < cut).astype(np.int64) for cut in cuts)
        yield first, second


def many_videos(random: np.random.Generator) -> list[Videos]:
    """Sizes that occur: equal ones, geometric ones, and a few long videos among many short ones."""
    few_long = np.where(random.random(200) < 0.1, 30, random.integers(1, 4, 200))
    made = [
        Videos("50 x 5", np.full(50, 5), 0.3),
        Videos("200 x 5", np.full(200, 5), 0.3),
        Videos("200 x 5, models agree on videos", np.full(200, 5), 0.0),
        Videos("200, geometric sizes", np.minimum(random.geometric(0.2, 200), 40), 0.3),
        Videos("200, a tenth of them 30 long", few_long, 0.3),
    ]
    return [Videos(one.name, one.sizes.astype(np.int64), one.own) for one in made]


def wilson(repeats: int, random: np.random.Generator) -> None:
    """Coverage of the interval of one score, exact: summed over the binomial distribution."""
    table = Table("n", "coverage %, mean over accuracies of 5 to 95 %", "lowest", "highest")
    for n in (100, 320, 800, 5000, 24777):
        counts = np.arange(n + 1)
        ends = np.array([wilson_interval(int(k), n) for k in counts])
        shares = []
        for p in np.linspace(0.05, 0.95, 181):
            covered = (ends[:, 0] <= p) & (p <= ends[:, 1])
            shares.append(100 * float(binom.pmf(counts, n, p)[covered].sum()))
        mean = float(np.mean(shares))
        table.row(n, mean, min(shares), max(shares), kept=abs(mean - 95) <= 1.5)


def compare(repeats: int, random: np.random.Generator) -> None:
    """False alarms of the test and coverage of the interval, independent samples."""
    table = Table("n", "discordance %", "true difference", "p < 0.05, %", "coverage %", "bootstrap %")
    every: list[bool] = []
    for n in (320, 1000, 5000):
        for discordance in (0.05, 0.1, 0.3):
            for difference in (0.0, 0.03):
                alarms, covered, resampled = [], [], []
                for number, (a, b) in enumerate(simulate(random, repeats, n, discordance, difference)):
                    found = paired(a, b)
                    alarms.append(found.p_value < 0.05)
                    covered.append(found.low <= difference <= found.high)
                    if n < 1000 and number < BOOTSTRAPS:
                        low, high = bootstrap_interval(a - b, draws=1000, seed=number)
                        resampled.append(low <= difference <= high)
                every += alarms if difference == 0 else []
                kept = covers(percent(covered), repeats) and (difference > 0 or few(percent(alarms), repeats))
                other = percent(resampled) if resampled else ""
                measured = percent(alarms), percent(covered), other
                table.row(n, 100 * discordance, 100 * difference, *measured, kept=kept)
    table.row("all, without difference", "", "", percent(every), "", "", kept=percent(every) <= 5)


def clusters(repeats: int, random: np.random.Generator) -> None:
    """The same where samples share videos, at a discordance of 15 %; beside it, what ignoring the videos would give."""
    table = Table(
        "videos x samples", "n", "true difference", "p < 0.05, %", "coverage %", "bootstrap of videos", "videos ignored"
    )
    every: list[bool] = []
    for videos in many_videos(random):
        for difference in (0.0, 0.03):
            alarms, covered, resampled, ignored = [], [], [], []
            for number, (a, b) in enumerate(simulate_videos(random, repeats, videos, 0.15, difference)):
                found = paired(a, b, videos.groups)
                alarms.append(found.p_value < 0.05)
                covered.append(found.low <= difference <= found.high)
                if number < BOOTSTRAPS:
                    blind = paired(a, b)
                    ignored.append(blind.low <= difference <= blind.high)
                    low, high = bootstrap_interval(a - b, videos.groups, draws=1000, seed=number)
                    resampled.append(low <= difference <= high)
            every += alarms if difference == 0 else []
            kept = covers(percent(covered), repeats) and (difference > 0 or few(percent(alarms), repeats))
            measured = percent(alarms), percent(covered), percent(resampled), percent(ignored)
            table.row(videos.name, int(videos.sizes.sum()), 100 * difference, *measured, kept=kept)
    table.row("all, without difference", "", "", percent(every), "", "", "", kept=percent(every) <= 5)


def detectable(repeats: int, random: np.random.Generator) -> None:
    """Is a true difference as large as the minimum detectable effect found in 80 % of comparisons?"""
    table = Table("n", "discordance %", "minimum detectable, points", "found %")
    for n, discordance in ((320, 0.1), (800, 0.1), (1000, 0.2), (5000, 0.1), (24777, 0.1)):
        least = detectable_difference(n, discordance) or 1.0
        drawn = simulate(random, repeats, n, discordance, least)
        found = percent([paired(a, b).p_value < 0.05 for a, b in drawn])
        table.row(n, 100 * discordance, f"{100 * least:.2f}", found, kept=abs(found - 80) <= chance(repeats, 0.8))


def gate(repeats: int, random: np.random.Generator) -> None:
    """What `bench check` says of a single row at a margin of 1 point, by its true drop."""
    table = Table("n", "discordance %", "true drop", "pass %", "regression %", "cannot tell %")
    for n, discordance in ((800, 0.01), (1000, 0.05), (1000, 0.1), (1000, 0.2), (5000, 0.1), (24777, 0.1)):
        for drop in (0.0, 0.01, 0.02, 0.03):
            if drop > discordance:
                continue
            said = [
                judge([Outcomes(before[None], now[None])], 1.0)[0]
                for before, now in simulate(random, repeats, n, discordance, drop)
            ]
            shares = [percent([one == status for one in said]) for status in ("pass", "regression", "unknown")]
            kept = (drop > 0 or few(shares[1], repeats)) and (drop == 0 or few(shares[0], repeats))
            table.row(n, 100 * discordance, 100 * drop, *shares, kept=kept)


def rows(repeats: int, random: np.random.Generator) -> None:
    """A whole check of several rows, none of which fell: how often does any of them say regression?"""
    table = Table("rows", "n", "discordance %", "checks with a regression %")
    for number, discordance in ((4, 0.1), (12, 0.3)):
        draws = [simulate(random, repeats, 1000, discordance, 0.0) for _ in range(number)]
        alarms = [
            "regression" in judge([Outcomes(before[None], now[None]) for before, now in one], 1.0)
            for one in zip(*draws, strict=True)
        ]
        table.row(number, 1000, 100 * discordance, percent(alarms), kept=few(percent(alarms), repeats))


def metrics(repeats: int, random: np.random.Generator) -> None:
    """Class-mean recall at 5 and frame mAP, of models that differ from video to video: resampled by whole videos."""
    table = Table("metric", "videos", "p < 0.05 of equal models, %", "coverage %", "p < 0.05 of a better one, %")
    for name, make in (("action-recall@5", recall_answers), ("frame-mAP@0.5", box_answers)):
        for videos in (8, 16, 40):
            alarms, covered, told = [], [], []
            for _ in range(min(repeats, RESAMPLED)):
                truth = random.integers(0, CLASSES, 8 * videos), random.normal(size=videos)
                one, equal, better = (
                    resampled(metric_of(name), make(*answer(random, *truth, skill))) for skill in (0.5, 0.5, 1.2)
                )
                found = paired_scores([one], [equal])
                alarms.append(found.p_value < 0.05)
                covered.append(found.low <= 0 <= found.high)
                told.append(paired_scores([better], [one]).p_value < 0.05)
            kept = few(percent(alarms), len(alarms))
            table.row(name, videos, percent(alarms), percent(covered), percent(told), kept=kept)


def answer(
    random: np.random.Generator, labels: Answers, easy: NDArray[np.float64], skill: float
) -> tuple[Answers, Answers, NDArray[np.float32]]:
    """Videos and labels of the samples [n], eight of a video, and the scores [n, classes] that a model gives."""
    video = np.repeat(np.arange(len(easy)), 8)
    scores = random.normal(size=(len(labels), CLASSES))
    scores[np.arange(len(labels)), labels] += skill + (easy + 0.7 * random.normal(size=len(easy)))[video]
    return video, labels, scores.astype(np.float32)


def recall_answers(video: Answers, labels: Answers, scores: NDArray[np.float32]) -> RankedAnswers:
    ids = [f"{place:05d}" for place in range(len(video))]
    return ranked_answers(ids, [str(one) for one in video], dict.fromkeys(HEADS, (labels, scores)))


def box_answers(video: Answers, labels: Answers, scores: NDArray[np.float32]) -> BoxAnswers:
    boxes = pd.DataFrame({"video": [f"{one:03d}" for one in video], "timestamp": np.arange(len(video)) % 8})
    boxes[list(CORNERS)] = [0.1, 0.1, 0.5, 0.5]
    names = {number: str(number) for number in range(CLASSES)}
    return BoxAnswers(boxes.assign(action=labels), boxes, 1 / (1 + np.exp(-scores)), names, {})


PARTS: dict[str, Callable[[int, np.random.Generator], None]] = {
    "wilson": wilson,
    "compare": compare,
    "clusters": clusters,
    "detectable": detectable,
    "gate": gate,
    "rows": rows,
    "metrics": metrics,
    "seeds": seeds,
    "boards": boards,
    "gate_of_seeds": gate_of_seeds,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage, false alarms and power of the suite's statistics.")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=2000)
    arguments = parser.parse_args()
    for number, (name, part) in enumerate(PARTS.items()):
        if name in arguments.only:
            print(f"\n{name}: {(part.__doc__ or '').strip()}")
            part(arguments.repeats, np.random.default_rng(number))
    sys.exit(1 if Table.broken else 0)


if __name__ == "__main__":
    main()
