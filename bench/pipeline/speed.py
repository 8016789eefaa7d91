"""How an encoder computes, chosen by measurement before a run: its precision (`--precision fastest`) and torch.compile
(`--compile`). The choice is remembered, so that a later run finds the features of this one in the cache.

    CACHE/speed/<key>.json      what was chosen, and the clips a second of each candidate
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.hashing import digest
from bench.core.inputs import CACHED, read_bytes
from bench.core.progress import Reporter
from bench.core.threads import SMALL_CLIP, small_steps
from bench.core.types import Precision
from bench.encoders.contract import Encoder
from bench.features.extract import ClipsAtOnce, clips_at_once
from bench.tasks.kind import RunPlan
from bench.tasks.options import is_measured

WORTH = 1.05
"""How many times as fast a candidate must be: a lower precision as fp32, a compiled encoder as the uncompiled."""
ROUNDING: dict[Precision, float] = {"fp32": 1e-5, "bf16": 0.05, "fp16": 0.01}
"""Relative error (of the Euclidean norm of all tokens) up to which compiled tokens agree with uncompiled ones."""
_RUNS = 3
_LONG_S = 10.0
"""Seconds after which a candidate is not run again."""


@dataclass(frozen=True)
class Choice:
    """How an encoder computes on this machine, and what else was tried."""

    precision: Precision
    compiled: bool
    clips_per_s: dict[str, float]
    """Speed of every candidate, such as `bf16` and `bf16 compiled`; those that could not be used are left out."""
    notes: tuple[str, ...] = ()
    """Why some were not used."""


def fastest(plan: RunPlan, encoder: Encoder, reporter: Reporter) -> Encoder:
    """The encoder of a plan as it computes fastest, if the options ask for that; else as it is.

    Where several processes work together, the first measures for all. `report["speed"]` of what is returned says what
    was measured. Raises BenchError under `--compile on` where it cannot be compiled.
    """
    if not is_measured(plan.options):
        return encoder
    clip = _some_clip(plan)
    at_once = ClipsAtOnce(plan.options.batch_size or clips_at_once(encoder, _num_tokens(encoder, clip)))
    if encoder.device.type == "cpu":  # bench.features.extract.encode says why
        at_once = ClipsAtOnce(1)
    mine = _remembered_or_measured(plan, encoder, clip, at_once, reporter) if plan.world.first else None
    choice: Choice = plan.world.gather(mine)[0]
    encoder = encoder.to(encoder.device, choice.precision)
    encoder = encoder.compiled(at_once.size) if choice.compiled else encoder
    encoder.report = {**encoder.report, "speed": asdict(choice)}
    return encoder


def _some_clip(plan: RunPlan) -> Tensor:
    """Noise of the shape of the plan's clips, [1, 3, T, H, W]; of a square one where they differ."""
    return torch.randn((1, 3, *plan.test_clips.clip_shape), generator=torch.Generator().manual_seed(0))


def _num_tokens(encoder: Encoder, clip: Tensor) -> int:
    return encoder.facts.num_tokens(*clip.shape[2:])


