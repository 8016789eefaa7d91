# python -m benchmarks.instrument --models vjepa-nano,random --seeds 10       (two CPU cores: about eight minutes)
"""What a score depends on besides the encoder and the clips: the default recipe, trained again and again on one cache.

    repeatability   SD of the score over runs, each of as many seeds as the recipe has, over its standard error over
                    test samples: at most 0.5 is wanted
    rounding        change of the score where first weights change by 2e-7, over the same
    convergence     change where every training has twice the steps, over the same
    coverage        share of runs whose printed 95 % interval holds the mean over seeds and samples
    false_alarms    share of pairs of runs of one encoder, of other seeds, that the comparison separates at 5 %
    width           change where the tokens are rotated into four times the channels, over the standard error

A run is made of seeds that were really trained, drawn without replacement, on test samples that are drawn again with
replacement: the mean over all seeds and samples is known. Of every name there is one figure, its mean over the cases
(a model on a task), between the smallest and the largest.

Shapes: R seeds of a case, K of them in a run, n test samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.analysis.change import change_of_hits, trained_hits
from bench.cards.load import ProbeCard
from bench.core.files import atomic_write
from bench.core.progress import Silent
from bench.metrics.trainings import share_interval
from bench.pipeline.plan import make_plan
from bench.pipeline.run import prepare
from bench.probing import blocks
from bench.probing.objectives import Objective
from bench.probing.scoring import predict
from bench.probing.source import Rows, TokenSource
from bench.probing.train import fit_seeds
from bench.tasks.options import make_options
from benchmarks.ratios import Ratio

QUICK = {"models": ("vjepa-nano", "random"), "tasks": ("digits-motion", "digits-appearance"), "seeds": 10}
NAMES = {
    "repeatability": "SD of a run over its standard error",
    "rounding": "change by first weights 2e-7 away, in standard errors",
    "convergence": "change by twice the steps, in standard errors",
    "coverage": "95 % intervals that hold the mean over seeds and samples",
    "false_alarms": "runs of one encoder that are told apart at 5 %",
    "width": "loss by tokens rotated into four times the channels, in standard errors",
}
_RUNS = 400
"""Runs, and pairs of runs, that are drawn of a case."""
Hits = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A model on a task, its tokens in the cache."""

    name: str
    card: ProbeCard
    num_heads: int
    train: TokenSource
    test: TokenSource
    objective: Objective
    labels: NDArray[np.int64]

    def hits(self, seeds: Sequence[int], card: ProbeCard | None = None, turn: Tensor | None = None) -> Hits:
        """What probes of these seeds get right, [R, n]; `turn` [D, E] rotates the tokens before."""
        train, test = (source if turn is None else Turned(source, turn) for source in (self.train, self.test))
        probes = fit_seeds(card or self.card, train, self.objective, self.num_heads, seeds)
        said = [predict(fitted.probe, test).argmax(axis=1) for fitted in probes]
        return np.stack([(one == self.labels).astype(np.int64) for one in said])


