"""Room on the disk: sizes for people, and the refusal of features that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.core.errors import BenchError


def token_bytes(embed_dim: int, token_bits: int) -> int:
    """Size of one stored token: fp16, or 8 bits a channel and a scale (bench.features.eight_bit)."""
    return embed_dim + 4 if token_bits == 8 else 2 * embed_dim


def check_space(folder: Path, num_bytes: int) -> None:
    """Raise BenchError where `num_bytes` of features do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise BenchError(
            f"the features take {human_bytes(num_bytes)}, and {human_bytes(free)} are free",
            where=str(folder),
            fix="free some space, choose another disk with --cache, --token-bits 8, or a subset with --limit",
        )


def human_bytes(count: float) -> str:
    """A size for people: `3.1 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
