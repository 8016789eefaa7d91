"""How frozen encoders compute: softmax attention that is fast in bf16 on a CPU too, and modules under torch.compile.

PyTorch's CPU kernel of attention takes as long in bf16 as in fp32. There, slices of queries are multiplied with all
keys at once: two plain matrix products, which run at the full bf16 rate of the processor, around a softmax that is
summed in fp32. Only a slice of the [n, n] scores is in memory at a time.

A compiled module takes batches of one size: any other size would be compiled anew, which takes minutes.

Shapes: B clips, h heads, n tokens, d channels of a head; b clips of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError

SHORT = 256
"""Tokens up to which PyTorch's own kernel is used everywhere: there is little to gain."""
_SCORES = 1 << 22
"""Numbers in the scores of a slice: 8 MiB, about what the caches of a processor hold."""
_LEAST_ROWS = 64
"""Queries of a slice at least: products of fewer rows lose their speed."""
_FAST_BF16 = bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(d)) value: three times [B, h, n, d] -> [B, h, n, d]."""
    if query.shape[2] > SHORT and slices(query.device, query.dtype) and not query.requires_grad:
        mixed: Tensor = sliced_attention(query, key, value)
        return mixed
    return F.scaled_dot_product_attention(query, key, value)


def slices(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `attend` takes long sequences in slices here, which rounds otherwise than PyTorch's kernel does."""
    return _FAST_BF16 and device.type == "cpu" and dtype == torch.bfloat16


@torch.library.custom_op("bench::sliced_attention", mutates_args=())
def sliced_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attend` in slices of queries, without gradients. One operation to torch.compile, which would unroll the loop."""
    B, h, n, d = query.shape
    queries = (query * d**-0.5).reshape(B * h, n, d).contiguous()
    keys = key.reshape(B * h, n, d).contiguous().transpose(1, 2)
    values = value.reshape(B * h, n, d).contiguous()
    mixed = torch.empty_like(queries)
    rows = max(_LEAST_ROWS, _SCORES // (B * h * n))
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        mixed[:, part] = torch.bmm(torch.bmm(queries[:, part], keys).softmax(dim=-1), values)
    return mixed.view(B, h, n, d)


@sliced_attention.register_fake
def _shape_of_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return query.new_empty(query.shape)


class CompiledModule:
    """Calls `module`, and its method `layers` if it has one, compiled for the shapes that it is called with first."""

    def __init__(self, module: nn.Module, batch_size: int) -> None:
        self._batch_size = batch_size
        self._forward = torch.compile(module, dynamic=False)
        layers: Any = getattr(module, "layers", None)
        self._layers: Any = layers and torch.compile(layers, dynamic=False)

    def __call__(self, clips: Tensor) -> Tensor:
        """As the module: clips [b, ...] -> tokens [b, ...]. Raises BenchError where it cannot be compiled."""
        tokens: Tensor = self._called(self._forward, clips)[: len(clips)]
        return tokens

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """As the module's."""
        tokens = self._called(lambda batch: self._layers(batch, tuple(out_layers)), clips)
        return [layer[: len(clips)] for layer in tokens]

    def _called(self, call: Callable[[Tensor], Any], clips: Tensor) -> Any:
        """The last clips of a list are filled up to a batch."""
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        missing = self._batch_size - len(clips)
        batch = torch.cat([clips, clips.new_zeros(missing, *clips.shape[1:])]) if missing > 0 else clips
        try:
            return call(batch)
        except torch.cuda.OutOfMemoryError:
            self._batch_size = max(1, len(batch) // 2)  # as the caller, which then gives half as many
            raise
        except TorchDynamoException as error:
            raise BenchError(
                f"the encoder cannot be compiled: {_reason(error)}",
                where="--compile",
                fix="say --compile off; on a CPU it takes a C++ compiler such as g++",
            ) from error


def _reason(error: Exception) -> str:
    """The first line of what went wrong underneath."""
    inner = getattr(error, "inner_exception", None) or error
    return next((line.strip() for line in str(inner).splitlines() if line.strip()), type(inner).__name__)
