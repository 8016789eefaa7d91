"""Tokens in 8 bits: a whole number from -127 to 127 for each channel, and one scale for each token.

A token x is kept as q = round(x / s) with s = max |x| / 127, and read as q * s: at most s / 2 from what it was, and
then rounded to fp16. The largest channel comes back as it was, and so does a token of zeros (s = 0). Scales are fp32:
those of small tokens would vanish in fp16.

All of one view lies together, scales first, so that both are read without steps. Numpy reads such a file as an array of
records, with fields `scales` and `values`.

Shapes: b samples, n items, V views, N tokens of a view, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGEST = 127
_AT_ONCE = 1 << 19
"""Values that are unpacked at once: in fp32 they stay in the caches between the three steps."""

Records = NDArray[np.void]


def packed(tokens: NDArray[np.float16]) -> Records:
    """Finite tokens [n, V, N, D] as one record for each view, [n, V]."""
    n, V, N, D = tokens.shape
    records = np.empty((n, V), _record(N, D))
    for item, record in zip(tokens, records, strict=True):
        scales, steps = _steps(torch.from_numpy(item).float())
        record["scales"], record["values"] = scales.squeeze(-1).numpy(), steps.to(torch.int8).numpy()
    return records


def rounded(tokens: Tensor) -> Tensor:
    """What is left of tokens [..., D], float32, that are kept in 8 bits."""
    scales, steps = _steps(tokens)
    return steps * scales


def _steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """The scales [..., 1] of tokens [..., D], and their whole numbers [..., D]; both float32."""
    scales = x.abs().amax(dim=-1, keepdim=True) / LARGEST
    return scales, (x / scales.where(scales > 0, 1.0)).round_()


def _record(num_tokens: int, embed_dim: int) -> np.dtype[np.void]:
    return np.dtype([("scales", "<f4", (num_tokens,)), ("values", "i1", (num_tokens, embed_dim))])


def are_records(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this type is one that `packed` gives."""
    if dtype.names != ("scales", "values") or len(dtype["values"].shape) != 2:
        return False
    return dtype == _record(*dtype["values"].shape)


def token_shape(stored: NDArray[Any]) -> tuple[int, ...]:
    """The shape of the tokens in an array of records, or of fp16."""
    return stored.shape if stored.dtype.names is None else stored["values"].shape


def unpacked(views: Sequence[Records], num_tokens: int, embed_dim: int) -> Tensor:
    """The tokens [b, N, D], fp16, of b views, each a record [1]."""
    # NumPy asks for large pages, which torch does not: a fresh batch is filled several times as fast.
    out = torch.from_numpy(np.empty((len(views), num_tokens, embed_dim), np.float16))
    together = max(1, _AT_ONCE // (num_tokens * embed_dim))
    buffer = torch.empty(max(together * num_tokens, 1), embed_dim)
    for start in range(0, len(views), together):
        some = views[start : start + together]
        # With small views, a statement for each costs more than a copy of their bytes.
        joined = some[0] if len(some) == 1 else np.concatenate([view.view(np.uint8) for view in some])
        records = joined.view(_record(num_tokens, embed_dim))
        _unpack(records, out[start : start + together].flatten(0, 1), buffer)
    return out


def _unpack(records: Records, out: Tensor, buffer: Tensor) -> None:
    """Records [b] -> fp16 tokens `out` [b * N, D], a part of them at a time in the fp32 `buffer` [m, D]."""
    D = out.shape[1]
    scales = torch.from_numpy(np.array(records["scales"])).view(-1, 1)  # a copy: records of odd sizes are not aligned
    values = torch.from_numpy(np.ascontiguousarray(records["values"])).view(-1, D)
    rows = max(1, _AT_ONCE // D)
    for start in range(0, len(out), rows):
        part = slice(start, start + rows)
        x = buffer[: len(out[part])].copy_(values[part]).mul_(scales[part])
        out[part].copy_(x)
