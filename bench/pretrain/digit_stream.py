"""The embedded digits as training clips, drawn without end from the training images (see `bench.data.digits`).

Shapes: V videos of a batch, C clips, T frames, S pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.digits import MOTIONS, NUM_FRAMES, image_pool, render_clips
from bench.pretrain.stream import Batch

_BLOCK = 32
"""Draws that are rendered together: one after another takes four times as long."""
_VIDEO_FRAMES = 16
"""Shown frames of the video that two clips of 8 are cut from: they may lie apart."""
_CLIPS = 0
"""Ends the seeds of the clips: other random choices of a run, which count from the same seed, have other streams."""


class DigitStream:
    """Digits that nobody has seen before: motion, place, size, angle and noise of every draw are new. A ClipStream."""

    num_videos: int | None = None

    def __init__(self, *, two_clips: bool, seed: int, frame_step: int = 1) -> None:
        self._pool = image_pool("train")
        self._two_clips, self._seed, self._frame_step = two_clips, seed, frame_step

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Batches of clips uint8 [C, 8, 16, 16, 3]."""
        rendered: dict[int, NDArray[np.uint8]] = {}
        for draws in wanted:
            needed = {draw // _BLOCK for draw in draws}
            rendered = {number: rendered[number] if number in rendered else self._block(number) for number in needed}
            videos = np.stack([rendered[draw // _BLOCK][draw % _BLOCK] for draw in draws])  # [V, 1 or 2, T, S, S]
            clips = np.concatenate(list(videos.swapaxes(0, 1)))  # all first clips, then all second ones
            pixels = torch.from_numpy(clips)[..., None].expand(-1, -1, -1, -1, 3)
            yield Batch(pixels, [f"digits/{draw}" for draw in draws])

    def _block(self, number: int) -> NDArray[np.uint8]:
        """The clips of _BLOCK draws, which are rendered together: [_BLOCK, 1 or 2, T, S, S]."""
        rng = np.random.RandomState([self._seed, number & 0xFFFFFFFF, number >> 32, _CLIPS])
        images = self._pool.images[rng.randint(len(self._pool.images), size=_BLOCK)]
        motions = rng.randint(len(MOTIONS), size=_BLOCK)
        if not self._two_clips:
            return self._render(rng, images, motions, NUM_FRAMES)[:, None]
        videos = self._render(rng, images, motions, _VIDEO_FRAMES)
        starts = rng.randint(_VIDEO_FRAMES - NUM_FRAMES + 1, size=(_BLOCK, 2))
        frames = starts[..., None] + np.arange(NUM_FRAMES)  # [_BLOCK, 2, T]
        return np.asarray(videos[np.arange(_BLOCK)[:, None, None], frames])

    def _render(
        self, rng: np.random.RandomState, images: NDArray[np.float32], motions: NDArray[np.int64], num_frames: int
    ) -> NDArray[np.uint8]:
        return render_clips(rng, images, motions, num_frames=num_frames, frame_step=self._frame_step)
