"""An encoder built for another resolution than its weights were trained at, as the official evaluation does it.

It makes the positions of V-JEPA 1 anew for the grid of that resolution and of the checkpoint's frames, and leaves the
stored ones; other frames are interpolated when a clip comes (protocol.md 1.1). Rotary positions are those of the input
anyway. An encoder that is merely called with another size interpolates in space too, as the official module does.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.vjepa import VisionTransformer, sincos_positions


def facts_at(facts: EncoderFacts, resolution: int | None) -> EncoderFacts:
    """The facts of an encoder at a resolution (pixels of a side); as they are where it has no stored positions or is
    made for that resolution. Raises BenchError where it does not divide into patches."""
    spec = facts.input_spec
    if facts.architecture.get("kind") != "vjepa1" or resolution in (None, spec.resolution):
        return facts
    facts.grid(spec.num_frames, resolution, resolution)
    note = f"positions made anew for {resolution} px, those of the weights are for {spec.resolution} px"
    weights = {**facts.weights, "notes": [*facts.weights["notes"], note]} if facts.weights else {}
    return replace(
        facts,
        input_spec=replace(spec, resolution=resolution),
        architecture={**facts.architecture, "resolution": resolution},
        weights=weights,
    )


def encoder_at(encoder: Encoder, resolution: int | None) -> Encoder:
    """The encoder at a resolution; see `facts_at`. Its digest is then another one."""
    facts, model = facts_at(encoder.facts, resolution), encoder.module
    if facts is encoder.facts or not isinstance(model, VisionTransformer):
        return encoder
    model.config = replace(model.config, resolution=facts.input_spec.resolution)
    table = sincos_positions(facts.embed_dim, model.config.native_grid, uniform_power=model.config.uniform_power)
    model.pos_embed = nn.Parameter(table, requires_grad=False)
    notes = {"notes": facts.weights["notes"]} if facts.weights else {}
    return Encoder(facts, model, report={**encoder.report, **notes})
