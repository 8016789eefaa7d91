"""What `--model` can be: the kinds of model spec, one entry each, and which of them a spec is of.

A kind says what is known of an encoder before its weights are read, and loads it. Those of KINDS are named by what
stands before the colon (`pixels:8`); a user's own are functions or entry points; files and folders of weights are told
by what is on the disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.errors import BenchError, nearest
from bench.encoders import hf_video, huggingface, timm_images, untrained
from bench.encoders import user_function as own
from bench.encoders.catalog import ModelCard, model_cards
from bench.encoders.checkpoints import WEIGHTS_FACTS, describe_checkpoint, load_vjepa
from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.registered import registered_encoders
from bench.encoders.stated import NOTHING, Stated

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
    """What the user says of a file of weights."""


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
