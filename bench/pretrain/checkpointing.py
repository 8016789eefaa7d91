"""Trading time for memory, and start-up time for speed, without touching what is computed."""

from __future__ import annotations

import functools

import torch
from torch.utils.checkpoint import checkpoint

from bench.encoders.vjepa import Block
from bench.pretrain.state import TrainState


def recompute_activations(state: TrainState) -> None:
    """Let every trained block keep only its input and compute the rest again when gradients flow back."""
    for block in _blocks(state):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(state: TrainState) -> None:
    """Compile every trained block, once for all lengths of masks."""
    for block in _blocks(state):
        block.compile(dynamic=True)


def _blocks(state: TrainState) -> list[torch.nn.Module]:
    networks = (state.encoder, state.predictor)
    return [module for network in networks for module in network.modules() if isinstance(module, Block)]
