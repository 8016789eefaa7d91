"""The loop that the suite's speed is measured against is the official one, and ends where the suite ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import GOLDEN

import bench
from bench.cards.load import Optimisation
from bench.encoders.checkpoints import load_vjepa
from bench.encoders.families import Stated
from bench.pipeline.plan import RunPlan, make_plan
from bench.probing import load_probe
from bench.probing.loop import Plan
from bench.tasks.options import make_options
from benchmarks import official_loop, whole_evaluation
from benchmarks.official_loop import Clock, FusedHeads, ModuleHeads
from benchmarks.ratios import ratio_of

pytestmark = pytest.mark.slow

HEADS = pytest.mark.parametrize("make_heads", [ModuleHeads, FusedHeads])
EPOCHS = 3


def golden_heads(make_heads: type[ModuleHeads] | type[FusedHeads], learning_rates: list[float]) -> Any:
    recipe = Optimisation.model_validate(
        {"epochs": 12, "batch_size": 4, "lr": learning_rates, "weight_decay": [0.01], "final_weight_decay": 1e-6}
        | {"start_lr_ratio": 0.2, "warmup_epochs": 3, "final_lr": 1e-6, "clip_norm": 1.0}
    )
    initial = load_probe(GOLDEN / "vjepa1_probe.pth.tar", num_heads=2).heads[0].state_dict()
    return make_heads(initial, 2, recipe, Plan(batch_size=4, steps_per_epoch=1, epochs=12))


@HEADS
def test_each_head_trains_as_the_official_code_does(make_heads: Any) -> None:
    golden = np.load(GOLDEN / "vjepa1_probe_training.npz")
    heads = golden_heads(make_heads, [3e-3, 1e-3])
    tokens, labels = torch.from_numpy(golden["tokens"]), torch.from_numpy(golden["labels"])
    losses = np.array([heads.step(tokens, labels).tolist() for _ in golden["losses"]])
    assert np.abs(losses[:, 1] - golden["losses"]).max() < 1e-6
    assert np.abs(losses[:, 0] - losses[:, 1]).max() > 1e-3


@HEADS
def test_views_are_averaged_as_the_official_code_does(make_heads: Any) -> None:
    golden = np.load(GOLDEN / "vjepa1_probe.npz")
    encoder, _ = load_vjepa(GOLDEN / "vjepa1.pth.tar", stated=Stated(num_heads=2))
    clips = torch.from_numpy(golden["clips_i8"]).float() / 32.0  # [segments, views, B, 3, T, H, W]
    with torch.no_grad():
        views = [torch.cat([encoder(segment) for segment in clips[:, view]], dim=1) for view in range(clips.shape[1])]
    heads = golden_heads(make_heads, [1e-3])
    probabilities = torch.stack([heads.probabilities(tokens)[0] for tokens in views]).mean(0)
    assert np.abs(probabilities.numpy() - golden["probabilities"]).max() < 1e-6
    best = torch.from_numpy(golden["probabilities"]).argmax(1)
    for answers, right in ((best, 100), (torch.stack([best[0], best[1] + 1]), 50)):
        shown = iter([(np.array([row]), [view[row : row + 1] for view in views]) for row in (1, 0)])
        assert official_loop._test(heads, shown, answers, Clock()) == [right]


def plan_of(data: Path, folder: Path, **settings: Any) -> tuple[RunPlan, dict[str, Any]]:
    """One setting on videos, in three views of two segments."""
    settings = {"epochs": EPOCHS, "batch_size": 10, "streaming": False, "augmentation": "none"} | settings
    given = {f"probe.{name}": value for name, value in settings.items()} | {"clip.segments": 2, "clip.views": 3}
    options = {"task": "custom", "name": "brightness", "axis": "appearance", "probe": "vjepa1-paper", "workers": 0}
    options |= {"data": data, "cache": folder / "cache", "results": folder / "results", "settings": given}
    return make_plan(make_options(options)), options


def test_the_loop_ends_where_bench_run_ends(bright_and_dark: Path, tmp_path: Path) -> None:
    plan, options = plan_of(bright_and_dark, tmp_path)
    result = official_loop.official_loop(plan, Clock(), ModuleHeads)
    record = bench.evaluate(**options)
    sizes = np.array([10, 10, 4])
    (loss,) = np.array(result.losses).reshape(EPOCHS, len(sizes), -1)[-1].T @ sizes / sizes.sum()
    # The cache holds tokens in half precision.
    assert record.heads[0].train_loss == pytest.approx(loss, rel=1e-3)
    assert record.scores[0].value == pytest.approx(result.official)


def test_the_loop_encodes_everything_in_every_epoch(
    bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []
    encode = official_loop._encode

    def counting(encoder: Any, pixels: torch.Tensor, items: Any, clips: Any) -> Any:
        seen.extend((item.draw, item.path) for item in items)
        return encode(encoder, pixels, items, clips)

    monkeypatch.setattr(official_loop, "_encode", counting)
    plan, _ = plan_of(bright_and_dark, tmp_path, augmentation="official")
    result = official_loop.official_loop(plan, Clock(), FusedHeads)
    train = [(draw, Path(path).name) for draw, path in seen if "train_" in path]
    assert sorted(train) == sorted((epoch, f"train_{i}.mp4") for epoch in range(EPOCHS) for i in range(24))
    assert len(seen) - len(train) == EPOCHS * 12
    assert len(result.accuracies) == EPOCHS


def test_the_clock_gives_a_part_its_own_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 4.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(official_loop.time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock.part("outer"), clock.part("inner"):
        pass
    with clock.part("outer"):
        pass
    assert clock.seconds == {"outer": 3 + 5, "inner": 3}


def test_all_sides_are_measured_by_part(bright_and_dark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"data": bright_and_dark}
    case = whole_evaluation.Case(model="random", task="custom", limit=None, epochs=1, files=files)
    runs = whole_evaluation.measure(case, 1, warm=False)
    assert [run.side for run in runs] == [whole_evaluation.OURS, whole_evaluation.LOOP, whole_evaluation.FUSED]
    for run in runs:
        assert sum(run.parts.values()) == pytest.approx(run.seconds)
        assert all(seconds > 0 for seconds in run.parts.values())
    first, second = whole_evaluation.ratios_of(case, runs)
    assert first.ratio == ratio_of("", "", [runs[1].seconds], [runs[0].seconds]).ratio
    assert f"{runs[1].accuracy:.1f} % at its best" in first.reference and second.runs == 1
