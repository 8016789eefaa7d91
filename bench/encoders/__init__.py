"""Pixels to tokens: `load_encoder(spec)` and the `Encoder` contract."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from bench.encoders import untrained
from bench.encoders.catalog import ModelCard, model_cards
from bench.encoders.checkpoints import describe_checkpoint, load_vjepa
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec, Precision
from bench.errors import BenchError, nearest

__all__ = ["Encoder", "EncoderFacts", "InputSpec", "Precision", "describe_encoder", "load_encoder"]

_SUFFIXES = (".pth.tar", ".pth", ".pt", ".safetensors")


def load_encoder(spec: str, device: str | torch.device = "cpu") -> Encoder:
    """The frozen encoder that `spec` names, on `device`.

    `spec` is a catalog name, `random[:SIZE]`, `pixels[:PATCH]`, or the path of a checkpoint (.pth.tar, .pt, .pth,
    .safetensors). Raises BenchError where nothing matches or the file does not hold a complete encoder.
    """
    kind, argument, card = _resolve(spec)
    if kind == "random":
        encoder = untrained.random_encoder(argument) if argument else untrained.random_encoder()
    elif kind == "pixels":
        encoder = untrained.pixel_encoder(argument) if argument else untrained.pixel_encoder()
    else:
        model, report = load_vjepa(argument)
        facts = untrained.vjepa_facts(_name(spec, card), model.config, frame_step=report["frame_step"])
        encoder = Encoder(facts, model, report=report)
    if card and card.known_answer:
        check_known_answer(encoder, card)
    return encoder.to(device)


def describe_encoder(spec: str) -> EncoderFacts:
    """What can be known of the encoder that `spec` names without reading its weights."""
    kind, argument, card = _resolve(spec)
    if kind == "random":
        return untrained.random_facts(argument) if argument else untrained.random_facts()
    if kind == "pixels":
        return untrained.pixel_facts(argument) if argument else untrained.pixel_facts()
    config, frame_step = describe_checkpoint(argument)
    return untrained.vjepa_facts(_name(spec, card), config, frame_step=frame_step)


def _resolve(spec: str) -> tuple[str, str, ModelCard | None]:
    """The kind of encoder (`random`, `pixels`, `vjepa`), its argument or path, and its card if it has one."""
    cards = {card.name: card for card in model_cards()}
    card = cards.get(spec)
    kind, _, argument = spec.partition(":")
    if kind in ("random", "pixels"):
        return kind, argument, card
    if card and card.weights_path:
        if not card.weights_path.is_file():
            raise BenchError(
                f"the weights of {spec} are not here",
                where=str(card.weights_path),
                fix=f"put {card.url} there" if card.url else "install vjepa-bench again: they are a part of it",
            )
        return "vjepa", str(card.weights_path), card
    path = Path(spec).expanduser()
    if spec.endswith(_SUFFIXES) or path.is_file():
        return "vjepa", str(path), None
    raise BenchError(
        f"unknown model '{spec}'",
        fix=f"give the path of a checkpoint ({', '.join(_SUFFIXES)}) or a name: {nearest(spec, cards)}",
    )


def _name(spec: str, card: ModelCard | None) -> str:
    """Name on the leaderboard: the card's, or the file's without its suffix (and its folder's where it is generic)."""
    if card:
        return card.name
    path = Path(spec).expanduser()
    stem = re.sub(r"(\.pth\.tar|\.[^.]+)$", "", path.name)
    generic = re.fullmatch(r"(.*-)?(latest|last|best|checkpoint|model)", stem) and path.resolve().parent.name
    return f"{path.resolve().parent.name}/{stem}" if generic else stem


def known_clips(spec: InputSpec) -> Tensor:
    """Two fixed clips [2, 3, T, H, W] for the check that an encoder answers as when its card was written."""
    T, S = spec.num_frames, spec.resolution
    steps = torch.arange(2 * 3 * T * S * S, dtype=torch.float64)
    return torch.sin(steps * 0.37 + torch.sin(steps * 0.011)).float().view(2, 3, T, S, S)


def known_answer(encoder: Encoder) -> tuple[float, float, float, float]:
    """Mean, standard deviation, first and last value of the tokens of `known_clips`."""
    tokens = encoder(known_clips(encoder.input_spec))
    flat = tokens.flatten()
    return tokens.mean().item(), tokens.std().item(), flat[0].item(), flat[-1].item()


def check_known_answer(encoder: Encoder, card: ModelCard) -> None:
    """Raise BenchError where the encoder's answer to `known_clips` is not the card's (within 1e-3)."""
    answer = known_answer(encoder)
    if any(abs(a - b) > 1e-3 for a, b in zip(answer, card.known_answer or (), strict=True)):
        raise BenchError(
            f"answers {[round(a, 5) for a in answer]} to the known clips instead of {list(card.known_answer or ())}",
            where=f"model {card.name}",
            fix="weights, preprocessing or code have changed; no score is given",
        )
