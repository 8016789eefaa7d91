"""Presets: the shipped ones hold the papers' settings, and every mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from bench.core.errors import BenchError
from bench.encoders.vjepa import VisionTransformer
from bench.pretrain.plan import check_masks
from bench.pretrain.presets import difference, load_preset, override, preset_names
from bench.pretrain.state import build_head, encoder_config, head_config
from bench.pretrain.step import learning_rate_at, momentum_at, weight_decay_at

PAPER = ("vitl16", "vith16", "vith16-384")


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_builds_its_networks_and_masks(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    encoder = encoder_config(preset)
    assert head_config(preset, encoder).encoder_dim == encoder.embed_dim
    check_masks(preset, encoder)


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_follow_the_official_schedules(name: str) -> None:
    """protocol.md 7.1: the values at the start, after the warm-up, and where training stops at 1/1.25 of the cosine."""
    recipe = load_preset(name).optimisation
    assert recipe.steps == 90_000
    assert learning_rate_at(recipe, 0) == 2e-4
    assert learning_rate_at(recipe, 12_000) == 6.25e-4
    assert learning_rate_at(recipe, 90_000) == pytest.approx(7.5e-5, rel=0.01)
    assert weight_decay_at(recipe, 0) == pytest.approx(0.04)
    assert weight_decay_at(recipe, 90_000) == pytest.approx(0.366, abs=5e-4)
    assert momentum_at(recipe, 0) == 0.998
    assert momentum_at(recipe, 90_000) == pytest.approx(0.9996)


@pytest.mark.parametrize(
    ("name", "encoder_total", "encoder_trained", "predictor_total", "predictor_trained"),
    [
        ("vitl16", 305_490_944, 303_885_312, 22_685_056, 22_082_944),
        ("vith16", 633_655_040, 631_648_000, 22_881_920, 22_279_808),
        ("vith16-384", 637_546_240, 631_648_000, 24_049_280, 22_279_808),
    ],
)
def test_paper_presets_have_the_official_sizes(
    name: str, encoder_total: int, encoder_trained: int, predictor_total: int, predictor_trained: int
) -> None:
    """protocol.md 1.1: every parameter, and those that are trained; built without their memory."""
    preset = load_preset(name)
    with torch.device("meta"):
        config = encoder_config(preset)
        networks = VisionTransformer(config), build_head(head_config(preset, config))
    counts = [
        [p.numel() for p in network.parameters() if not only or p.requires_grad]
        for network in networks
        for only in (False, True)
    ]
    assert [sum(part) for part in counts] == [encoder_total, encoder_trained, predictor_total, predictor_trained]


def test_paper_presets_differ_in_size_resolution_and_batch_only() -> None:
    one, two, three = (load_preset(name) for name in PAPER)
    assert difference(one, two) == ["encoder.size", "name", "title"]
    batch = ["optimisation.global_batch", "optimisation.micro_batch"]
    assert difference(two, three) == ["encoder.resolution", "name", *batch, "title"]
    assert (one.optimisation.global_batch, three.optimisation.global_batch) == (3072, 2400)


def test_constant_schedule_warms_up_stays_and_decays_in_a_line() -> None:
    changes = {"schedule": "constant", "decay_epochs": 10, "warmup_epochs": 10, "epochs": 100, "steps_per_epoch": 10}
    recipe = override(load_preset("vitl16"), {**changes, "final_lr": 0.0}).optimisation
    assert learning_rate_at(recipe, 50) == pytest.approx((2e-4 + 6.25e-4) / 2)
    assert learning_rate_at(recipe, 100) == learning_rate_at(recipe, 900) == 6.25e-4
    assert learning_rate_at(recipe, 950) == pytest.approx(6.25e-4 / 2)
    assert learning_rate_at(recipe, 1000) == pytest.approx(0.0)


def test_a_setting_is_named_by_section_or_alone() -> None:
    preset = load_preset("demo")
    changed = override(preset, {"optimisation.lr": 1e-4, "ema": 0.9, "augmentation.flip": 0.25, "objective": "slow"})
    assert (changed.optimisation.lr, changed.optimisation.ema) == (1e-4, 0.9)
    assert (changed.data.augmentation.flip, changed.objective) == (0.25, "slow")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lrr": 1}, "no setting 'lrr' - did you mean 'lr'"),
        ({"lr": -1.0}, "optimisation.lr: "),
        ({"lr": True}, "optimisation.lr: "),
        ({"objective": "autoencoder"}, "objective: "),
        ({"micro_batch": 7}, "global_batch 32 is not a multiple of micro_batch 7"),
        ({"objective": "slow", "micro_batch": 2}, "at least 4"),
        ({"objective": "contrast", "micro_batch": 1}, "even"),
        ({"masks": []}, "masks: "),
        ({"masks": [{"num_blocks": 1, "spatial_scale": [0.5, 0.2]}]}, "spatial_scale: [0.5, 0.2] is no range"),
        ({"masks": [{"num_blocks": 1, "blocks": 1}]}, "unknown key 'masks.0.blocks'"),
        ({"name": "other"}, "no setting 'name'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BenchError) as caught:
        override(load_preset("demo"), settings)
    assert words in str(caught.value)


def test_a_preset_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    content = load_preset("demo").model_dump(mode="json")
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, "name": "mine"}))
    assert load_preset(str(path)).name == "mine"
    path.write_text(yaml.safe_dump({**content, "extra": 1}))
    with pytest.raises(BenchError, match=r"mine\.yaml: unknown key 'extra'"):
        load_preset(str(path))
    path.write_text("a: [")
    with pytest.raises(BenchError, match="not a YAML file"):
        load_preset(str(path))
    with pytest.raises(BenchError, match="unknown preset 'vitl'"):
        load_preset("vitl")
    with pytest.raises(BenchError, match="cannot be read"):
        load_preset(str(tmp_path / "none.yaml"))
