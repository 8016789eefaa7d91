"""What `--model` can be: the kinds of model spec, one entry each, and which of them a spec is of.

A kind says what is known of an encoder before its weights are read, and loads it. Those of KINDS are named by what
stands before the colon (`pixels:8`); a user's own are functions or entry points; files and folders of weights are told
by what is on the disk.

A choice is a spec with what a user says besides: what a file leaves open, the resolution; layers that it gives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.cards.fields import Layers
from bench.core.errors import BenchError, nearest
from bench.encoders import hf_video, huggingface, timm_images, untrained
from bench.encoders import user_function as own
from bench.encoders.catalog import ModelCard, model_cards, registered_encoders
from bench.encoders.checkpoints import WEIGHTS_FACTS, describe_checkpoint, load_vjepa
from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.families import NOTHING, Stated, read_stated
from bench.encoders.known_input import check_known_answer
from bench.encoders.user_function import identified
from bench.encoders.vjepa import VisionTransformer, sincos_positions

_ROW_NAME = re.compile(r"[^\W_][\w .+()-]{0,59}")
_NOT_IN_NAMES = re.compile(r"[/\\:@]")
"""What stands before an `=` and holds one of these is a path or another kind of spec."""
_SUFFIXES = (".pth.tar", ".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Spec:
    """A model spec as its kind takes it."""

    argument: str
    """What stands behind the colon, or the path."""
    card: ModelCard | None = None
    """The card of the catalog, where the spec is its name."""
    stated: Stated = NOTHING
    """Facts that the user states of a file of weights."""


@dataclass(frozen=True)
class SpecKind:
    """How specs of one kind are described and loaded."""

    facts: Callable[[Spec], EncoderFacts]
    load: Callable[[Spec], Encoder]


def _file_facts(spec: Spec) -> EncoderFacts:
    known = describe_checkpoint(spec.argument, spec.card, stated=spec.stated)
    return untrained.vjepa_facts(_name(spec), known.config, frame_step=known.frame_step, weights=known.weights)


def _load_file(spec: Spec) -> Encoder:
    model, report = load_vjepa(spec.argument, stated=spec.stated, card=spec.card)
    weights = {name: report[name] for name in WEIGHTS_FACTS}
    facts = untrained.vjepa_facts(_name(spec), model.config, frame_step=report["frame_step"], weights=weights)
    return Encoder(facts, model, report=report)


def _folder_facts(spec: Spec) -> EncoderFacts:
    known = huggingface.describe_folder(spec.argument, stated=spec.stated)
    return untrained.vjepa_facts(Path(spec.argument).resolve().name, known.config, weights=known.weights)


def _load_folder(spec: Spec) -> Encoder:
    model, report = huggingface.load_folder(spec.argument, stated=spec.stated)
    weights = {name: report[name] for name in WEIGHTS_FACTS}
    facts = untrained.vjepa_facts(Path(spec.argument).resolve().name, model.config, weights=weights)
    return Encoder(facts, model, report=report)


KINDS: dict[str, SpecKind] = {
    "random": SpecKind(
        lambda spec: untrained.random_facts(spec.argument or "vit_nano"),
        lambda spec: untrained.random_encoder(spec.argument or "vit_nano"),
    ),
    "pixels": SpecKind(
        lambda spec: untrained.pixel_facts(spec.argument or "4"),
        lambda spec: untrained.pixel_encoder(spec.argument or "4"),
    ),
    "timm": SpecKind(
        lambda spec: timm_images.timm_facts(spec.argument), lambda spec: timm_images.load_timm(spec.argument)
    ),
    "hf": SpecKind(lambda spec: hf_video.hf_facts(spec.argument), lambda spec: hf_video.load_hf(spec.argument)),
}
"""Kinds by what stands before the colon."""

FILE = SpecKind(_file_facts, _load_file)
"""Checkpoint files: .pth.tar, .pt, .pth, .safetensors."""

FOLDER = SpecKind(_folder_facts, _load_folder)
"""Hugging Face folders: config.json and safetensors."""

OWN = SpecKind(lambda spec: own.own_facts(spec.argument), lambda spec: own.load_own(spec.argument))
"""A user's own encoders: `package.module:function`, and entry points."""


