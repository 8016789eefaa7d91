"""What a pretraining run will cost, before it starts: steps, clips, parameters, bytes, time. Nothing is trained."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from bench.core import machine as environment
from bench.core.files import human_bytes
from bench.core.machine import ENCODER_EFFICIENCY, matrix_rate
from bench.core.threads import small_steps
from bench.encoders.contract import transformer_flops
from bench.encoders.predictor import PredictorConfig
from bench.encoders.vjepa import VisionTransformer
from bench.pretrain.objectives import sample_masks
from bench.pretrain.plan import PretrainPlan
from bench.pretrain.presets import MASKED
from bench.pretrain.state import build_head, head_config, new_state
from bench.pretrain.step import Run, make_optimiser, micro_loss, step_numbers
from bench.pretrain.stream import Batch

_TIMED_FLOPS = 1e11
"""Micro-batches up to this size are timed; larger ones are computed from the rate of a matrix product."""
_TIMED_CLIPS = 4


@dataclass(frozen=True)
class PretrainForecast:
    """The size of a run. Times are rough: of this machine, and of as many such processes as were started."""

    preset: str
    objective: str
    videos: str
    steps: int
    clips: int
    """Clips that the run sees."""
    passes: float | None
    """Times that each video is seen; none for generated clips."""
    clips_per_step: int
    processes: int
    micro_batches_per_process: int
    tokens_per_clip: int
    encoder_parameters_m: float
    head_parameters_m: float
    checkpoint_bytes: int
    free_bytes: int
    exaflops: float
    """Floating-point operations of the whole run, 1e18."""
    compute_s: float
    """Seconds of computing, where clips are always ready."""
    decode_s: float
    """Seconds of decoding, done ahead by other processes: the longer of the two is what the run takes."""

    def lines(self) -> dict[str, str]:
        """The forecast for a reader."""
        passes = f", each seen {self.passes:.3g} times" if self.passes is not None else ""
        return {
            "preset": f"{self.preset}, objective {self.objective}",
            "videos": f"{self.videos}{passes}",
            "steps": f"{self.steps:,} of {self.clips_per_step:,} clips, {self.clips:,} in all",
            "clip": f"{self.tokens_per_clip:,} tokens",
            "processes": f"{self.processes}, each with {self.micro_batches_per_process} micro-batches a step",
            "parameters": f"{self.encoder_parameters_m:.3g} M encoder, {self.head_parameters_m:.3g} M predictor, head",
            "checkpoint": f"{human_bytes(self.checkpoint_bytes)} of {human_bytes(self.free_bytes)} free",
            "operations": f"{self.exaflops * 1e18:.3g}",
            "time, rough": f"compute {human_seconds(self.compute_s)}, decode {human_seconds(self.decode_s)}",
        }


def human_seconds(seconds: float) -> str:
    """A time for a reader: 95 s, 12 min, 3.4 h, 60 days."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def forecast(plan: PretrainPlan) -> PretrainForecast:
    """The forecast of a plan, on the plan's device and number of processes."""
    preset, recipe, world = plan.preset, plan.preset.optimisation, plan.world
    with torch.device("meta"):
        encoder, head = VisionTransformer(plan.encoder), build_head(head_config(preset, plan.encoder))
    encoder_size, head_size = (sum(p.numel() for p in n.parameters() if p.requires_grad) for n in (encoder, head))
    clips = recipe.steps * recipe.global_batch
    videos = clips // preset.clips_per_video
    flops = clip_flops(plan)
    share = recipe.micro_batches // world.size
    return PretrainForecast(
        preset=preset.name,
        objective=preset.objective,
        videos=f"{len(plan.videos):,}" if plan.videos else "digits, generated without end",
        steps=recipe.steps,
        clips=clips,
        passes=videos / len(plan.videos) if plan.videos else None,
        clips_per_step=recipe.global_batch,
        processes=world.size,
        micro_batches_per_process=share,
        tokens_per_clip=math.prod(plan.encoder.native_grid),
        encoder_parameters_m=encoder_size / 1e6,
        head_parameters_m=head_size / 1e6,
        # Encoder, its average and two moments; the head and two moments.
        checkpoint_bytes=4 * (4 * encoder_size + 3 * head_size),
        free_bytes=shutil.disk_usage(plan.out).free,
        exaflops=clips * flops / 1e18,
        compute_s=recipe.steps * share * micro_seconds(plan, flops),
        decode_s=videos / world.size * draw_seconds(plan),
    )


def clip_flops(plan: PretrainPlan) -> float:
    """Floating-point operations of training on one clip: forward passes, and twice as much for gradients."""
    config, preset = plan.encoder, plan.preset
    every = math.prod(config.native_grid)
    shape = (config.depth, config.embed_dim, config.mlp_dim)
    if preset.objective not in MASKED:
        return 3 * transformer_flops(*shape, every)
    total = transformer_flops(*shape, every) if preset.objective == "features" else 0.0
    head = head_config(preset, config)
    assert isinstance(head, PredictorConfig)  # noqa: S101 - masked objectives have a predictor
    for context, target in zip(
        *sample_masks(preset.masks, config.native_grid, 16, np.random.RandomState(0)), strict=True
    ):
        seen, hidden = context.shape[1], target.shape[1]
        total += 3 * transformer_flops(*shape, seen)
        total += 3 * transformer_flops(head.depth, head.embed_dim, 4 * head.embed_dim, seen + hidden)
    return total


def micro_seconds(plan: PretrainPlan, flops: float) -> float:
    """Seconds of one micro-batch: timed on random pixels where that is quick, else from its operations."""
    count = plan.preset.optimisation.micro_batch
    if count * flops > _TIMED_FLOPS:
        return count * flops / (ENCODER_EFFICIENCY * matrix_rate(plan.device, plan.precision))
    state = new_state(plan.preset).to(plan.device)
    run = Run(plan, plan.world, state, make_optimiser(state, plan.preset.optimisation), iter(()), 0)
    batch = Batch(torch.randint(0, 256, (count, *plan.clip_shape, 3), dtype=torch.uint8), [])
    seconds = []
    with small_steps(torch.device(plan.device), step_numbers(plan)):
        for number in range(4):
            started = time.perf_counter()
            micro_loss(run, batch, number).backward()  # type: ignore[no-untyped-call]
            state.encoder.zero_grad()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def draw_seconds(plan: PretrainPlan) -> float:
    """Seconds to decode and crop the clips of one video in one process, divided by the decoding processes."""
    if plan.videos is None:
        return 0.0
    workers = plan.options.workers if plan.options.workers is not None else environment.default_workers()
    count = min(_TIMED_CLIPS, len(plan.videos))
    started = time.perf_counter()
    next(plan.stream().batches([range(count)]))
    return (time.perf_counter() - started) / count / max(1, workers)
