"""How much of a paper's figure is owed to its choice of a setting on the test split? One small list, part by part.

    python -m benchmarks.paper_choice --seeds 3

The four-block probe and the 20 settings of `vjepa2-paper`, on a random part of digits-motion: `--train` training clips,
`--test` clips that are the test split. The other clips of the official test split say what a probe is worth on clips
that nothing was chosen on. Four ways, each with one change from the last:

    normal start   last layer from N(0, 0.02) without biases, nine tenths of the clips, chosen on the last tenth
    held out       the last layer of torch.nn.Linear, as the official code has it: recipe `vjepa2`
    all clips      the same setting, trained on all training clips
    on test        all training clips, and the best setting on the test split: recipe `vjepa2-paper`

Shapes: S settings, n clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.progress import Silent
from bench.pipeline.plan import make_plan
from bench.pipeline.run import extract_features, prepare_encoder
from bench.probing.blocks import BlockSweep, initial_weights
from bench.probing.loop import train_sweep
from bench.probing.scoring import choose, held_out_scores, log_probabilities
from bench.probing.source import Rows, stratified_split
from bench.tasks.options import make_options

WAYS = ("normal start", "held out", "all clips", "on test")
BATCH = 64


class Case:
    """Tokens and labels of a small list, and the recipe."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        settings = {"probe.streaming": False, "probe.augmentation": "none"}
        settings |= {"probe.epochs": arguments.epochs, "probe.batch_size": arguments.batch_size}
        options = {"task": "digits-motion", "model": arguments.model, "probe": "vjepa2", "settings": settings}
        plan = make_plan(make_options({**options, "cache": arguments.cache}))
        assert plan.recipe.optimisation is not None and plan.recipe.hold_out is not None
        self.rules, self.hold_out = plan.recipe.optimisation, plan.recipe.hold_out
        self.num_blocks, self.num_classes = plan.recipe.num_blocks, len(plan.splits.class_names)
        encoder = prepare_encoder(plan)
        self.num_heads = encoder.num_heads
        train, test = extract_features(plan, encoder, Silent())
        self.train, self.test = train.tokens, test.tokens
        self.labels, self.truth = (np.array([s.label for s in split.samples]) for split in (train, test))
        draw = np.random.RandomState(0)
        self.listed = np.sort(draw.permutation(len(self.labels))[: arguments.train])
        tested = draw.permutation(len(self.truth))
        self.shown, self.unseen = np.sort(tested[: arguments.test]), np.sort(tested[arguments.test :])

    def trained(self, rows: Rows, seed: int, *, normal_start: bool = False) -> tuple[BlockSweep, list[bool]]:
        """All settings, trained on these rows; and which of them diverged."""
        weights = initial_weights(self.train.embed_dim, self.num_classes, self.num_blocks, seed=seed)
        if normal_start:
            draw = np.random.RandomState(seed).standard_normal(tuple(weights["linear.weight"].shape)) * 0.02
            weights["linear.weight"] = torch.from_numpy(draw.astype(np.float32))
            weights["linear.bias"] = torch.zeros(self.num_classes)
        sweep = BlockSweep(weights, len(self.rules.settings), self.num_heads)
        given = (sweep, self.train, rows, self.labels, self.rules, self.rules.settings)
        return sweep, train_sweep(*given, seed=seed, progress=lambda done, total: None).diverged

    def hits(self, sweep: BlockSweep, diverged: list[bool]) -> NDArray[np.bool_]:
        """Outcomes of every setting on all clips of the official test split, [S, n]; of diverged ones none."""
        rows = np.arange(len(self.truth))
        parts = log_probabilities(sweep.logits, self.test, rows, device="cpu", batch_size=BATCH)
        found = np.concatenate([log_p.argmax(dim=-1).numpy() for _, log_p in parts], axis=1) == self.truth
        return found & ~np.array(diverged)[:, None]


def measure(case: Case, seed: int) -> dict[str, tuple[float, float]]:
    """Of each way: its score on the test clips, and on the clips that nothing was chosen on, in percent."""
    rest, held_out = stratified_split(case.labels[case.listed], case.hold_out.held_out, seed=seed)
    rest, held_out = case.listed[rest], case.listed[held_out]
    found: dict[str, tuple[float, float]] = {}

    def note(way: str, hits: NDArray[np.bool_]) -> None:
        found[way] = 100 * float(hits[case.shown].mean()), 100 * float(hits[case.unseen].mean())

    chosen = 0
    for way in WAYS[:2]:
        sweep, diverged = case.trained(rest, seed, normal_start=way == "normal start")
        scores = held_out_scores(sweep.logits, case.train, held_out, case.labels, device="cpu", batch_size=BATCH)
        chosen = choose(diverged, *scores)
        note(way, case.hits(sweep, diverged)[chosen])
    hits = case.hits(*case.trained(case.listed, seed))
    note("all clips", hits[chosen])
    note("on test", hits[int(hits[:, case.shown].mean(axis=1).argmax())])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a choice on the test split, data and first weights are worth.")
    parser.add_argument("--model", default="vjepa-nano")
    parser.add_argument("--train", type=int, default=240)
    parser.add_argument("--test", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    case = Case(arguments := parser.parse_args())
    made = []
    for seed in range(arguments.seeds):
        made.append(measure(case, seed))
        print(seed, {way: [round(score, 1) for score in scores] for way, scores in made[-1].items()}, flush=True)
    print(f"| way | test clips, n = {len(case.shown)} | other clips, n = {len(case.unseen)} |\n|---|---|---|")
    for way in WAYS:
        shown, unseen = np.array([one[way] for one in made]).T
        cells = [f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})" for values in (shown, unseen)]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
