"""Trained probes are kept: the same training is read, any other is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cards.load import load_probe_card, override
from bench.probing import cache as memory
from bench.probing.cache import memory_key, remember
from bench.probing.objectives import OneLabel
from bench.probing.scoring import FittedProbe
from bench.probing.train import fit

FACTS = {"features": "a", "items": "b", "recipe": {"lr": 1}, "seed": 0}


class Source:
    """Random tokens of 20 samples."""

    num_samples, num_views, num_tokens, embed_dim = 20, 1, 4, 8

    def read(self, rows: np.ndarray, view: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(20, 4, 8, generator=generator)[torch.from_numpy(rows)]


def train(kind: str = "attentive") -> FittedProbe:
    settings: dict[str, Any] = {"neighbours": [1]} if kind == "knn" else {"min_steps": 3, "epochs": 1}
    card = override(load_probe_card(kind), "probe", settings)
    return fit(card, Source(), OneLabel(np.arange(20) % 2, 2), 2, seed=0)


@pytest.mark.parametrize("kind", ["attentive", "linear"])
def test_the_same_training_is_read(tmp_path: Path, kind: str) -> None:
    first, known = remember(tmp_path, FACTS, lambda: train(kind))
    again, known_again = remember(tmp_path, FACTS, lambda: pytest.fail("trained again"))
    assert (known, known_again) == (False, True)
    tokens = Source().read(np.arange(20), 0)
    assert torch.equal(first.probe(tokens), again.probe(tokens))
    assert (first.heads, first.chosen, first.steps) == (again.heads, again.chosen, again.steps)


def test_nearest_neighbours_are_not_kept(tmp_path: Path) -> None:
    assert not remember(tmp_path, FACTS, lambda: train("knn"))[1]
    assert not remember(tmp_path, FACTS, lambda: train("knn"))[1]


def test_a_damaged_file_is_trained_again(tmp_path: Path) -> None:
    remember(tmp_path, FACTS, train)
    for path in (tmp_path / "probes").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert not remember(tmp_path, FACTS, train)[1]
    assert remember(tmp_path, FACTS, train)[1]


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    remember(tmp_path, FACTS, train)
    path = next((tmp_path / "probes").iterdir())
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x80
    path.write_bytes(content)
    assert not remember(tmp_path, FACTS, train)[1]


@pytest.mark.parametrize("change", [{"features": "c"}, {"items": "c"}, {"recipe": {"lr": 2}}, {"seed": 1}])
def test_whatever_training_depends_on_is_in_the_key(change: dict[str, Any]) -> None:
    assert memory_key({**FACTS, **change}) != memory_key(FACTS)


def test_the_version_of_the_training_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory_key(FACTS)
    monkeypatch.setattr(memory, "TRAINING_VERSION", memory.TRAINING_VERSION + 1)
    assert memory_key(FACTS) != before