class Turned:
    """The tokens of another source times a matrix [D, E]. A TokenSource."""

    def __init__(self, source: TokenSource, matrix: Tensor) -> None:
        self._source, self._matrix = source, matrix
        self.num_samples, self.num_views, self.num_tokens = source.num_samples, source.num_views, source.num_tokens
        self.embed_dim = matrix.shape[1]

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, E] of these samples."""
        return self._source.read(rows, view).float() @ self._matrix


def open_case(model: str, task: str) -> Case:
    """Bring the features of a model on a task into the cache."""
    prepared = prepare(make_plan(make_options({"task": task, "model": model}), Silent()), Silent())
    plan, inputs, objective = prepared.plan, prepared.inputs, prepared.objective
    if objective is None or inputs.test is None or inputs.train is None:
        raise ValueError("nothing to train on")
    labels = np.array([sample.label for sample in prepared.test.samples])
    train: TokenSource = inputs.train  # type: ignore[assignment]
    return Case(f"{model}, {task}", plan.recipe, plan.probe_heads, train, inputs.test, objective, labels)


def measure_case(case: Case, num_seeds: int, *, width: bool = True) -> dict[str, float]:
    """The figures of one case, by name."""
    size = case.card.num_seeds(case.train.num_samples)
    groups = [list(range(start, min(start + size, num_seeds))) for start in range(0, num_seeds, size)]
    pool = np.concatenate([case.hits(group) for group in groups])
    first = pool[:size]
    error = trained_hits(first).sampling_se

    def change(hits: Hits) -> float:
        return 100 * float(hits.mean() - first.mean()) / error

    twice = case.card.optimisation and case.card.optimisation.model_copy(
        update={"min_steps": 2 * case.card.optimisation.min_steps, "epochs": 2 * case.card.optimisation.epochs}
    )
    with mock.patch.object(blocks, "first_weights", _disturbed(blocks.first_weights)):
        disturbed = case.hits(groups[0])
    found = {
        "repeatability": float((100 * pool.mean(axis=1)).std(ddof=1)) / size**0.5 / error,
        "rounding": abs(change(disturbed)),
        "convergence": abs(change(case.hits(groups[0], case.card.model_copy(update={"optimisation": twice})))),
        **resampled_runs(pool, size),
    }
    if width:
        found["width"] = -change(case.hits(groups[0], turn=rotation(case.train.embed_dim, 4)))
    return found


def rotation(width: int, factor: int) -> Tensor:
    """An isometry [D, factor * D] into more channels."""
    random = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(factor * width, width, generator=random))[0].T.contiguous()


def _disturbed(drawn: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    def first_weights(shapes: dict[str, tuple[int, ...]], *, seed: int) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed % 2**31)
        weights = drawn(shapes, seed=seed)
        return {name: one * (1 + 2e-7 * torch.randn(one.shape, generator=random)) for name, one in weights.items()}

    return first_weights


def resampled_runs(pool: Hits, size: int) -> dict[str, float]:
    """Coverage and false alarms of runs of `size` seeds, from outcomes of many seeds [R, n]."""
    random = np.random.RandomState(0)
    truth, held, alarms = 100 * pool.mean(), 0, 0
    for _ in range(_RUNS):
        order, drawn = random.permutation(len(pool)), random.randint(0, pool.shape[1], pool.shape[1])
        one, other = (pool[np.ix_(order[part], drawn)] for part in (slice(size), slice(size, 2 * size)))
        low, high = share_interval(trained_hits(one))
        held += low <= truth <= high
        alarms += change_of_hits(one, other).p_value < 0.05
    return {"coverage": held / _RUNS, "false_alarms": alarms / _RUNS}


def as_ratios(measured: Sequence[dict[str, float]]) -> list[Ratio]:
    """One figure a name: its mean over the cases, the smallest and the largest."""
    device = f"CPU, {torch.get_num_threads()} threads"
    made = []
    for name, reference in NAMES.items():
        values = [case[name] for case in measured if name in case]
        if values:
            mean = float(np.mean(values))
            made.append(Ratio(name, mean, min(values), max(values), reference, device, len(values)))
    return made


def ratios(runs: int) -> list[Ratio]:
    """The quick form: two encoders on both tasks of the digits, whatever number of `runs` is asked for."""
    return as_ratios(measure_all(QUICK["models"], QUICK["tasks"], QUICK["seeds"], whole=False))  # type: ignore[arg-type]


def measure_all(
    models: Sequence[str], tasks: Sequence[str], num_seeds: int, *, whole: bool = True
) -> list[dict[str, float]]:
    """The figures of every case, in order: tasks within models; `width`, which takes longest, of the first task alone
    unless `whole`."""
    cases = [(model, task) for model in models for task in tasks]
    return [measure_case(open_case(model, task), num_seeds, width=whole or task == tasks[0]) for model, task in cases]


def main() -> None:
    """Measure, and print a row for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instrument", description=__doc__)
    parser.add_argument("--models", default=",".join(QUICK["models"]))  # type: ignore[arg-type]
    parser.add_argument("--tasks", default=",".join(QUICK["tasks"]))  # type: ignore[arg-type]
    parser.add_argument("--seeds", type=int, default=QUICK["seeds"], help="trained of each case")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    models, tasks = options.models.split(","), options.tasks.split(",")
    measured = measure_all(models, tasks, options.seeds)
    table = Table(*("case", *NAMES), box=None, pad_edge=False)
    for (model, task), case in zip(((m, t) for m in models for t in tasks), measured, strict=True):
        table.add_row(f"{model}, {task}", *(f"{case[name]:.2f}" for name in NAMES))
    Console(width=140).print(table)
    if options.json:
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps([asdict(one) for one in as_ratios(measured)], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
