"""A fixed code of time for encoders that see frames one by one.

Their tokens say what is where in a frame, and not in which frame: a probe that pools tokens sees a set, the same for a
clip and its reverse. B clips, T frames, n tokens of a frame, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 0.5
"""Size of the code against what tokens differ by: large enough to be read, too small to drown what a token says. On
synthetic tokens an attentive probe learned when something happened with a half, hardly with the whole."""


def add_frame_times(tokens: Tensor) -> Tensor:
    """Add the code of each frame's number to its tokens: [B, T, n, D] -> the same, float32.

    Tokens have any scale, so the code follows it: its root mean square is half (`SHARE`) that of the clip's tokens
    around their mean. The mean token of a clip does not change, hence neither does what a probe of mean-pooled tokens
    (`linear`, `knn`) sees; a probe that attends to tokens can tell frames apart.
    """
    tokens = tokens.float()
    spread = (tokens - tokens.mean(dim=(1, 2), keepdim=True)).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    code = frame_code(tokens.shape[1], tokens.shape[3]).to(tokens.device)
    return tokens + SHARE * spread * code[:, None]


def frame_code(num_frames: int, embed_dim: int) -> Tensor:
    """The sin-cos code of V-JEPA's positions (protocol.md 1.1) of 0..T-1, without its mean over the frames and with a
    root mean square of 1: [T, D] float32. Zero for a single frame.

    Most channels of the plain code turn so slowly that they are a constant over a clip, which would only add to every
    token alike.
    """
    if num_frames == 1:
        return torch.zeros(1, embed_dim)
    half = -(-embed_dim // 2)
    omega = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(num_frames, dtype=torch.float64)[:, None] * omega
    code = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :embed_dim]
    code = code - code.mean(dim=0)
    return (code / code.square().mean().sqrt()).float()
