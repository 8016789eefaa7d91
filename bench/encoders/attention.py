"""Softmax attention of frozen encoders: PyTorch's own, and a faster one where that one is slow, in bf16 on a CPU.

PyTorch's CPU kernel takes as long in bf16 as in fp32. There, slices of queries are multiplied with all keys at once:
two plain matrix products, which run at the full bf16 rate of the processor, around a softmax that is summed in fp32.
Only a slice of the [n, n] scores is in memory at a time.

Shapes: B clips, h heads, n tokens, d channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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
