"""The known-input digest: the same where only rounding differs, another where the tokens do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.encoders import known_clips, load_encoder
from bench.encoders.known_input import known_digest


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    encoder = load_encoder("random:vit_tiny")
    return encoder(known_clips(encoder.input_spec)[:, :, :4])


def test_it_is_the_same_whatever_threads_and_batches() -> None:
    encoder = load_encoder("random")
    clips = known_clips(encoder.input_spec)
    digests = {known_digest(encoder(clips)), known_digest(torch.cat([encoder(clip[None]) for clip in clips]))}
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        digests.add(known_digest(encoder(clips)))
    torch.set_num_threads(before)
    assert len(digests) == 1
    assert digests == {"714e13c0468f12cb"}, "or the same on every machine"


def test_it_survives_rounding(tokens: Tensor) -> None:
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    moved = [known_digest(tokens + 1e-6 * tokens.std() * noise.roll(shift)) for shift in range(8)]
    assert set(moved) == {known_digest(tokens)}


def test_it_sees_scale_shift_and_order(tokens: Tensor) -> None:
    t, hw = 2, 196
    frames = tokens.unflatten(1, (t, hw))
    changed = {
        "itself": tokens,
        "scale": tokens * 1.5,
        "shift": tokens + 0.3 * tokens.std(),
        "time and place exchanged": frames.transpose(1, 2).flatten(1, 2),
        "frames exchanged": frames.flip(1).flatten(1, 2),
        "clips exchanged": tokens.flip(0),
        "channels exchanged": tokens.flip(2),
        "noise": tokens + 0.1 * tokens.std() * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1)),
    }
    assert len({known_digest(value) for value in changed.values()}) == len(changed)