def named(text: str) -> tuple[str | None, str]:
    """The name that NAME=SPEC gives a row, and the spec; None where `text` is a spec alone.

    A file that is there keeps the `=` in its name. Raises BenchError for a name that rows cannot have, or that is
    another model's.
    """
    name, equals, spec = text.partition("=")
    if not equals or _NOT_IN_NAMES.search(name) or os.path.exists(os.path.expanduser(text)):  # noqa: PTH110, PTH111
        return None, text
    where = f"--model {text!r}"
    if not _ROW_NAME.fullmatch(name):
        fix = "letters, digits, spaces and . _ - + ( ), at most 60, beginning with a letter or digit"
        raise BenchError(f"{name!r} is no name for a row", where=where, fix=fix)
    if not spec:
        raise BenchError("no model behind the =", where=where, fix="say NAME=SPEC, such as ours=runs/e100.pt")
    taken = {*KINDS, *(card.name for card in model_cards()), *(encoder.name for encoder in registered_encoders())}
    if name in taken and spec != name:
        raise BenchError(f"'{name}' is another model's name", where=where, fix="give the row one of its own")
    return name, spec


def resolve(text: str, stated: Stated = NOTHING) -> tuple[SpecKind, Spec]:
    """The kind of a model spec without a row's name (`named`), and the spec as that kind takes it, with what is stated
    of its file.

    A name of the catalog goes before a file of the same name. Raises BenchError with the nearest names where nothing
    matches, where the weights of a catalog name are not on this machine, and where something is stated of an encoder
    that leaves nothing open.
    """
    kind, spec = _resolve(text)
    if stated.names and kind not in (FILE, FOLDER):
        raise BenchError(
            f"{stated.names[0]} is for files of weights, and says nothing of this encoder",
            where=f"model {text}",
            fix="drop it, or give this encoder a run of its own",
        )
    return kind, replace(spec, stated=stated)


def _resolve(text: str) -> tuple[SpecKind, Spec]:
    cards = {card.name: card for card in model_cards()}
    card = cards.get(text)
    prefix, _, argument = text.partition(":")
    if prefix in KINDS:
        return KINDS[prefix], Spec(argument, card)
    if card and card.weights_path:
        if not card.weights_path.is_file():
            raise BenchError(
                f"the weights of {text} are not here",
                where=str(card.weights_path),
                fix=f"run `bench fetch {text}`, or put {card.url} there"
                if card.url
                else "install vjepa-bench again: they are a part of it",
            )
        return FILE, Spec(str(card.weights_path), card)
    if own.is_own(text):
        return OWN, Spec(text)
    path = Path(text).expanduser()
    if path.is_dir():
        return FOLDER, Spec(str(path))
    if text.endswith(_SUFFIXES) or path.is_file():
        return FILE, Spec(str(path))
    if "/" in text:
        raise BenchError(
            "no such file or folder",
            where=f"model {text}",
            fix="check the path; a repository on Hugging Face is hf:OWNER/NAME, `bench models` lists other names",
        )
    raise BenchError(
        f"unknown model '{text}'",
        fix=f"give the path of a checkpoint ({', '.join(_SUFFIXES)} or a Hugging Face folder) or a name:"
        f" {nearest(text, [*cards, *(encoder.name for encoder in registered_encoders())])}",
    )


def _name(spec: Spec) -> str:
    """Name on the leaderboard: the card's, or the file's without its suffix (and its folder's where it is generic)."""
    if spec.card:
        return spec.card.name
    path = Path(spec.argument)
    stem = re.sub(r"(\.pth\.tar|\.[^.]+)$", "", path.name)
    generic = re.fullmatch(r"(.*-)?(latest|last|best|checkpoint|model)", stem) and path.resolve().parent.name
    return f"{path.resolve().parent.name}/{stem}" if generic else stem


@dataclass(frozen=True)
class Choice:
    """An encoder as a user asks for it."""

    spec: str
    stated: Stated = NOTHING
    """Facts that the user states of its file."""
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


def facts_at(facts: EncoderFacts, resolution: int | None) -> EncoderFacts:
    """The facts of an encoder at a resolution (pixels of a side); as they are where it has no stored positions or is
    made for that resolution. Raises BenchError where it does not divide into patches.

    As in the official evaluation, the positions of V-JEPA 1 are made anew for the grid of that resolution and of the
    checkpoint's frames, and the stored ones are left; other frames are interpolated when a clip comes (protocol.md
    1.1). Rotary positions are those of the input anyway. An encoder that is merely called with another size
    interpolates in space too.
    """
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


def reading(facts: EncoderFacts, layers: Layers) -> EncoderFacts:
    """The encoder as one that gives a probe the tokens of these layers (protocol.md 4.3).

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
