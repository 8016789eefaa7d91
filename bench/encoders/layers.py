"""The layers that a clip protocol names, of an encoder of one depth (protocol.md 4.3)."""

from __future__ import annotations

from collections.abc import Iterable

from bench.cards.layers import Layers
from bench.core.errors import BenchError
from bench.encoders.contract import EncoderFacts


def reading(facts: EncoderFacts, layers: Layers) -> EncoderFacts:
    """The encoder as one that gives a probe the tokens of these layers.

    Raises BenchError where it has not all of them, or a choice by depth names none for its own.
    """
    if isinstance(layers, dict):
        facts.check_layers(())
        if facts.depth not in layers:
            known = " and ".join(map(str, layers))
            raise BenchError(
                f"the clip protocol names layers of encoders with {known} of them, and this one has {facts.depth}",
                where=f"model {facts.name}",
                fix="name its own with --set clip.layers=A,B,C,D, or take the last alone with --set clip.layers=null",
            )
        layers = layers[facts.depth]
    return facts.reading(layers or ())


def layers_as_named(facts: EncoderFacts, choices: Iterable[Layers]) -> Layers:
    """The choice by depth that names just the layers which this encoder gives, or else these layers themselves.

    So one measurement has one name, whether the layers came from a card or from `--set`.
    """
    read = facts.out_layers
    by_depth = (choice for choice in choices if isinstance(choice, dict) and choice.get(facts.depth) == read)
    return next(by_depth, read or None) if read else None
