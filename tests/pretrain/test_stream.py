"""Digits without end: the same draws give the same clips, and two clips of a draw show the same video."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.digits import image_pool
from bench.pretrain.stream import DigitStream


@pytest.mark.parametrize("two_clips", [False, True])
def test_a_draw_gives_the_same_clip_whatever_came_before(two_clips: bool) -> None:
    stream = DigitStream(two_clips=two_clips, seed=3)
    first, second = stream.batches([range(30, 40), range(100, 104)])
    (alone,) = stream.batches([[101, 33]])
    clips = 2 if two_clips else 1
    assert first.pixels.shape == (10 * clips, 8, 16, 16, 3)
    assert torch.equal(alone.pixels[0], second.pixels[1])
    assert torch.equal(alone.pixels[1], first.pixels[3])
    assert first.ids[3] == alone.ids[1] == "digits/33"
    if two_clips:
        assert torch.equal(alone.pixels[2], second.pixels[5])
        assert not torch.equal(alone.pixels[0], alone.pixels[2])


def test_another_seed_gives_other_clips_and_no_two_draws_are_equal() -> None:
    one, two = (next(DigitStream(two_clips=False, seed=seed).batches([range(64)])).pixels for seed in (0, 1))
    assert not torch.equal(one, two)
    assert len(torch.unique(one.flatten(1), dim=0)) == 64


def test_clips_look_like_those_that_encoders_are_judged_on() -> None:
    """Same brightness and noise as the training split of the task, whose files are of the same images."""
    pixels = next(DigitStream(two_clips=False, seed=0).batches([range(512)])).pixels.float()
    assert torch.equal(pixels[..., 0], pixels[..., 2])
    assert 80 < pixels.mean() < 115
    noise = (pixels[:, 1:] - pixels[:, :-1]).std() / np.sqrt(2)
    assert 0.08 * 255 < noise < 0.14 * 255


def test_only_training_images_are_drawn() -> None:
    stream = DigitStream(two_clips=False, seed=0)
    test_images = {image.tobytes() for image in image_pool("test").images}
    assert not test_images & {image.tobytes() for image in stream._pool.images}


def test_clips_of_a_larger_frame_step_move_faster() -> None:
    slow, fast = (
        next(DigitStream(two_clips=False, seed=0, frame_step=step).batches([range(256)])).pixels.float()
        for step in (1, 2)
    )
    moved = [(clips[:, 3] - clips[:, 0]).square().mean() for clips in (slow, fast)]
    assert moved[1] > 1.1 * moved[0]
