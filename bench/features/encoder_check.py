"""Does an encoder keep the contract? What `bench doctor --model SPEC` tries, on the two known clips of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.tensors import weights_digest
from bench.core.types import Check
from bench.encoders import Choice, Encoder, Precision
from bench.encoders.contract import describe_weights
from bench.encoders.known_input import known_clips, known_digest, moving_clips
from bench.encoders.user_function import full_precision
from bench.features.half_precision import HalfPrecision

SAME = 1e-6
"""Largest difference of two equal calls, in standard deviations of the tokens."""
BATCH_INVARIANT = 1e-4
"""The same between a clip alone and in a batch: other sizes take other ways through the matrix products."""
ON_A_GPU = 1e-3
"""The same on other devices than a CPU, for equal calls too: they may add in another order each time."""
_REFUSED = ("determinism", "batch", "unchanged", "known input")
"""What a run cannot do without: with these broken, its score would be of no encoder."""


def load_checked(choice: Choice, device: str, precision: Precision) -> Encoder:
    """The encoder of a run, on its device, in its precision.

    Raises BenchError as `load_encoder`, and where an encoder of the user's own gives tokens that are random, depend on
    other clips or on earlier calls, are the same for every clip, or differ by less than half precision tells. Others,
    whose code is this project's, are not asked.
    """
    encoder = choice.load(device)
    if not encoder.code:
        return encoder.to(device, precision)
    _refuse_broken(encoder, choice.spec)
    clips = _asked(encoder)
    with full_precision():
        exact = encoder(clips.clone())
    rounded = encoder.to(device, precision)(clips.clone()).half()
    whole = exact.isfinite() & rounded.isfinite()
    half = HalfPrecision(encoder, 16, enough=len(clips))
    half.watch(exact.where(whole, 0), rounded.where(whole, 0))
    half.check()
    return encoder


def _refuse_broken(encoder: Encoder, spec: str) -> None:
    broken = next((check for check in examine_encoder(encoder) if not check.ok and check.name in _REFUSED), None)
    if broken:
        raise BenchError(
            f"cannot be scored, {broken.name}: {broken.found}",
            where=f"model {spec}",
            fix=f"{broken.fix}; `bench doctor --model {spec}` shows all checks",
        )


def examine_encoder(encoder: Encoder) -> list[Check]:
    """Every check of the contract, on the encoder's device; it ends early where no tokens come out.

    Nothing raises: what the encoder does not keep is a check that is not ok.
    """
    with full_precision():
        return _examined(encoder)


def _examined(encoder: Encoder) -> list[Check]:
    clips = _asked(encoder).to(encoder.device)
    checks = [_weights(encoder), *_file(encoder), _eval_mode(encoder), _gradients(encoder)]
    try:
        tokens = _answer(encoder, clips)
    except BenchError as error:
        return [*checks, Check("shape", False, error.what, error.fix or "")]
    except Exception as error:  # noqa: BLE001 - a fault in the encoder is what the user asked to see
        return [*checks, Check("shape", False, f"{type(error).__name__}: {error}", "correct the encoder's forward")]
    # Between the two equal calls the last clip is another one, so that what is kept of it shows.
    exchanged, again, alone = (_answer(encoder, some) for some in (clips.flip(0), clips, clips[1:]))
    others = torch.cat([exchanged.flip(0), alone])
    spread = tokens[tokens.isfinite()].std().item() if tokens.isfinite().any() else 0.0
    same, invariant = (SAME, BATCH_INVARIANT) if encoder.device.type == "cpu" else (ON_A_GPU, ON_A_GPU)
    return [
        *checks,
        _shape(tokens),
        _grid(encoder),
        _difference("determinism", tokens, again, same * spread, "random layers must be off: check eval mode"),
        _difference(
            "batch",
            torch.cat([tokens, tokens[1:]]),
            others,
            invariant * spread,
            "clips must not see each other, nor those of earlier calls",
        ),
        _unchanged(encoder),
        _known_input(encoder, clips, tokens, same * spread),
    ]


def _asked(encoder: Encoder) -> Tensor:
    """The two clips [2, 3, T, S, S] that it is asked for: its own code might find nothing to see in noise."""
    return moving_clips(encoder.input_spec)[:2] if encoder.code else known_clips(encoder.input_spec)


def _answer(encoder: Encoder, clips: Tensor) -> Tensor:
    """Tokens of a copy of the clips, which an encoder may change: no run reads its clips twice."""
    return encoder(clips.clone())


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
    largest = _largest(first, second)
    ok = largest <= allowed
    found = "the same bits" if largest == 0 else f"tokens differ by at most {largest:.1e}, {allowed:.1e} is allowed"
    return Check(name, ok, found, "" if ok else fix)


def _largest(first: Tensor, second: Tensor) -> float:
    """The largest difference of two answers; none between two NaN, or two values that are infinite alike."""
    alike = (first == second) | (first.isnan() & second.isnan())
    return torch.where(alike, 0, (first - second).abs()).nan_to_num(nan=torch.inf).max().item()


def _unchanged(encoder: Encoder) -> Check:
    same = weights_digest(encoder.module, encoder.facts.architecture) == encoder.weights_digest
    found = "weights and buffers are as before" if same else "a call changes weights or buffers"
    return Check("unchanged", same, found, "" if same else "an encoder keeps no state: check buffers and caches")


def _known_input(encoder: Encoder, clips: Tensor, tokens: Tensor, allowed: float) -> Check:
    """The digest of the answer, which must not be the same for every clip. That two clips of noise are alike to an
    encoder does not mean that all are: then it is shown plain ones."""
    if not tokens.isfinite().any():
        return Check("known input", False, "no finite value in any token", "check the weights and the preprocessing")
    if _largest(tokens[0], tokens[1]) <= allowed:
        ramp = torch.linspace(-2, 2, clips[0].numel(), device=clips.device).view_as(clips[:1])
        plain = [_answer(encoder, clip) for clip in (torch.zeros_like(ramp), ramp, -ramp)]
        if all(_largest(tokens[:1], answer) <= allowed for answer in plain):
            fix = "the encoder must look at its clips: check the forward"
            return Check("known input", False, "the tokens are the same for every clip", fix)
    flat = tokens.flatten()
    values = {"mean": tokens.mean(), "std": tokens.std(), "first": flat[0], "last": flat[-1]}
    numbers = ", ".join(f"{name} {value.item():.4f}" for name, value in values.items())
    return Check("known input", True, f"digest {known_digest(tokens)}; tokens {numbers}")
