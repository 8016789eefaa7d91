"""A spec to an encoder, or to what is known of it before its weights are read."""

from __future__ import annotations

import torch

from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.known import check_known_answer
from bench.encoders.specs import resolve


def load_encoder(spec: str, device: str | torch.device = "cpu") -> Encoder:
    """The frozen encoder that `spec` names, on `device`.

    `spec` is a catalog name, `random[:SIZE]`, `pixels[:PATCH]`, `timm:NAME`, `hf:REPO_OR_FOLDER`,
    `package.module:function`, an entry point of the group `bench.encoders`, the path of a checkpoint (.pth.tar, .pt,
    .pth, .safetensors), or a Hugging Face folder of V-JEPA 2. Raises BenchError where nothing matches, where what is
    there is not a complete encoder, and where it is not what the catalog says of that name.
    """
    kind, resolved = resolve(spec)
    encoder = kind.load(resolved)
    card = resolved.card
    if card and card.known_answer:
        check_known_answer(encoder, card)
    return encoder.to(device)


def describe_encoder(spec: str) -> EncoderFacts:
    """What can be known of the encoder that `spec` names without reading its weights."""
    kind, resolved = resolve(spec)
    return kind.facts(resolved)
