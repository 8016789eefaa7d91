"""Trained probes are kept under TRAINING_VERSION: a change of the code that changes them has to raise it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from probing.sources import ArraySource
from support import GOLDEN

from bench.cards.load import ProbeCard
from bench.metrics.iou import VOID
from bench.probing import fit
from bench.probing.actions import ActionClasses
from bench.probing.cache import TRAINING_VERSION
from bench.probing.objectives import ManyLabels, NextAction, Objective, OneLabel
from bench.probing.pixel_classes import PixelClasses

KNOWN = GOLDEN / "probe_training.json"
NUM_SAMPLES = 40
TOLERANCE = 1e-5
"""Of losses and of answers from 0 to 1. Other instructions of a processor sum float32 in other orders, which twenty
steps make 1e-7 of; AdamW with an epsilon of 1e-7 in place of 1e-8 makes 5e-5, a decay that is one step late 3e-4."""


def one_label(stream: np.random.RandomState) -> Objective:
    return OneLabel(stream.randint(0, 3, NUM_SAMPLES), 3)


def many_labels(stream: np.random.RandomState) -> Objective:
    labels = stream.randint(0, 2, (NUM_SAMPLES, 3))
    return ManyLabels(labels, tuple(f"v{row // 4}" for row in range(NUM_SAMPLES)))


def next_action(stream: np.random.RandomState) -> Objective:
    classes = ActionClasses(2, 2, ((0, 1), (1, 0), (1, 1)))
    videos = tuple(f"v{row // 4}" for row in range(NUM_SAMPLES))
    return NextAction(stream.randint(0, 3, NUM_SAMPLES), videos, classes)


class Stripes:
    """Masks of numbered images: five columns of classes, the first of which is void."""

    num_classes = 3

    def read_all(self, numbers: Sequence[int], side: int | None = None) -> Iterator[NDArray[np.int32]]:
        for number in numbers:
            columns = (number + np.arange(side or 10) // 2) % 3
            yield np.where(np.arange(side or 10) < 2, VOID, np.tile(columns, (side or 4, 1))).astype(np.int32)


def pixels(stream: np.random.RandomState, *, batch_norm: bool) -> Objective:
    names = tuple(map(str, range(NUM_SAMPLES)))
    return PixelClasses(np.arange(NUM_SAMPLES), Stripes(), (1, 5), 8, "own", batch_norm, names, names)


TRAININGS: dict[str, tuple[dict[str, Any], Callable[[np.random.RandomState], Objective]]] = {
    "attentive": ({"kind": "attentive"}, one_label),
    "blocks": ({"kind": "attentive", "num_blocks": 2}, one_label),
    "linear": ({"kind": "linear"}, one_label),
    "boxes": ({"kind": "attentive"}, many_labels),
    "linear boxes": ({"kind": "linear"}, many_labels),
    "actions": ({"kind": "attentive", "num_blocks": 2}, next_action),
    "masks": ({"kind": "linear", "masks": {"norm": "none"}}, partial(pixels, batch_norm=False)),
    "normalised masks": ({"kind": "linear", "masks": {"norm": "batch"}}, partial(pixels, batch_norm=True)),
}


def recipe(**changes: Any) -> ProbeCard:
    """With whatever a schedule may have; all in the card, so that no other recipe has a part in it."""
    optimisation = {
        "epochs": 3, "min_steps": 20, "batch_size": 12, "lr": [3e-3, 1e-2], "weight_decay": [0.4], "warmup_epochs": 1,
        "start_lr_ratio": 0.1, "final_lr": 1e-4, "final_weight_decay": 0.1, "clip_norm": 0.5,
    }  # fmt: skip
    fields = {"name": "golden", "title": "", "version": 1, "optimisation": optimisation}
    return ProbeCard.model_validate({**fields, "selection": {"held_out": 0.25, "refit": True}, **changes})


def trained(name: str) -> dict[str, Any]:
    """What a small training gives: the choice, how good each setting was and the answers of the probe.

    Trainings as small as these have one thread, however many there are.
    """
    changes, objective_of = TRAININGS[name]
    stream = np.random.RandomState(0)
    tokens = torch.from_numpy(stream.standard_normal((1, NUM_SAMPLES, 5, 12)).astype(np.float32))
    objective = objective_of(stream)
    fitted = fit(recipe(**changes), ArraySource(tokens), objective, 2, seed=3)
    if isinstance(objective, PixelClasses):  # the outputs are counts, which tell little
        answers = fitted.probe(tokens[0, :6]).softmax(dim=-1).numpy()
    else:
        answers = objective.outputs(fitted.probe, ArraySource(tokens[:, :6]), None, device="cpu")
    return {
        "chosen": fitted.chosen,
        "settings": [[head.accuracy, head.loss, head.train_loss] for head in fitted.heads],
        "answers": answers.astype(float).round(7).tolist(),
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_the_same_training_gives_the_same_probe_until_the_version_is_raised(name: str) -> None:
    known = json.loads(KNOWN.read_text())
    found = trained(name)
    advice = (
        f"trainings give other probes than they did under TRAINING_VERSION {known['version']}: raise it in "
        f"bench/probing/cache.py, and run `PYTHONPATH=tests python -m probing.test_training_version`"
    )
    assert known["version"] == TRAINING_VERSION, advice
    assert found["chosen"] == known[name]["chosen"], advice
    for part in ("settings", "answers"):
        assert np.allclose(found[part], known[name][part], rtol=0, atol=TOLERANCE), advice


if __name__ == "__main__":
    KNOWN.write_text(json.dumps({"version": TRAINING_VERSION, **{name: trained(name) for name in TRAININGS}}, indent=1))
