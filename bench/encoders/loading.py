"""A spec to an encoder, or to what is known of it before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.known import check_known_answer
from bench.encoders.resolution import encoder_at, facts_at
from bench.encoders.specs import OWN, Spec, SpecKind, named, resolve
from bench.encoders.stated import NOTHING, Stated, read_stated
from bench.encoders.user_function import identified


@dataclass(frozen=True)
class Choice:
    """An encoder as a user asks for it."""

    spec: str
    stated: Stated = NOTHING
    """What the user says of its file."""
    resolution: int | None = None
    """Side of the frames that it is built for, pixels; None for that of its weights."""

    def resolve(self) -> tuple[SpecKind, Spec]:
        """What the spec names."""
        return resolve(named(self.spec)[1], self.stated)

    def facts(self) -> EncoderFacts:
        """What can be known of the encoder without reading its weights."""
        kind, resolved = self.resolve()
        return self._named(facts_at(kind.facts(resolved), self.resolution))

    def load(self, device: str | torch.device = "cpu") -> Encoder:
        """The frozen encoder on `device`. Raises BenchError as `load_encoder`."""
        encoder = self.open(device)
        kind, resolved = self.resolve()
        return identified(resolved.argument, encoder) if kind is OWN else encoder

    def open(self, device: str | torch.device = "cpu") -> Encoder:
        """`load`, but an encoder of the user's own is not asked for anything, so that any can be examined."""
        kind, resolved = self.resolve()
        encoder = kind.load(resolved)
        card = resolved.card
        if card and card.known_answer:
            check_known_answer(encoder, card)
        encoder = encoder_at(encoder, self.resolution)
        encoder.facts = self._named(encoder.facts)
        return encoder.to(device)

    def _named(self, facts: EncoderFacts) -> EncoderFacts:
        """The facts under the name that the user gave."""
        return replace(facts, name=named(self.spec)[0] or facts.name)


def load_encoder(
    spec: str,
    device: str | torch.device = "cpu",
    *,
    num_heads: int | None = None,
    family: str | None = None,
    key: str | None = None,
    resolution: int | None = None,
) -> Encoder:
    """The frozen encoder that `spec` names, on `device`.

    `spec` is a catalog name, `random[:SIZE]`, `pixels[:PATCH]`, `timm:NAME`, `hf:REPO_OR_FOLDER`,
    `package.module:function`, an entry point of the group `bench.encoders`, the path of a checkpoint (.pth.tar, .pt,
    .pth, .safetensors), a Hugging Face folder of V-JEPA 2, or `NAME=` and one of these.

    `num_heads`, `family` (`vjepa1`, `vjepa2`, `vjepa2.1`) and `key` say of a checkpoint what it leaves open: its
    attention heads, which V-JEPA it is, and which of its encoders to read. `resolution` (pixels of a side) builds
    V-JEPA 1 as a run at that resolution does: with positions made anew for its grid. Without it, clips of another size
    get the stored positions interpolated.

    Raises BenchError where nothing matches, where what is there is not a complete encoder, where more than one reading
    fits, and where it is not what the catalog says of that name.
    """
    return _choice(spec, resolution, num_heads=num_heads, family=family, key=key).load(device)


def describe_encoder(
    spec: str,
    *,
    num_heads: int | None = None,
    family: str | None = None,
    key: str | None = None,
    resolution: int | None = None,
) -> EncoderFacts:
    """What can be known of the encoder that `spec` names without reading its weights. Arguments as `load_encoder`."""
    return _choice(spec, resolution, num_heads=num_heads, family=family, key=key).facts()


def _choice(spec: str, resolution: int | None, **stated: Any) -> Choice:
    return Choice(spec, read_stated(stated), resolution)
