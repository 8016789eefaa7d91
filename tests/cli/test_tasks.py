"""A card in full says what a user must know before a run."""

from __future__ import annotations

import pytest

from bench.cards.load import load_task, task_names
from bench.cli.tasks import task_lines

SAID = {
    ("in1k", "vjepa1-paper"): "1 setting, 20 epochs, batch 1024, lr 0.001, weight decay 0.001",
    ("in1k", "vjepa2"): "21 settings, 20 epochs, batch 1024, lr 0.0005 to 0.002, weight decay 0.0005 to 0.008",
    ("jester", "vjepa2-paper"): "3 settings, 100 epochs, batch 128, lr 0.0001 to 0.001, weight decay 0.8",
    ("coin", "vjepa2"): "20 settings, 20 epochs, batch 128, lr 0.0001 to 0.005, weight decay 0.01 to 0.8",
}


@pytest.mark.parametrize(("task", "recipe"), SAID)
def test_a_task_says_what_a_recipe_is_on_it(task: str, recipe: str) -> None:
    assert task_lines(load_task(task))[f"--probe {recipe}"] == SAID[task, recipe]


@pytest.mark.parametrize("task", task_names())
def test_a_task_says_nothing_of_recipes_that_are_as_on_their_cards(task: str) -> None:
    said = {line.removeprefix("--probe ") for line in task_lines(load_task(task)) if line.startswith("--probe ")}
    assert said == load_task(task).recipes.keys()
