"""One optimiser step: clips, masks, loss, gradients of all processes, update, average (protocol.md 7.1).

Shapes: B clips of a micro-batch, T frames, S pixels, N tokens, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.encoders.contract import IMAGENET_MEAN, IMAGENET_STD
from bench.pretrain import schedules
from bench.pretrain.checkpoint import save_state
from bench.pretrain.masks import sample_masks
from bench.pretrain.objectives import OBJECTIVES
from bench.pretrain.optimiser import apply_schedules, clip_gradients, gradients
from bench.pretrain.plan import PretrainPlan
from bench.pretrain.presets import MASKED
from bench.pretrain.state import TrainState
from bench.pretrain.stream import Batch, DataFailure

_MASKS = 1
"""Ends the seeds of the masks, so that their streams are none of those that draw the data."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Run:
    """A run at work."""

    plan: PretrainPlan
    world: World
    state: TrainState
    optimiser: torch.optim.AdamW
    batches: Iterator[Batch]
    step: int
    """Finished steps."""
    loss: float | None = None
    """Mean over the last epoch; none before the first has ended."""
    failures: list[DataFailure] = field(default_factory=list)
    """Of this process, since the last epoch ended."""
    failed: set[str] = field(default_factory=set)
    """Videos that were passed over by any process since the run began."""


@dataclass(frozen=True)
class Step:
    """What one step did."""

    loss: float
    lr: float
    weight_decay: float
    momentum: float
    encoder_norm: float
    predictor_norm: float
    """Gradient norms before clipping."""


def draws(plan: PretrainPlan, world: World, first_step: int) -> Iterator[Sequence[int]]:
    """The draws of every micro-batch of this process, from a step on."""
    recipe = plan.preset.optimisation
    videos = recipe.micro_batch // plan.preset.clips_per_video
    for step in range(first_step, recipe.steps):
        for number in micro_batches(plan, world):
            start = (step * recipe.micro_batches + number) * videos
            yield range(start, start + videos)


def micro_batches(plan: PretrainPlan, world: World) -> range:
    """Numbers of the micro-batches of a step that fall to this process."""
    share = plan.preset.optimisation.micro_batches // world.size
    return range(world.rank * share, (world.rank + 1) * share)


def take_step(run: Run, epoch: int) -> Step:
    """One optimiser step over the micro-batches of all processes (protocol.md 7.1)."""
    recipe = run.plan.preset.optimisation
    lr, decay = apply_schedules(run.optimiser, recipe, run.step + 1)
    total = torch.zeros((), device=run.plan.device)
    ids: list[str] = []
    for number in micro_batches(run.plan, run.world):
        batch = next(run.batches)
        run.failures.extend(batch.failures)
        ids += batch.ids
        loss = micro_loss(run, batch, number) / recipe.micro_batches
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    run.world.sum([*gradients(run.optimiser), total])
    limit = recipe.clip_norm if epoch >= recipe.clip_from_epoch else None
    norms = clip_gradients((run.state.encoder, run.state.predictor), limit)
    if not all(map(math.isfinite, (total.item(), *norms))):
        stop_at_nan(run, total.item(), norms, ids)
    run.optimiser.step()
    run.optimiser.zero_grad()
    momentum = schedules.momentum(recipe, run.step)
    run.state.average(momentum)
    run.step += 1
    return Step(total.item(), lr, decay, momentum, *norms)


def micro_loss(run: Run, batch: Batch, number: int) -> Tensor:
    """The objective on one micro-batch, the `number`-th of the step over all processes."""
    plan, seed = run.plan, run.plan.preset.seed
    contexts: list[Tensor] = []
    targets: list[Tensor] = []
    if plan.preset.objective in MASKED:
        grid, count = plan.encoder.native_grid, len(batch.pixels)
        sizes = np.random.RandomState([seed, run.step, _MASKS])
        places = np.random.RandomState([seed, run.step, number, _MASKS])
        masks = sample_masks(plan.preset.masks, grid, count, places, sizes)
        contexts, targets = ([mask.to(plan.device) for mask in part] for part in masks)
    clips = normalised(batch.pixels, plan.device)
    with torch.autocast(torch.device(plan.device).type, _DTYPES[plan.precision], enabled=plan.precision != "fp32"):
        result = OBJECTIVES[plan.preset.objective](run.state, clips, contexts, targets, plan.preset.options)
    loss: Tensor = result["loss"]
    return loss


def normalised(pixels: Tensor, device: str) -> Tensor:
    """uint8 RGB [B, T, S, S, 3] -> float clips [B, 3, T, S, S] as encoders take them."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.to(device).permute(0, 4, 1, 2, 3).float() / 255 - mean) / std


@torch.no_grad()
def encode(run: Run, pixels: Tensor) -> Tensor:
    """Tokens [B, N, D] of the target encoder."""
    size = run.plan.preset.optimisation.micro_batch
    kind = torch.device(run.plan.device).type
    with torch.autocast(kind, _DTYPES[run.plan.precision], enabled=run.plan.precision != "fp32"):
        parts = [
            run.state.target_encoder(normalised(pixels[i : i + size], run.plan.device)).float()
            for i in range(0, len(pixels), size)
        ]
    return torch.cat(parts)


def step_numbers(plan: PretrainPlan) -> int:
    """Numbers that a micro-batch handles: tokens, and the weights of the blocks."""
    encoder = plan.encoder
    tokens = plan.preset.optimisation.micro_batch * math.prod(encoder.native_grid) * encoder.embed_dim
    return tokens + encoder.depth * (4 * encoder.embed_dim**2 + 2 * encoder.embed_dim * encoder.mlp_dim)


def run_facts(run: Run) -> dict[str, Any]:
    """Where a run is and what it came from: what resuming and reading need beyond the official entries."""
    preset = run.plan.preset
    return {
        "objective": preset.objective,
        "preset": preset.name,
        "preset_content": preset.model_dump(mode="json"),
        "input": {"frame_step": preset.data.frame_step},
        "data": run.plan.data_digest,
        "step": run.step,
        "samples": run.step * preset.optimisation.global_batch,
        "failed": sorted(run.failed),
    }


def stop_at_nan(run: Run, loss: float, norms: Sequence[float], ids: list[str]) -> None:
    """Save the state as it was before this step and stop, with the step and the batch's videos.

    The file is no checkpoint to go on from: the same step would follow.
    """
    everything = [name for part in run.world.gather(ids) for name in part]
    path = run.plan.out / f"stopped-at-step{run.step + 1}.state"
    if run.world.first:
        facts = {"loss": loss, "gradient_norms": list(norms), "ids": everything, "opt": run.optimiser.state_dict()}
        save_state(path, run.state, facts=facts, bench=run_facts(run))
    shown = ", ".join(everything[:4]) + (", ..." if len(everything) > 4 else "")
    raise BenchError(
        f"the loss is {loss:g}, its gradient norms are {norms[0]:g} and {norms[1]:g} at step {run.step + 1}, "
        f"videos {shown}",
        where=str(path),
        fix="the state before this step and all ids are in that file; start anew with a lower lr, or precision=fp32",
    )
