"""Probes of every token: the class of each pixel of a still image, from the logits of the tokens around it.

One linear layer on each token of a grid, after batch normalisation or none; the logits are brought to the size of a
mask by bilinear interpolation (corners not aligned). The loss is the cross-entropy summed over the pixels with a class
and divided by the number of all pixels, void ones among them. Names of tensors, loss and batch normalisation are those
of dinov3 6876159 `dinov3/eval/segmentation`.

Shapes: S settings, B images, N tokens on a grid of h x w, row by row, D channels, C classes; H x W pixels of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.metrics.iou import VOID
from bench.probing.weights import Stack

SCALE, SHIFT = "batchnorm_layer.weight", "batchnorm_layer.bias"
MEAN, VARIANCE = "batchnorm_layer.running_mean", "batchnorm_layer.running_var"
WEIGHT, BIAS = "conv.weight", "conv.bias"
EPS, MOMENTUM = 1e-5, 0.1
"""Epsilon and momentum of the batch normalisation: torch's own."""
_CPU_VALUES = 1 << 22
"""Logits of pixels that are held at once on a CPU: what its caches nearly hold."""
_GPU_VALUES = 1 << 26

Size = tuple[int, int]
"""Height and width."""


def initial_weights(channels: int, num_classes: int, *, batch_norm: bool, seed: int) -> dict[str, Tensor]:
    """Normal weights of deviation 0.01 drawn from `seed`, zero biases, and scales of 1."""
    values = np.random.RandomState(seed).standard_normal((num_classes, channels, 1, 1)) * 0.01
    weights = {WEIGHT: torch.from_numpy(values.astype(np.float32)), BIAS: torch.zeros(num_classes)}
    return weights | ({SCALE: torch.ones(channels), SHIFT: torch.zeros(channels)} if batch_norm else {})


