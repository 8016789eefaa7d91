"""Named encoders: what export writes, and whether the weights in the package are what their cards say."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from bench.core.errors import BenchError
from bench.core.progress import Silent
from bench.encoders import load_encoder
from bench.encoders.catalog import ModelCard, model_cards
from bench.pretrain import load_state
from bench.pretrain.export import export
from bench.pretrain.plan import make_options, make_plan
from bench.pretrain.presets import load_preset
from bench.pretrain.train import pretrain, train

pytestmark = pytest.mark.slow

TINY = {"epochs": 2, "steps_per_epoch": 2, "global_batch": 8, "micro_batch": 8}
TRAINED_HERE = [card for card in model_cards() if card.training]


def test_an_exported_run_is_an_encoder_with_a_card(tmp_path: Path) -> None:
    pretrain(preset="demo", out=tmp_path / "run", device="cpu", settings=TINY)
    card_path = export(
        tmp_path / "run", name="mine", title="Mine", command="bench pretrain ...", pretrained_on="digits", to=tmp_path
    )
    card = ModelCard.model_validate(yaml.safe_load(card_path.read_text()))
    assert card.training is not None
    assert (card.training.steps, card.training.samples, card.training.seed) == (4, 32, 0)
    assert [samples for samples, _ in card.training.loss_curve] == [16, 32]
    encoder = load_encoder(str(tmp_path / "mine.safetensors"))
    assert (encoder.num_heads, encoder.input_spec.frame_step) == (4, 2)
    clips = torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    trained = load_state(tmp_path / "run" / "latest.pth.tar").target_encoder(clips)
    assert (encoder(clips) - trained).abs().max() < 0.02  # half precision keeps three digits


def test_only_a_run_can_be_exported(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such checkpoint file"):
        export(tmp_path, name="a", title="A", command="", pretrained_on="", to=tmp_path)


def test_four_encoders_ship_with_the_package_one_for_each_objective() -> None:
    names = {card.name: card.training.objective for card in TRAINED_HERE if card.training}
    assert names == {
        "vjepa-nano": "features",
        "pixel-nano": "pixels",
        "contrast-nano": "contrast",
        "slow-nano": "slow",
    }


@pytest.mark.parametrize("card", TRAINED_HERE, ids=lambda card: card.name)
def test_shipped_weights_are_small_and_of_the_shipped_preset(card: ModelCard) -> None:
    assert card.training is not None
    assert card.weights_path is not None
    assert card.weights_path.stat().st_size <= 3_000_000
    recipe = load_preset(card.training.preset).optimisation
    assert (card.training.steps, card.training.samples) == (recipe.steps, recipe.steps * recipe.global_batch)
    assert card.training.seed == load_preset(card.training.preset).seed
    assert shlex.split(card.training.command)[:4] == ["bench", "pretrain", "--preset", card.training.preset]
    assert load_encoder(card.name).name == card.name


class _EndOfEpoch(Exception):  # noqa: N818 - not an error
    pass


class _StopAfterOneEpoch(Silent):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        if done > self.steps:
            raise _EndOfEpoch


@pytest.mark.parametrize("card", TRAINED_HERE, ids=lambda card: card.name)
def test_the_command_of_shipped_weights_reproduces_the_start_of_their_loss_curve(
    card: ModelCard, tmp_path: Path
) -> None:
    """The first epoch of each, to 1 %; the whole curve takes as long as the training did."""
    assert card.training is not None
    words = shlex.split(card.training.command)
    settings = dict(words[i + 1].split("=") for i, word in enumerate(words) if word == "--set")
    preset = words[words.index("--preset") + 1]
    plan = make_plan(make_options({"preset": preset, "out": tmp_path / "run", "device": "cpu", "settings": settings}))
    with pytest.raises(_EndOfEpoch):
        train(plan, _StopAfterOneEpoch(plan.preset.optimisation.steps_per_epoch))
    content = torch.load(tmp_path / "run" / "latest.pth.tar", weights_only=True)
    samples, loss = card.training.loss_curve[0]
    assert content["bench"]["samples"] == samples
    assert content["loss"] == pytest.approx(loss, rel=0.01)
