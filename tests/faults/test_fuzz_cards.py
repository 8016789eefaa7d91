"""Damaged cards, recipes, presets and settings: one line that names the fault, or a card that can be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import Edit, edited, edits, fuzz
from hypothesis import strategies as st

from bench.cards.load import load_probe_card, load_task
from bench.cli.options import parse_settings
from bench.pretrain.presets import load_preset

ROOT = Path(__file__).parents[2]
KINDS: dict[str, tuple[Callable[[str], Any], list[Path]]] = {
    "task": (load_task, [ROOT / "datasets" / f"{name}.yaml" for name in ("custom", "ucf101", "digits-motion", "coin")]),
    "recipe": (load_probe_card, sorted((ROOT / "probes").glob("*.yaml"))),
    "preset": (load_preset, sorted((ROOT / "bench" / "pretrain").rglob("*.yaml"))[:4]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_card_is_named_or_stays_a_card(tmp_path: Path, long: bool, kind: str) -> None:
    load, paths = KINDS[kind]
    assert paths
    mine = tmp_path / "mine.yaml"

    def check(value: tuple[Path, list[Edit]]) -> None:
        mine.write_bytes(edited(value[0].read_bytes(), value[1]))
        card = load(str(mine))
        assert type(card).model_validate(card.model_dump()) == card

    fuzz(st.tuples(st.sampled_from(paths), edits), check, examples=500 if long else 30)


def test_settings_on_the_command_line_are_read_or_refused(long: bool) -> None:
    def check(changes: list[Edit]) -> None:
        parse_settings([edited(b"probe.lr=[0.1, 1e-3]", changes).decode(errors="replace")])

    fuzz(edits, check, examples=500 if long else 40)


def test_a_yaml_bomb_is_refused_in_no_time_and_no_space(tmp_path: Path) -> None:
    """Nine levels of nine references each stand for 400 million names."""
    levels = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    bomb = tmp_path / "bomb.yaml"
    for field in ("classes", "title", "clip", "references"):
        bomb.write_text("\n".join([*levels, f"name: bomb\n{field}: *a8\n"]))
        fuzz(st.just(str(bomb)), lambda path: pytest.fail(str(load_task(path))), examples=1)
