"""How much does a score gain when its probe setting is chosen on the test set? On two-label videos, seed by seed.

    python benchmarks/optimism.py --data DATA/moving_signs --seeds 20
    python benchmarks/optimism.py --data DATA/moving_signs --seeds 20 --probe sweep --out optimism.jsonl

DATA/moving_signs holds {train,val}_motion.csv and {train,val}_appearance.csv. For each label and seed, every setting of
the recipe is trained on all training samples and scored on the test set. Of these scores, three are compared:

    held out     of the setting that held-out training samples choose, as `bench run` does
    best         the highest one: what choosing on the test set reports
    transferred  the setting that is best on one half of the test samples, scored on the other half; both ways, mean

`best - held out` is what a table gains over honest selection. `best half - transferred` is what such a choice owes to
chance, on half as many samples, where chance is larger.
Every line of --out is one label and seed; lines that are there are not measured again, so an interrupted run goes on.

Shapes: S settings, n test samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.cards.load import ProbeCard
from bench.core.progress import Silent
from bench.pipeline.plan import make_plan
from bench.pipeline.run import extract_features, prepare_encoder
from bench.probing import attentive
from bench.probing.attentive import AttentiveSweep
from bench.probing.loop import train_sweep
from bench.probing.pooled import LinearSweep, standardisation
from bench.probing.pooled import initial_weights as linear_weights
from bench.probing.scoring import choose, held_out_scores, log_probabilities
from bench.probing.source import NormalisedTokens, PooledTokens, Rows, stratified_split
from bench.tasks.options import make_options

LABELS = ("motion", "appearance")
BATCH = 64
Sweep = AttentiveSweep | LinearSweep
Source = NormalisedTokens | PooledTokens


class Task:
    """Tokens and labels of both splits, for one recipe."""

    def __init__(self, label: str, arguments: argparse.Namespace) -> None:
        options = {
            "task": "custom",
            "name": f"moving-signs-{label}",
            "axis": label,
            "data": arguments.data,
            "train": arguments.data / f"train_{label}.csv",
            "val": arguments.data / f"val_{label}.csv",
            "model": arguments.model,
            "probe": arguments.probe,
            "cache": arguments.cache,
            "workers": 0,
        }
        plan = make_plan(make_options(options))
        if plan.recipe.kind not in ("attentive", "linear") or plan.recipe.num_blocks > 1 or not plan.recipe.selection:
            raise SystemExit(f"{plan.recipe.name} is not a sweep of one-block attentive or linear probes")
        encoder = prepare_encoder(plan)
        train, test = extract_features(plan, encoder, Silent())
        self.recipe: ProbeCard = plan.recipe
        self.num_heads, self.num_classes = encoder.num_heads, len(plan.splits.class_names)
        self.train, self.test = (self._source(split.tokens) for split in (train, test))
        self.labels, self.truth = (np.array([s.label for s in split.samples]) for split in (train, test))

    def _source(self, tokens: Any) -> Source:
        if self.recipe.kind == "linear":
            return PooledTokens(tokens)
        return NormalisedTokens(tokens, eps=attentive.NORM_EPS)

    def trained(self, rows: Rows, seed: int) -> tuple[Sweep, list[bool]]:
        """All settings, trained on these rows; and which of them diverged."""
        recipe = self.recipe.optimisation
        if recipe is None:
            raise ValueError("nothing to train")
        sweep: Sweep
        if isinstance(self.train, PooledTokens):
            weights = linear_weights(self.train.embed_dim, self.num_classes, seed=seed)
            sweep = LinearSweep(weights, len(recipe.settings), *standardisation(self.train, rows))
        else:
            weights = attentive.initial_weights(self.train.embed_dim, self.num_classes, seed=seed)
            sweep = AttentiveSweep(weights, len(recipe.settings), self.num_heads, norm_eps=None)
        result = train_sweep(
            sweep, self.train, rows, self.labels, recipe, recipe.settings, seed=seed, progress=lambda done, total: None
        )
        return sweep, result.diverged

    def hits(self, sweep: Sweep) -> NDArray[np.int64]:
        """Outcomes of every setting on the test samples, [S, n]."""
        rows = np.arange(self.test.num_samples)
        found = np.concatenate(
            [
                log_p.argmax(dim=-1).numpy()
                for _, log_p in log_probabilities(sweep.logits, self.test, rows, device="cpu", batch_size=BATCH)
            ],
            axis=1,
        )
        return (found == self.truth).astype(np.int64)


def measure(task: Task, seed: int) -> dict[str, float]:
    """The three scores of one seed, in percent."""
    selection = task.recipe.selection
    if selection is None:
        raise ValueError("nothing to choose")
    rest, held_out = stratified_split(task.labels, selection.held_out, seed=seed)
    sweep, diverged = task.trained(rest, seed)
    with torch.no_grad():
        scores = held_out_scores(sweep.logits, task.train, held_out, task.labels, device="cpu", batch_size=BATCH)
    chosen = choose(diverged, *scores)
    final, failed = task.trained(np.arange(len(task.labels)), seed)
    hits = task.hits(final)
    hits[np.array(failed)] = 0
    halves = np.random.RandomState(seed).permutation(hits.shape[1])
    one, other = halves[: len(halves) // 2], halves[len(halves) // 2 :]
    best_half, transferred = [], []
    for mine, theirs in ((one, other), (other, one)):
        setting = int(hits[:, mine].mean(axis=1).argmax())
        best_half.append(float(hits[setting, mine].mean()))
        transferred.append(float(hits[setting, theirs].mean()))
    return {
        "held_out": 100 * float(hits[chosen].mean()),
        "best": 100 * float(hits.mean(axis=1).max()),
        "best_half": 100 * float(np.mean(best_half)),
        "transferred": 100 * float(np.mean(transferred)),
    }


def measured(path: Path) -> list[dict[str, Any]]:
    """The lines that are there; a last one that was cut off does not count."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A Markdown table: means over the seeds with their standard deviation."""
    yield "| label | model | probe | seeds | held out | best | best - held out | best half - transferred |"
    yield "|---" * 8 + "|"
    for key in sorted({(row["label"], row["model"], row["probe"]) for row in rows}):
        mine = [row for row in rows if (row["label"], row["model"], row["probe"]) == key]
        held_out, best, best_half, transferred = (
            np.array([row[name] for row in mine]) for name in ("held_out", "best", "best_half", "transferred")
        )
        cells = [f"{values.mean():.1f} ± {values.std():.1f}" for values in (held_out, best)]
        cells += [f"{gap.mean():+.2f} ± {gap.std():.2f}" for gap in (best - held_out, best_half - transferred)]
        yield f"| {' | '.join(map(str, (*key, len(mine), *cells)))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Optimism of choosing a probe setting on the test set.")
    parser.add_argument("--data", type=Path, required=True, help="Folder of moving_signs.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--model", default="vjepa-nano")
    parser.add_argument("--probe", default="linear", help="linear or sweep, or a card of that kind.")
    parser.add_argument("--out", type=Path, default=Path("optimism.jsonl"))
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    names = {"model": arguments.model, "probe": arguments.probe}
    known = {(row["label"], row["seed"], row["model"], row["probe"]) for row in measured(arguments.out)}
    for label in LABELS:
        left = [seed for seed in range(arguments.seeds) if (label, seed, *names.values()) not in known]
        task = Task(label, arguments) if left else None
        for seed in left if task else []:
            row = {"label": label, "seed": seed, **names, **measure(task, seed), "n": len(task.truth)}
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print("\n".join(tables(measured(arguments.out))))


if __name__ == "__main__":
    main()
