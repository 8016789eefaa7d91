"""`kill -9` at random points: the same command again gives what an undisturbed run gives, byte for byte."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from fault_lab import LINEAR, Bench, CountSteps, KillAt

STAGES = ("extraction", "training", "recording")
RECIPES = {
    "linear": LINEAR,
    "streaming": ("--probe", "vjepa1-paper", "--set", "probe.epochs=2", "--set", "probe.min_steps=1", "--seed", "3"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_killed_run_is_made_good_by_the_same_command(
    clips: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, long: bool, recipe: str
) -> None:
    alone = Bench(clips, tmp_path / "alone")
    steps = tmp_path_factory.mktemp("steps")
    record = alone.run(*RECIPES[recipe], fault=CountSteps(STAGES, steps)).record
    wanted = alone.predictions(record)
    rng = random.Random(recipe)
    for number in range(10 if long else 3):
        stage = STAGES[number % 3]
        place = rng.randint(1, int((steps / stage).read_text()))
        bench = Bench(clips, tmp_path / str(number))
        killed = bench.run(*RECIPES[recipe], fault=KillAt(stage, place))
        assert killed.code == -9 and not bench.results, f"{stage}, step {place}: {killed.err}"
        again = bench.run(*RECIPES[recipe]).record
        assert bench.predictions(again) == wanted, f"after kill -9 in {stage} at step {place}"
        assert len(bench.results) == 1 and counts(again) == counts(record)


def counts(record: dict[str, Any]) -> list[Any]:
    return [record["scores"], record["failures"], record["num_train"], record["digests"], record["heads"]]
