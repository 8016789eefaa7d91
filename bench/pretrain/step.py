"""One optimiser step: clips, masks, loss, gradients of all processes, update, average (protocol.md 7.1).

AdamW has the official parameter groups. Steps are counted from 1 for the schedules of learning rate and weight decay,
and from 0 for that of the momentum, as in the official code (protocol.md 7.1, 7.2).

Shapes: B clips of a micro-batch, T frames, S pixels, N tokens, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.encoders.contract import IMAGENET_MEAN, IMAGENET_STD
from bench.pretrain.checkpoint import save_state
from bench.pretrain.objectives import OBJECTIVES, sample_masks
from bench.pretrain.plan import PretrainPlan
from bench.pretrain.presets import MASKED, Optimisation
from bench.pretrain.state import TrainState
from bench.pretrain.stream import Batch, DataFailure
from bench.probing.loop import cosine

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
    """Failures in this process since the last epoch ended."""
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
    momentum = momentum_at(recipe, run.step)
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


def make_optimiser(state: TrainState, recipe: Optimisation) -> torch.optim.AdamW:
    """Four groups: weights of encoder and predictor, which decay, then their biases and norms, which do not."""
    networks = (state.encoder, state.predictor)
    groups = [
        {"params": _trained(n, decayed=decayed), "decays": decayed} for decayed in (True, False) for n in networks
    ]
    device = next(state.encoder.parameters()).device.type
    return torch.optim.AdamW(
        groups,
        lr=recipe.start_lr,
        weight_decay=0.0,
        betas=recipe.betas,
        eps=recipe.eps,
        fused=device in ("cpu", "cuda"),
    )


def apply_schedules(optimiser: torch.optim.AdamW, recipe: Optimisation, step: int) -> tuple[float, float]:
    """Set learning rate and weight decay for step `step` (from 1); return both."""
    lr, decay = learning_rate_at(recipe, step), weight_decay_at(recipe, step)
    for group in optimiser.param_groups:
        group["lr"] = lr
        group["weight_decay"] = decay if group["decays"] else 0.0
    return lr, decay


def clip_gradients(networks: Iterable[nn.Module], max_norm: float | None) -> list[float]:
    """Gradient norm of each network, which is scaled to at most `max_norm` if one is given."""
    limit = float("inf") if max_norm is None else max_norm
    return [float(nn.utils.clip_grad_norm_(network.parameters(), limit)) for network in networks]


def gradients(optimiser: torch.optim.AdamW) -> list[Tensor]:
    """The gradients of all trained parameters, in a fixed order; zeros where an objective leaves one out."""
    found = []
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


def _trained(network: nn.Module, *, decayed: bool) -> list[nn.Parameter]:
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.ndim > 1 and not name.endswith("bias")) == decayed
    ]


def learning_rate_at(recipe: Optimisation, step: int) -> float:
    """Linear warm-up, then the recipe's schedule: a stretched cosine, or constant with a linear decay at the end."""
    warmup = int(recipe.warmup_epochs * recipe.steps_per_epoch)
    if step < warmup:
        return recipe.start_lr + (recipe.lr - recipe.start_lr) * step / warmup
    if recipe.schedule == "cosine":
        progress = (step - warmup) / max(1, stretched_steps(recipe) - warmup)
        return max(recipe.final_lr, cosine(recipe.lr, recipe.final_lr, min(1.0, progress)))
    decay = int(recipe.decay_epochs * recipe.steps_per_epoch)
    past = max(0, step - (recipe.steps - decay))
    return recipe.lr + (recipe.final_lr - recipe.lr) * past / decay if past else recipe.lr


def weight_decay_at(recipe: Optimisation, step: int) -> float:
    """A cosine from the first to the last value over the stretched length."""
    return cosine(recipe.weight_decay, recipe.final_weight_decay, min(1.0, step / stretched_steps(recipe)))


def momentum_at(recipe: Optimisation, step: int) -> float:
    """A line from the first to the last value over the stretched length; `step` counts finished steps."""
    progress = min(1.0, step / stretched_steps(recipe))
    return recipe.ema + (recipe.final_ema - recipe.ema) * progress


def stretched_steps(recipe: Optimisation) -> int:
    """Steps that the cosines are computed for: longer than the run, which therefore stops before their end."""
    return int(recipe.steps * recipe.stretch)
