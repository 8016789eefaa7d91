"""Small clips that were decoded before in this process: several encoders look at the same ones, one after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bench.video.clip_views import VideoItem, Views
from bench.video.loader import LoadedClips, load_clips

_MOST_BYTES = 64 << 20
"""Memory for all remembered clips together; larger sets are decoded for each encoder."""

_decoded: dict[tuple[Views, str], LoadedClips] = {}


def remembered_clips(
    items: Mapping[str, VideoItem], plan: Views, *, num_workers: int, timeout_s: float
) -> Iterator[LoadedClips]:
    """As `load_clips`, for items by a key that names their content; what was decoded before is not decoded again."""
    known = {key: _decoded[plan, key] for key in items if (plan, key) in _decoded}
    rest = [item for key, item in items.items() if key not in known]
    room = _MOST_BYTES - sum(clips.pixels.numel() for clips in _decoded.values() if clips.pixels is not None)
    keep = len(rest) * _num_bytes(plan) <= room
    fresh = load_clips(rest, plan, num_workers=num_workers, timeout_s=timeout_s) if rest else iter(())
    for key in items:
        clips = known.get(key) or next(fresh)
        if keep and clips.pixels is not None:
            _decoded[plan, key] = clips
        yield clips


def forget_clips() -> None:
    """Give the memory back."""
    _decoded.clear()


def _num_bytes(plan: Views) -> int:
    return math.prod(plan.shape)