def _remembered_or_measured(
    plan: RunPlan, encoder: Encoder, clip: Tensor, at_once: ClipsAtOnce, reporter: Reporter
) -> Choice:
    wanted = [plan.options.precision, plan.options.compile]
    key = digest(_facts(encoder, clip, wanted))[:32]
    path = plan.cache / "speed" / f"{key}.json"
    memory = TypeAdapter(Choice)
    try:
        choice = memory.validate_json(read_bytes(path, CACHED))
        reporter.say(f"{encoder.name}: {_told(choice)}, as measured before")
        return choice
    except (OSError, BenchError, ValidationError):
        pass  # never measured, or damaged
    with small_steps(encoder.device, encoder.embed_dim * _num_tokens(encoder, clip), small=SMALL_CLIP):
        choice = measured(encoder, clip, at_once, *wanted)
    reporter.say(f"{encoder.name}: {_told(choice)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(memory.dump_json(choice, indent=1))
    return choice


def _facts(encoder: Encoder, clip: Tensor, wanted: list[str]) -> dict[str, Any]:
    """What a choice holds for. Threads and batch are not among it: another choice would have other features."""
    hardware = environment.hardware(str(encoder.device))
    return {
        "encoder": encoder.digest,
        "layers": encoder.facts.out_layers,
        "clip": list(clip.shape[1:]),
        "device": [encoder.device.type, hardware.get("accelerator", hardware["processor"])],
        "torch": torch.__version__,
        "wanted": wanted,
    }


def measured(encoder: Encoder, clip: Tensor, at_once: ClipsAtOnce, precision: str, compiling: str) -> Choice:
    """Time the candidates on batches of `clip` [1, 3, T, S, S], as large as `at_once` and the memory allow.

    Raises BenchError where `compiling` is `on` and the encoder cannot be compiled.
    """
    candidates = usable_precisions(encoder.device) if precision == "fastest" else [encoder.precision]
    rates: dict[Precision, float] = {}
    notes: list[str] = []
    for candidate in candidates:
        encoder.to(encoder.device, candidate)
        tokens = at_once.fitting(lambda size: encoder(_batch(clip, encoder, size)))
        if torch.isfinite(tokens).all():
            rates[candidate] = clips_per_s(encoder, _batch(clip, encoder, at_once.size))
        else:
            notes.append(f"{candidate} gives tokens that are not finite")
    best = max(rates, key=lambda name: rates[name] * (WORTH if name == "fp32" else 1), default=encoder.precision)
    encoder.to(encoder.device, best)
    all_rates: dict[str, float] = {name: round(rate, 3) for name, rate in rates.items()}
    compiled = False
    if compiling != "off":
        try:
            rate = _compiled_clips_per_s(encoder, _batch(clip, encoder, at_once.size))
            all_rates[f"{best} compiled"] = round(rate, 3)
            compiled = compiling == "on" or rate > WORTH * rates.get(best, 0)
        except BenchError as error:
            if compiling == "on":
                raise
            notes.append(f"not compiled: {error.what}")
    return Choice(best, compiled, all_rates, tuple(notes))


def usable_precisions(device: torch.device) -> list[Precision]:
    """The precisions that are tried on a device, the exact one first."""
    if device.type == "cpu":
        return ["fp32", "bf16"]
    if device.type != "cuda":
        return ["fp32"]
    native_bf16 = torch.cuda.get_device_capability(device)[0] >= 8
    return ["fp32", "bf16", "fp16"] if native_bf16 else ["fp32", "fp16"]


def _batch(clip: Tensor, encoder: Encoder, size: int) -> Tensor:
    return clip.to(encoder.device).repeat(size, 1, 1, 1, 1)


def _compiled_clips_per_s(encoder: Encoder, clips: Tensor) -> float:
    """Raises BenchError where it cannot be compiled, or gives other tokens."""
    compiled = encoder.compiled(len(clips))
    try:
        expected, tokens = encoder(clips), compiled(clips)
    except torch.cuda.OutOfMemoryError as error:
        what = f"compiled, the encoder has no memory for a batch of {len(clips)} clips"
        raise BenchError(what, where="--compile", fix="say --compile off, or a smaller --batch-size") from error
    difference = ((tokens - expected).norm() / expected.norm()).item()
    bound = ROUNDING[encoder.precision]
    if not difference <= bound:
        raise BenchError(
            f"compiled tokens are {difference:.1g} off, more than the {bound:g} that {encoder.precision} rounds by",
            where="--compile",
            fix="say --compile off",
        )
    return clips_per_s(compiled, clips)


def clips_per_s(encoder: Encoder, clips: Tensor) -> float:
    """Clips a second of the best of a few runs, after one that is not counted."""
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _RUNS and sum(seconds) < _LONG_S):
        started = time.perf_counter()
        encoder(clips)
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)
        seconds.append(time.perf_counter() - started)
    return len(clips) / min(seconds[1:])


def _told(choice: Choice) -> str:
    """Such as `bf16, not compiled (clips/s: fp32 1.4, bf16 2.6)`."""
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in choice.clips_per_s.items())
    name = f"{choice.precision}, {'compiled' if choice.compiled else 'not compiled'}"
    return "; ".join([f"{name} (clips/s: {rates})", *choice.notes])
