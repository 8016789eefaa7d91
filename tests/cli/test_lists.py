"""Encoders and tasks as they are listed for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, Run, assert_refused

from bench.cards.load import load_task, task_names
from bench.cli.lists import model_facts, model_rows, remarks, task_lines
from bench.encoders.catalog import ModelCard, model_cards

FACTS = {
    "name": "vjepa2-vitg-384",
    "title": "V-JEPA 2 ViT-g/16-384",
    "family": "V-JEPA 2",
    "size": "vit_giant_xformers",
    "num_frames": 64,
    "resolution": 384,
    "parameters_m": 1012.2,
    "pretrained_on": "VideoMix22M (SSv2, Kinetics, HowTo100M, YT-Temporal-1B, ImageNet), unlabelled",
    "licence": "MIT (on Hugging Face: Apache-2.0)",
    "file": "vitg-384.pt",
    "url": "https://example.org/vitg-384.pt",
}


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return ModelCard.model_validate(FACTS)


def test_a_row_tells_what_a_user_chooses_by(card: ModelCard) -> None:
    assert model_rows([card], 100) == [
        {
            "model": "vjepa2-vitg-384",
            "family": "V-JEPA 2",
            "size": "g",
            "input": "64x384px",
            "params": "1012 M",
            "pretrained on": "VideoMix22M¹",
            "licence": "MIT²",
            "weights": "to fetch",
        }
    ]
    assert remarks([card]) == [
        f"¹ {FACTS['pretrained_on']}",
        f"² {FACTS['licence']}",
        "to fetch: `bench fetch NAME` downloads the weights",
    ]


def test_a_narrow_row_tells_the_same(card: ModelCard) -> None:
    words = {word for cell in model_rows([card], 70)[0].values() for word in cell.split("\n")}
    assert words == set(model_rows([card], 100)[0].values())


def test_weights_are_seen_where_the_suite_looks_for_them(card: ModelCard) -> None:
    assert card.weights_path
    card.weights_path.parent.mkdir()
    card.weights_path.touch()
    assert model_rows([card], 100)[0]["weights"] == "here" == model_facts(card)["weights"]
    assert len(remarks([card])) == 2


def test_json_holds_every_fact(card: ModelCard) -> None:
    facts = model_facts(card)
    assert FACTS.items() <= facts.items() and facts["weights_path"] == str(card.weights_path)


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_table_fits_and_breaks_no_name_and_starts_without_torch(columns: int) -> None:
    command = [sys.executable, "-m", "bench", "models"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPROFILEIMPORTTIME": "1", "COLUMNS": str(columns)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and max(map(len, lines)) <= columns and "\x1b" not in done.stdout
    names = [card.name for card in model_cards()]
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in names] == names
    assert " torch\n" not in done.stderr and " bench.encoders.catalog\n" in done.stderr


def test_every_listed_weights_file_can_be_had(bench_command: Run) -> None:
    told = json.loads(bench_command("models", "--json").stdout)
    assert [card["name"] for card in told] == [card.name for card in model_cards()]
    assert {card["weights"] for card in told} <= {"built in", "to fetch"}
    assert all(card["size"] for card in told if card["family"].startswith("V-JEPA"))


@pytest.fixture
def her_package(tmp_path: Path) -> Path:
    """A folder with an installed package that offers two encoders and must not be imported."""
    information = tmp_path / "site" / "her_package-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: her-package\nVersion: 1.0\n")
    points = "her-vit10 = her_module:large\nher-vit2 = her_module:small\n"
    (information / "entry_points.txt").write_text(f"[bench.encoders]\n{points}")
    (information.parent / "her_module.py").write_text("raise SystemExit('imported')\n")
    return information.parent


def listed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, "-m", "bench", "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_encoders_of_installed_packages_are_listed_and_not_imported(her_package: Path) -> None:
    done = listed(her_package)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("her-")]
    assert done.returncode == 0 and " torch\n" not in done.stderr
    assert lines == [
        ["her-vit2", "her-package", "her_module:small"],
        ["her-vit10", "her-package", "her_module:large"],
    ]
    assert "vjepa-vitl16" in done.stdout


def test_a_pattern_holds_for_them_too(her_package: Path) -> None:
    told = json.loads(listed(her_package, "her-*2", "--json").stdout)
    assert [(encoder["name"], encoder["package"], encoder["weights"]) for encoder in told] == [
        ("her-vit2", "her-package", "its package's")
    ]
    assert listed(her_package, "her-vit2").stdout.split()[:3] == ["model", "package", "function"]
    assert "did you mean 'her-vit2'" in listed(her_package, "her-vt2").stderr


def test_a_pattern_that_matches_nothing_is_an_error(bench_command: Run) -> None:
    assert_refused(bench_command("models", "vjepa-nanno"), "no encoder is called", "did you mean 'vjepa-nano'")


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
