"""Probes of every token: the class of each pixel of a still image, from the logits of the tokens around it.

One linear layer on the tokens of the grid, after batch normalisation or none; its logits are brought to the size of the
masks by bilinear interpolation (corners not aligned). Tokens of several layers are joined channel by channel, those of
several steps of time, which all show the same image, averaged; class tokens and registers are left out. The loss is
the cross-entropy summed over the pixels with a class and divided by the number of all pixels, void ones among them.
Names of tensors, loss and batch normalisation are those of dinov3 6876159 `dinov3/eval/segmentation`.

Shapes: S settings, B images, N tokens on a grid of h x w, D channels, C classes; H x W pixels of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.metrics.iou import VOID
from bench.probing.stack import Stack

SCALE, SHIFT = "batchnorm_layer.weight", "batchnorm_layer.bias"
MEAN, VARIANCE = "batchnorm_layer.running_mean", "batchnorm_layer.running_var"
WEIGHT, BIAS = "conv.weight", "conv.bias"
EPS, MOMENTUM = 1e-5, 0.1
"""Of the batch normalisation: torch's own."""
_CPU_VALUES = 1 << 22
"""Logits of pixels that are held at once on a CPU: what its caches nearly hold."""
_GPU_VALUES = 1 << 28


@dataclass(frozen=True)
class Grid:
    """How the N tokens of an image lie: layer by layer, step of time by step, special tokens first, then row by row."""

    layers: int
    steps: int
    special_tokens: int
    height: int
    width: int

    def patches(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> float32 [B, h * w, layers * D], without special tokens, averaged over time."""
        B, _, D = tokens.shape
        each = tokens.view(B, self.layers, self.steps, self.special_tokens + self.height * self.width, D)
        of_layers = each[:, :, :, self.special_tokens :].float().mean(dim=2)
        return of_layers.transpose(1, 2).reshape(B, self.height * self.width, self.layers * D)


def initial_weights(channels: int, num_classes: int, *, batch_norm: bool, seed: int) -> dict[str, Tensor]:
    """Normal weights of deviation 0.01 drawn from `seed`, zero biases, and scales of 1."""
    values = np.random.RandomState(seed).standard_normal((num_classes, channels, 1, 1)) * 0.01
    weights = {WEIGHT: torch.from_numpy(values.astype(np.float32)), BIAS: torch.zeros(num_classes)}
    return weights | ({SCALE: torch.ones(channels), SHIFT: torch.zeros(channels)} if batch_norm else {})


def interpolation(old: int, new: int, *, device: torch.device) -> Tensor:
    """The matrix [new, old] of torch's bilinear interpolation along one side, corners not aligned."""
    eye = torch.eye(old, device=device)[None]
    return F.interpolate(eye, size=new, mode="linear", align_corners=False)[0].T.contiguous()


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [..., h, w] -> [..., H, W], as torch's bilinear interpolation.

    By two matrix products, whose gradients are the same from run to run on a GPU as well.
    """
    rows, columns = (
        interpolation(old, new, device=logits.device) for old, new in zip(logits.shape[-2:], size, strict=True)
    )
    return rows @ (logits @ columns.T)


def mask_losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [S, B] of logits [S, B, C, h, w] on masks [B, H, W], and their gradients by the logits.

    Of each image: the cross-entropy summed over the pixels with a class, by the number of all its pixels.
    """
    S, B, C = logits.shape[:3]
    height, width = masks.shape[1:]
    flat, wanted = logits.detach().flatten(0, 1), masks.long()
    losses, gradients = flat.new_empty(S * B), torch.empty_like(flat)
    most = _CPU_VALUES if flat.device.type == "cpu" else _GPU_VALUES
    size = max(1, most // (C * height * width))
    rows = interpolation(logits.shape[3], height, device=logits.device)
    columns = interpolation(logits.shape[4], width, device=logits.device)
    for start in range(0, S * B, size):
        part = slice(start, min(start + size, S * B))
        leaf = flat[part].requires_grad_()
        chosen = wanted[torch.arange(part.start, part.stop, device=flat.device) % B]
        pixels = F.cross_entropy(rows @ (leaf @ columns.T), chosen, ignore_index=VOID, reduction="none")
        loss = pixels.sum(dim=(1, 2)) / (height * width)
        (gradients[part],) = torch.autograd.grad(loss.sum(), leaf)
        losses[part] = loss.detach()
    return losses.view(S, B), gradients.view_as(logits)


class DenseSweep:
    """S probes that share their initial weights and see the same images, and so the same running statistics."""

    def __init__(self, initial: Mapping[str, Tensor], num_settings: int, grid: Grid) -> None:
        self.stack = Stack(initial, num_settings)
        self.grid = grid
        self.batch_norm = SCALE in initial
        channels = initial[WEIGHT].shape[1]
        self.mean = torch.zeros(channels, device=self.stack.values.device)
        self.variance = torch.ones(channels, device=self.stack.values.device)

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C, h, w], by the running statistics."""
        patches = self.grid.patches(tokens)
        if self.batch_norm:
            patches = (patches - self.mean) / (self.variance + EPS).sqrt()
        return self._linear(patches)

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D], masks [B, H, W]; return the losses [S].

        Where there is batch normalisation, it is by the statistics of these images, which move the running ones.
        """
        patches = self.grid.patches(tokens)
        if self.batch_norm:
            patches = self._batch_normalised(patches)
        logits = self._linear(patches)
        losses, gradients = mask_losses(logits, targets)
        # A sum whose gradient by the weights is that of the mean loss: pixels of all images are never there at once.
        self.stack.backward((logits * gradients).sum(dim=(1, 2, 3, 4)) / len(tokens))
        return losses.mean(dim=1)

    def _batch_normalised(self, patches: Tensor) -> Tensor:
        flat = patches.flatten(0, 1)
        mean, variance = flat.mean(dim=0), flat.var(dim=0, unbiased=False)
        unbiased = variance * (len(flat) / max(1, len(flat) - 1))
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(unbiased, MOMENTUM)
        return (patches - mean) / (variance + EPS).sqrt()

    def _linear(self, patches: Tensor) -> Tensor:
        """Patches [B, h * w, D] -> logits [S, B, C, h, w]."""
        w = self.stack.weights
        weight, bias = w[WEIGHT][..., 0, 0], w[BIAS]
        if self.batch_norm:
            bias = bias + (weight @ w[SHIFT][..., None])[..., 0]
            weight = weight * w[SCALE][:, None]
        S, C, D = weight.shape
        out = patches.reshape(-1, D) @ weight.reshape(S * C, D).T
        out = out.view(len(patches), self.grid.height, self.grid.width, S, C) + bias
        return out.permute(3, 0, 4, 1, 2)

    def probe(self, index: int) -> DenseProbe:
        """One setting as a probe of its own."""
        statistics = {MEAN: self.mean.clone(), VARIANCE: self.variance.clone()} if self.batch_norm else {}
        return DenseProbe({**self.stack.setting(index), **statistics}, self.grid)


class DenseProbe(nn.Module):
    """One frozen probe, tokens [B, N, D] -> logits [B, C, h, w]. Its state dict has the official names."""

    def __init__(self, tensors: Mapping[str, Tensor], grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        num_classes, channels = tensors[WEIGHT].shape[:2]
        self.conv = nn.Conv2d(channels, num_classes, 1, device="meta")
        self.conv.load_state_dict({"weight": tensors[WEIGHT], "bias": tensors[BIAS]}, assign=True)
        self.batchnorm_layer: nn.BatchNorm2d | None = None
        if SCALE in tensors:
            self.batchnorm_layer = nn.BatchNorm2d(channels, eps=EPS, device="meta")
            named = {name.partition(".")[2]: tensors[name] for name in (SCALE, SHIFT, MEAN, VARIANCE)}
            self.batchnorm_layer.load_state_dict(named | {"num_batches_tracked": torch.tensor(0)}, assign=True)
        self.requires_grad_(False).eval()

    def forward(self, tokens: Tensor) -> Tensor:
        patches = self.grid.patches(tokens)
        maps = patches.transpose(1, 2).reshape(len(patches), -1, self.grid.height, self.grid.width)
        logits: Tensor = self.conv(maps if self.batchnorm_layer is None else self.batchnorm_layer(maps))
        return logits


@torch.no_grad()
def label_map(logits: Tensor, size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """The most likely class of every pixel, int32 [H, W], of logits [C, h, w] brought to this size.

    A tie goes to the class with the lowest number. A few rows at a time: logits of a large image fill the memory.
    """
    C, height, width = logits.shape
    rows, columns = (
        interpolation(old, new, device=logits.device) for old, new in zip((height, width), size, strict=True)
    )
    wide = logits @ columns.T
    most = _CPU_VALUES if logits.device.type == "cpu" else _GPU_VALUES
    at_once = max(1, most // (C * size[1]))
    parts = [(rows[start : start + at_once] @ wide).argmax(dim=0) for start in range(0, size[0], at_once)]
    return torch.cat(parts).to(torch.int32).cpu().numpy()