def tensor_shapes(channels: int, num_classes: int, *, batch_norm: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of a trained probe and their shapes."""
    shapes: dict[str, tuple[int, ...]] = {WEIGHT: (num_classes, channels, 1, 1), BIAS: (num_classes,)}
    return shapes | (dict.fromkeys((SCALE, SHIFT, MEAN, VARIANCE), (channels,)) if batch_norm else {})


def as_maps(logits: Tensor, grid: Size) -> Tensor:
    """Logits [..., N, C] of the tokens of a grid -> [..., C, h, w]."""
    columns = logits.transpose(-1, -2)
    return columns.reshape(*columns.shape[:-1], *grid)


def mask_losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [S, B] of logits [S, B, C, h, w] on masks [B, H, W], and their gradients by the logits.

    An image's loss is the cross-entropy summed over its pixels with a class, divided by the number of all its pixels.
    """
    S, B, C = logits.shape[:3]
    height, width = masks.shape[1:]
    flat, wanted = logits.detach().flatten(0, 1), masks.long()
    losses, gradients = flat.new_empty(S * B), torch.empty_like(flat)
    rows, columns = _sides(logits, (height, width))
    size = max(1, _values_at_once(flat) // (C * height * width))
    for start in range(0, S * B, size):
        part = slice(start, min(start + size, S * B))
        leaf = flat[part].requires_grad_()
        chosen = wanted[torch.arange(part.start, part.stop, device=flat.device) % B]
        pixels = F.cross_entropy(rows @ (leaf @ columns.T), chosen, ignore_index=VOID, reduction="none")
        loss = pixels.sum(dim=(1, 2)) / (height * width)
        (gradients[part],) = torch.autograd.grad(loss.sum(), leaf)
        losses[part] = loss.detach()
    return losses.view(S, B), gradients.view_as(logits)


@torch.no_grad()
def label_map(logits: Tensor, size: Size) -> npt.NDArray[np.int32]:
    """The most likely class of every pixel, int32 [H, W], of logits [C, h, w] brought to this size.

    A tie goes to the class with the lowest number. A few rows at a time: logits of a large image fill the memory.
    """
    rows, columns = _sides(logits, size)
    wide = logits @ columns.T
    at_once = max(1, _values_at_once(logits) // (len(logits) * size[1]))
    parts = [(rows[start : start + at_once] @ wide).argmax(dim=0) for start in range(0, size[0], at_once)]
    return torch.cat(parts).to(torch.int32).cpu().numpy()


def _sides(logits: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """The matrices [H, h] and [W, w] that bring maps [..., h, w] to a size, as torch's bilinear interpolation does.

    Products of matrices have gradients that are the same from run to run on a GPU as well.
    """
    eyes = (torch.eye(old, device=logits.device)[None] for old in logits.shape[-2:])
    made = [
        F.interpolate(eye, size=new, mode="linear", align_corners=False)[0].T.contiguous()
        for eye, new in zip(eyes, size, strict=True)
    ]
    return made[0], made[1]


def _values_at_once(logits: Tensor) -> int:
    return _CPU_VALUES if logits.device.type == "cpu" else _GPU_VALUES


class DenseSweep:
    """S probes that share their initial weights and see the same images, and so the same running statistics."""

    def __init__(
        self, initial: Mapping[str, Tensor], num_settings: int, grid: Size, masks: Callable[[Tensor], Tensor]
    ) -> None:
        """`masks` gives those of numbered images [B], int [B, H, W] on the device of the numbers."""
        self.stack = Stack(initial, num_settings)
        self.grid = grid
        self._masks = masks
        self._batch_norm = SCALE in initial
        channels = initial[WEIGHT].shape[1]
        self.mean = torch.zeros(channels, device=self.stack.values.device)
        self.variance = torch.ones(channels, device=self.stack.values.device)

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, N, C], by the running statistics."""
        x = tokens.float()
        return self._linear((x - self.mean) / (self.variance + EPS).sqrt() if self._batch_norm else x)

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D] of the images `targets` [B]; return the
        losses [S].

        Where there is batch normalisation, it is by the statistics of these images, which move the running ones.
        """
        x = tokens.float()
        logits = self._linear(self._normalised(x) if self._batch_norm else x)
        losses, gradients = mask_losses(as_maps(logits, self.grid), self._masks(targets))
        # A sum whose gradient by the weights is that of the mean loss: pixels of all images are never there at once.
        surrogate = as_maps(logits, self.grid) * gradients
        self.stack.backward(surrogate.sum(dim=(1, 2, 3, 4)) / len(tokens))
        return losses.mean(dim=1)

    def _normalised(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        mean, variance = flat.mean(dim=0), flat.var(dim=0, unbiased=False)
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(variance * (len(flat) / max(1, len(flat) - 1)), MOMENTUM)
        return (x - mean) / (variance + EPS).sqrt()

    def _linear(self, x: Tensor) -> Tensor:
        """Normalised tokens [B, N, D] -> logits [S, B, N, C]."""
        w = self.stack.weights
        weight, bias = w[WEIGHT][..., 0, 0], w[BIAS]
        if self._batch_norm:
            bias = bias + (weight @ w[SHIFT][..., None])[..., 0]
            weight = weight * w[SCALE][:, None]
        S, C, D = weight.shape
        out = (x.reshape(-1, D) @ weight.reshape(S * C, D).T).view(*x.shape[:2], S, C) + bias
        return out.permute(2, 0, 1, 3)

    def probe(self, index: int) -> DenseProbe:
        """One setting as a probe of its own."""
        statistics = {MEAN: self.mean.clone(), VARIANCE: self.variance.clone()} if self._batch_norm else {}
        return DenseProbe({**self.stack.setting(index), **statistics})


class DenseProbe(nn.Module):
    """One frozen probe, tokens [B, N, D] -> logits [B, N, C] of each. Its state dict has the official names."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.token_scale = 1.0
        """A power of two that tokens are multiplied by first; 1 for probes of tokens of ordinary size."""
        for name, tensor in tensors.items():
            folder, leaf = name.split(".")
            if not hasattr(self, folder):
                self.add_module(folder, nn.Module())
            self.get_submodule(folder).register_parameter(leaf, nn.Parameter(tensor.detach(), requires_grad=False))
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        w = dict(self.named_parameters())
        x = tokens.float() if self.token_scale == 1 else tokens.float() * self.token_scale
        if SCALE in w:
            x = (x - w[MEAN]) / (w[VARIANCE] + EPS).sqrt() * w[SCALE] + w[SHIFT]
        return F.linear(x, w[WEIGHT][..., 0, 0], w[BIAS])
