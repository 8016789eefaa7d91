"""An encoder of the user's own is known by what it answers: editing its code makes it another encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.core.token_scale import token_scale
from bench.encoders.contract import Encoder
from bench.encoders.known import moving_clips
from bench.encoders.known_input import known_digest

_ORDINARY_SPREAD = (2.0**-4, 2.0**4)
"""Spread of a token's channels that is left as it is. Narrower than what epsilons and half precision ask for: the
V-JEPA 2 probe adds to the tokens as they are, so that their scale has a meaning to it."""


def known_by_its_answer(encoder: Encoder, code: str) -> Encoder:
    """The encoder with the digest and the scale that its answer to the known clips gives; returns itself.

    `code` is the digest of its source. The clips are `moving_clips`, encoded one by one on its device.
    """
    encoder.token_scale = 1.0  # of what it is made of, which its own now takes the place of
    with full_precision():
        tokens = torch.cat([encoder(clip[None]) for clip in moving_clips(encoder.input_spec)]).nan_to_num()
    encoder.report["known_input"] = known_digest(tokens[:2])
    answer = f"{encoder.report['known_input']} {known_digest(tokens[2:])}"
    return encoder.known_by(answer, code, token_scale(tokens[:2], _ORDINARY_SPREAD))


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 within: an answer must be the same on a CPU and on a GPU up to the last bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
