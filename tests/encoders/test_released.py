"""The cards of the released encoders: each architecture is built, without weights, and is the published one."""

from __future__ import annotations

import pytest
import torch

from bench.encoders import vjepa
from bench.encoders.catalog import ModelCard, card_of_file, model_cards
from bench.encoders.families import card_config

V_JEPA = [card for card in model_cards() if card.family != "pixels"]
RELEASED = [card for card in V_JEPA if card.url]

# protocol.md 1.1, 1.3; the fixed positions of V-JEPA 1 are not counted.
PUBLISHED = {
    "vjepa-vitl16": 303_885_312,
    "vjepa-vith16": 631_648_000,
    "vjepa-vith16-384": 631_648_000,
    "vjepa2-vitl-256": 303_885_312,
    "vjepa2-vith-256": 631_648_000,
    "vjepa2-vitg-256": 1_012_173_952,
    "vjepa2-vitg-384": 1_012_173_952,
    "vjepa2-ac-vitg-256": 1_012_173_952,
}
HEADS = {"vit_nano": 4, "vit_base": 12, "vit_large": 16, "vit_huge": 16}
HEADS |= {"vit_giant_xformers": 22, "vit_gigantic_xformers": 26}


def built(card: ModelCard) -> vjepa.VisionTransformer:
    config = card_config(card)
    assert config and config.family == card.family
    with torch.device("meta"):
        return vjepa.VisionTransformer(config)


@pytest.mark.parametrize("card", V_JEPA, ids=lambda card: card.name)
def test_the_architecture_has_the_parameters_of_the_card(card: ModelCard) -> None:
    model = built(card)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert card.parameters_m == pytest.approx(count / 1e6, abs=0.05)
    assert count == PUBLISHED.get(card.name, count)
    assert model.config.num_heads == HEADS[card.size or ""]


@pytest.mark.parametrize("card", RELEASED, ids=lambda card: card.name)
def test_the_input_divides_into_patches(card: ModelCard) -> None:
    config = card_config(card)
    assert config
    t, h, w = config.native_grid
    assert (t * 2, h * 16, w * 16) == (card.num_frames, card.resolution, card.resolution)
    assert (card.num_frames, card.resolution) in {(16, 224), (16, 384), (64, 256), (64, 384)}


def test_every_published_name_has_a_card() -> None:
    assert PUBLISHED.keys() <= {card.name for card in RELEASED}
    assert [card.name for card in model_cards("vjepa2.1-*")] == [
        "vjepa2.1-vitb-384",
        "vjepa2.1-vitg-384",
        "vjepa2.1-vitgigantic-384",
        "vjepa2.1-vitl-384",
    ]


def test_files_have_names_of_their_own_where_names_have_no_case() -> None:
    files = [card.file.lower() for card in RELEASED if card.file]
    assert len(files) == len(set(files)) == len(RELEASED)
    for card in RELEASED:
        assert card.url and card_of_file(card.url.rpartition("/")[2]) == card == card_of_file(card.file or "")


def test_the_key_of_each_file_is_that_of_its_authors() -> None:
    keys = {card.name: card.key for card in RELEASED}
    assert {keys.pop(f"vjepa2.1-vit{size}-384") for size in "bl"} == {"ema_encoder"}
    assert keys.pop("vjepa2-ac-vitg-256") == "encoder"
    assert set(keys.values()) == {"target_encoder"}
