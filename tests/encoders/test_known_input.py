"""The known-input digest: the same where only rounding differs, another where the tokens do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.encoders import Encoder, InputSpec, known_clips, load_encoder, vjepa
from bench.encoders.catalog import ModelCard, model_cards
from bench.encoders.families import card_config
from bench.encoders.known_input import known_digest, known_numbers
from bench.encoders.untrained import vjepa_facts

pytestmark = pytest.mark.slow

# The same on every machine: weights are files or a frozen stream, and no number lies within 1e-4 of a rounding edge.
DIGESTS = {
    "contrast-nano": "aac8b1e13871dc6e",
    "pixel-nano": "eab374dd60f10c34",
    "pixels": "adf1625b50760ea1",
    "random": "714e13c0468f12cb",
    "slow-nano": "fe9ebff1f8acc2d5",
    "vjepa2-ac-vitg-256": "27188ea422100116",
    "vjepa2-vitg-256": "27188ea422100116",
    "vjepa2-vitg-384": "27188ea422100116",
    "vjepa2-vith-256": "0663507c2f8d3b14",
    "vjepa2-vitl-256": "03753d5f3f9debda",
    "vjepa2.1-vitb-384": "b5f943d78320c8d6",
    "vjepa2.1-vitg-384": "015f9e4e18f5521e",
    "vjepa2.1-vitgigantic-384": "ba23b2b431be1a86",
    "vjepa2.1-vitl-384": "5e7c577c6ca675ac",
    "vjepa-nano": "0bea52e160b2db43",
    "vjepa-vith16": "1c3cb378bf7a6a08",
    "vjepa-vith16-384": "46657c78a7104811",
    "vjepa-vitl16": "661961fa967e2159",
}
SAME = 1e-4
"""Largest move of a number that is hashed by another batch or other threads, which add in another order: as `bench
doctor --model` allows. It moves no number over an edge here, so the digest must be the same."""
HALF = {"bf16": 0.05, "fp16": 0.01}
"""The same of half precision, whose tokens are off by some 0.5 % (8 bits) and 0.07 % (11 bits) of their deviation. The
digest may be another one: numbers are rounded to 0.1."""


def shrunk(card: ModelCard) -> Encoder:
    """The encoder of a card with all its settings, but few blocks that share their weights, which are those of a frozen
    stream: the largest would take 7 GB. Four levels of V-JEPA 2.1 need four blocks."""
    config = card_config(card)
    assert config
    config = replace(config, depth=4 if config.multilevel else 1)
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config)
    for index in range(1, config.depth):
        model.blocks[index] = model.blocks[0]
    model.to_empty(device="cpu")
    if not config.use_rope:
        model.pos_embed.copy_(vjepa.sincos_positions(config.embed_dim, config.native_grid))
    stream = torch.from_numpy(np.random.RandomState(0).standard_normal(1_000_003)).float()
    start = 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "pos_embed":
                continue
            count = parameter.numel()
            start += count
            values = stream.roll(start).repeat(-(-count // len(stream)))[:count].view(parameter.shape)
            # Linear weights as the official initialisation's; everything else off the 0 and 1 that would hide it.
            parameter.copy_(0.02 * values if parameter.ndim in (2, 5) else 0.1 * values + name.endswith("weight"))
    return Encoder(vjepa_facts(card.name, config), model)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("card", model_cards(), ids=lambda card: card.name)
def test_every_encoder_of_the_catalog_has_one_whatever_batch_threads_and_type(card: ModelCard) -> None:
    encoder = load_encoder(card.name) if card.is_built_in else shrunk(card)
    clips = known_clips(encoder.input_spec if card.is_built_in else InputSpec(num_frames=4, resolution=48))
    tokens = encoder(clips)
    assert tokens.shape == (2, encoder.facts.num_tokens(*clips.shape[2:]), encoder.embed_dim)
    assert known_digest(tokens) == DIGESTS[card.name]

    def moved(others: Tensor) -> float:
        return max(abs(a - b) for a, b in zip(known_numbers(tokens), known_numbers(others), strict=True))

    torch.set_num_threads(2)
    alone = torch.cat([encoder(clip[None]) for clip in clips])
    assert known_digest(alone) == known_digest(tokens) and moved(alone) < SAME
    torch.set_num_threads(1)
    bf16, fp16 = (encoder.to("cpu", precision)(clips) for precision in ("bf16", "fp16"))
    assert moved(bf16) < HALF["bf16"] and moved(fp16) < HALF["fp16"]
    assert card.name == "pixels" or 0 < moved(fp16) < moved(bf16), "precision had no effect"


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    encoder = load_encoder("random:vit_tiny")
    return encoder(known_clips(encoder.input_spec)[:, :, :4])


def test_it_survives_rounding(tokens: Tensor) -> None:
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    moved = [known_digest(tokens + 1e-6 * tokens.std() * noise.roll(shift)) for shift in range(8)]
    assert set(moved) == {known_digest(tokens)}


def test_it_sees_scale_shift_and_order(tokens: Tensor) -> None:
    t, hw = 2, 196
    frames = tokens.unflatten(1, (t, hw))
    changed = {
        "itself": tokens,
        "scale": tokens * 1.5,
        "shift": tokens + 0.3 * tokens.std(),
        "time and place exchanged": frames.transpose(1, 2).flatten(1, 2),
        "frames exchanged": frames.flip(1).flatten(1, 2),
        "clips exchanged": tokens.flip(0),
        "channels exchanged": tokens.flip(2),
        "noise": tokens + 0.1 * tokens.std() * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1)),
    }
    assert len({known_digest(value) for value in changed.values()}) == len(changed)
