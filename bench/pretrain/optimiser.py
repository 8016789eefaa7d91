"""AdamW with the official parameter groups, and the schedules applied to it (protocol.md 7.1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bench.pretrain import schedules
from bench.pretrain.presets import Optimisation
from bench.pretrain.state import TrainState


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
    lr, decay = schedules.learning_rate(recipe, step), schedules.weight_decay(recipe, step)
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
