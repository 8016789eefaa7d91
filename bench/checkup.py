"""Does an encoder keep the contract? What `bench doctor --model SPEC` tries, on the two known clips of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.doctor import Check
from bench.encoders import Encoder, known_clips
from bench.encoders.contract import describe_weights, weights_digest
from bench.encoders.known_input import known_digest
from bench.errors import BenchError

SAME = 1e-6
"""Largest difference of two equal calls, in standard deviations of the tokens."""
BATCH_INVARIANT = 1e-4
"""The same between a clip alone and in a batch: other sizes take other ways through the matrix products."""


def examine_encoder(encoder: Encoder) -> list[Check]:
    """Every check of the contract, on the encoder's device; it ends early where no tokens come out.

    Nothing raises: what the encoder does not keep is a check that is not ok.
    """
    clips = known_clips(encoder.input_spec)
    checks = [_weights(encoder), *_file(encoder), _eval_mode(encoder), _gradients(encoder)]
    try:
        tokens = encoder(clips)
    except BenchError as error:
        return [*checks, Check("shape", False, error.what, error.fix or "")]
    except Exception as error:  # noqa: BLE001 - a fault in the encoder is what the user asked to see
        return [*checks, Check("shape", False, f"{type(error).__name__}: {error}", "correct the encoder's forward")]
    spread = tokens.std().item()
    return [
        *checks,
        _shape(tokens),
        _grid(encoder),
        _difference("determinism", tokens, encoder(clips), SAME * spread, "random layers must be off: check eval mode"),
        _difference("batch", tokens[1:], encoder(clips[1:]), BATCH_INVARIANT * spread, "clips must not see each other"),
        _unchanged(encoder),
        _known_input(tokens),
    ]


def _weights(encoder: Encoder) -> Check:
    parameters = sum(parameter.numel() for parameter in encoder.module.parameters())
    facts = encoder.facts
    divides = facts.embed_dim % facts.num_heads == 0
    return Check(
        "model",
        divides,
        f"{encoder.name}: {parameters:,} parameters, width {facts.embed_dim}, weights digest {encoder.digest[:16]}",
        "" if divides else f"num_heads {facts.num_heads} must divide the width: probes get as many heads",
    )


def _file(encoder: Encoder) -> list[Check]:
    """What was read of a file of weights, a line for each thing that a reader of its scores must know."""
    read = encoder.facts.weights
    return (
        [Check("file", True, describe_weights(read)), *(Check("note", True, n) for n in read["notes"])] if read else []
    )


def _eval_mode(encoder: Encoder) -> Check:
    training = [name or "(all)" for name, module in encoder.module.named_modules() if module.training]
    return _none_of("eval mode", training, "modules train", "do not switch parts back to training mode")


def _gradients(encoder: Encoder) -> Check:
    learning = [name for name, parameter in encoder.module.named_parameters() if parameter.requires_grad]
    return _none_of("gradients off", learning, "parameters take gradients", "leave requires_grad alone")


def _none_of(name: str, offenders: list[str], what: str, fix: str) -> Check:
    if offenders:
        return Check(name, False, f"{len(offenders)} {what}, first {offenders[0]}", fix)
    return Check(name, True, f"no {what}")


def _shape(tokens: Tensor) -> Check:
    finite = bool(torch.isfinite(tokens).all())
    found = f"tokens {list(tokens.shape)}, {'all' if finite else 'NOT all'} finite"
    return Check("shape", finite, found, "" if finite else "check the weights and the preprocessing")


def _grid(encoder: Encoder) -> Check:
    spec, facts = encoder.input_spec, encoder.facts
    t, h, w = encoder.grid(spec.num_frames, spec.resolution, spec.resolution)
    special = f" + {t} x {facts.special_tokens} special" if facts.special_tokens else ""
    return Check("grid", True, f"{t} x {h} x {w}{special} tokens of {spec.num_frames} frames, {spec.resolution} px")


def _difference(name: str, first: Tensor, second: Tensor, allowed: float, fix: str) -> Check:
    largest = (first - second).abs().max().item()
    ok = largest <= allowed
    found = "the same bits" if largest == 0 else f"tokens differ by at most {largest:.1e}, {allowed:.1e} is allowed"
    return Check(name, ok, found, "" if ok else fix)


def _unchanged(encoder: Encoder) -> Check:
    same = weights_digest(encoder.module, encoder.facts.architecture) == encoder.digest
    found = "weights and buffers are as before" if same else "a call changes weights or buffers"
    return Check("unchanged", same, found, "" if same else "an encoder keeps no state: check buffers and caches")


def _known_input(tokens: Tensor) -> Check:
    flat = tokens.flatten()
    values = {"mean": tokens.mean(), "std": tokens.std(), "first": flat[0], "last": flat[-1]}
    numbers = ", ".join(f"{name} {value.item():.4f}" for name, value in values.items())
    return Check("known input", True, f"digest {known_digest(tokens)}; tokens {numbers}")
