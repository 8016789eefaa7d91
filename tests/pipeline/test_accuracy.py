"""The suite's own regression gate: bundled encoders on the digits keep the accuracy of results/baseline-digits.json.

A deliberate change of scores is committed with a new baseline; docs/statistics.md has the two commands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import ROOT, Run
from torch import Tensor

import bench
from bench.pipeline import run as evaluation
from bench.video import views

pytestmark = pytest.mark.slow

MODELS, TASKS = ("vjepa-nano", "pixel-nano"), ("digits-motion", "digits-appearance")
RECIPE = {"probe": "linear", "settings": {"probe.lr": 0.03, "probe.weight_decay": 0.01}}
BASELINE = ROOT / "results" / "baseline-digits.json"


def measure(clips: Path, folder: Path, models: Sequence[str] = MODELS, tasks: Sequence[str] = TASKS) -> Path:
    """Run in a cache of its own that shares the clips; the folder of the records."""
    (folder / "cache").mkdir()
    (folder / "cache" / "digits").symlink_to(clips, target_is_directory=True)
    for model in models:
        for task in tasks:
            options = {"model": model, "task": task, "workers": 0, "device": "cpu", **RECIPE}
            bench.evaluate(**options, cache=folder / "cache", results=folder / "results")
    return folder / "results"


def test_accuracy_is_that_of_the_baseline(bench_command: Run, digit_clips: Path, tmp_path: Path) -> None:
    results = measure(digit_clips, tmp_path)
    done = bench_command("check", "--baseline", BASELINE, "--results", results, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], len(found["tasks"])) == ("pass", len(MODELS) * len(TASKS))


def _without_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    normalise = views.normalise
    monkeypatch.setattr(views, "normalise", lambda clips, mean, std: normalise(clips, (0, 0, 0), (1, 1, 1)))


def _test_clips_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    # Training clips played backwards too would only swap the labels: a trained probe would not mind.
    normalise, extract_split = views.normalise, evaluation.extract_split

    def backwards(clips: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        return normalise(clips, mean, std).flip(2)

    def split(plan: object, name: str, *rest: object) -> object:
        with monkeypatch.context() as fault:
            fault.setattr(views, "normalise", backwards if name == "test" else normalise)
            return extract_split(plan, name, *rest)

    monkeypatch.setattr(evaluation, "extract_split", split)


@pytest.mark.parametrize("inject", [_without_normalisation, _test_clips_backwards], ids=["normalisation", "time"])
def test_the_gate_sees_a_fault(bench_command: Run, digit_clips, tmp_path, monkeypatch, inject) -> None:
    inject(monkeypatch)
    results = measure(digit_clips, tmp_path, models=("pixel-nano",), tasks=("digits-motion",))
    done = bench_command("check", "--baseline", BASELINE, "--results", results, "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    fallen = [row for row in json.loads(done.stdout)["tasks"] if row["status"] == "regression"]
    assert [(row["model"], row["task"]) for row in fallen] == [("pixel-nano", "digits-motion")]
