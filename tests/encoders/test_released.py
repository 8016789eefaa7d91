"""The cards of the released encoders: each architecture is built, without weights, and is the published one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.encoders import vjepa
from bench.encoders.catalog import ModelCard, card_of_file, model_cards
from bench.encoders.families import card_config
from bench.encoders.untrained import vjepa_facts

V_JEPA = [card for card in model_cards() if card.family != "pixels"]
RELEASED = [card for card in V_JEPA if card.url]

# protocol.md 1.1, 1.3; the fixed positions of V-JEPA 1 are not counted. Of V-JEPA 2.1 rounded numbers are published.
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


def built(card: ModelCard, **changes: int) -> vjepa.VisionTransformer:
    """Shapes without values."""
    config = card_config(card)
    assert config and config.family == card.family
    with torch.device("meta"):
        return vjepa.VisionTransformer(replace(config, **changes)).to("meta")


# Width, blocks, hidden width of the MLP: protocol.md 1.1, 1.3, 1.4.
WIDTHS = {
    "vit_nano": (64, 3, 256),
    "vit_base": (768, 12, 3072),
    "vit_large": (1024, 24, 4096),
    "vit_huge": (1280, 32, 5120),
    "vit_giant_xformers": (1408, 40, 6144),
    "vit_gigantic_xformers": (1664, 48, 8192),
}


def counted(card: ModelCard) -> int:
    """The parameters of an architecture as its description tells them, without building it."""
    D, depth, hidden = WIDTHS[card.size or ""]
    norm, patch = 2 * D, 3 * (4 if card.size == "vit_nano" else 16) ** 2
    block = 2 * norm + (3 * D * D + 3 * D) + (D * D + D) + (D * hidden + hidden) + (hidden * D + D)
    count = 2 * patch * D + D + depth * block
    if card.family == "V-JEPA 2.1":  # the image embedding, two modality embeddings, a norm for each level
        return count + patch * D + D + 2 * D + 4 * norm
    return count + norm


@pytest.mark.parametrize("card", V_JEPA, ids=lambda card: card.name)
def test_the_architecture_has_the_parameters_of_the_card(card: ModelCard) -> None:
    model = built(card)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == counted(card) == PUBLISHED.get(card.name, count)
    assert card.parameters_m == pytest.approx(count / 1e6, abs=0.05)
    assert model.config.num_heads == HEADS[card.size or ""]


# Tokens t x h x w of a clip at the input that the weights were trained with: protocol.md 1.1, 3.5.
GRIDS = {(8, 16): (4, 4, 4), (16, 224): (8, 14, 14), (16, 384): (8, 24, 24), (64, 256): (32, 16, 16)}
GRIDS |= {(64, 384): (32, 24, 24)}


@pytest.mark.parametrize("card", V_JEPA, ids=lambda card: card.name)
def test_clips_and_images_give_as_many_tokens_as_their_authors_count(card: ModelCard) -> None:
    model, (t, h, w) = built(card, depth=4), GRIDS[card.num_frames, card.resolution]
    width = WIDTHS[card.size or ""][0]
    facts = vjepa_facts(card.name, model.config)
    assert facts.grid(card.num_frames, card.resolution, card.resolution) == (t, h, w) == model.config.native_grid
    clips = torch.empty(1, 3, card.num_frames, card.resolution, card.resolution, device="meta")
    assert model(clips).shape == (1, t * h * w, width)
    stills = facts.shown_frames(1)
    expected = 1 if card.family == "V-JEPA 2.1" else stills // 2
    assert model(clips[:, :, :stills]).shape == (1, expected * h * w, width)


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
