"""From the clip protocol of a card to clips: completed by what the encoder's weights were made for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from bench.cards.load import ClipProtocol, ProbeCard, TaskCard
from bench.core.errors import BenchError
from bench.encoders import EncoderFacts
from bench.tasks.options import RunOptions
from bench.video.clip_views import ClipPlan, Paced, Views
from bench.video.train_views import Policy, TrainViews
from bench.video.views import OFFICIAL_CROP

_MOST_PIXELS = 1 << 32
"""Most pixels of one sample: 13 GB of bytes. Papers show a probe up to some 20 million."""


def clip_plan(
    clip: ClipProtocol, facts: EncoderFacts, options: RunOptions, media: Literal["video", "image"] = "video"
) -> ClipPlan:
    """The clip protocol of a card, completed by what the encoder's weights were made for.

    Images are a clip of one frame, which the encoder repeats as its weights want, unless the card says how often. They
    are resized as torchvision does, where the weights do not say more (protocol.md 3.4).
    """
    spec = facts.input_spec
    image = media == "image"
    size = clip.resolution or spec.resolution
    frames = clip.frames or (1 if image else spec.num_frames)
    pixels = clip.segments * clip.views * frames * size**2
    if pixels > _MOST_PIXELS:
        raise BenchError(
            f"{clip.segments} x {clip.views} clips of {frames} frames, {size} px are {pixels:,} pixels a sample",
            where="clip",
            fix="lower clip.segments, clip.views, clip.frames or clip.resolution",
        )
    short_side = None if spec.crop == OFFICIAL_CROP else math.floor(size / spec.crop)
    return ClipPlan(
        frames_per_clip=frames,
        frame_step=clip.step or (1 if image else spec.frame_step),
        num_segments=clip.segments,
        views=clip.views,
        size=size,
        sampling="center" if image else clip.sampling,
        seed=options.seed,
        # Several views show the full short side anyway, and squashed they would all be the same.
        short_side=None if clip.views > 1 else size if clip.crop == "full" else short_side,
        decoder=options.decoder,
        interpolation="bilinear" if image and spec.interpolation == "opencv-bilinear" else spec.interpolation,
        squash=spec.squash and clip.views == 1,
        fps=clip.fps,
        duration_s=clip.duration_s,
    )


def training_clips(task: TaskCard, clips: ClipPlan) -> ClipPlan:
    """These clips as a probe is trained on: a single one of each video where segments are classified one by one."""
    return clips if task.clip.attend_across_segments else replace(clips, num_segments=1)


def augmented(clips: ClipPlan, policy: Policy) -> TrainViews:
    """The official training views of the size of these clips."""
    return TrainViews(
        frames_per_clip=clips.frames_per_clip,
        frame_step=clips.frame_step,
        num_segments=clips.num_segments,
        size=clips.size,
        policy=policy,
        seed=clips.seed,
        decoder=clips.decoder,
        fps=clips.fps,
        duration_s=clips.duration_s,
        ending=clips.ending,
    )


def not_augmented(task: TaskCard, recipe: ProbeCard, clips: ClipPlan) -> ClipPlan:
    """Training clips without augmentation: those of the middle, or at random positions where there are several."""
    several = recipe.train_views > 1 and task.media == "video"
    return replace(clips, sampling="random" if several else "center")


def needs_held_out_clips(recipe: ProbeCard) -> bool:
    """Whether a setting is chosen on other clips than those that are trained on."""
    return recipe.hold_out is not None and (recipe.streaming or recipe.augmentation == "official")


def square_clips(views: Views) -> ClipPlan:
    """Views that are clips of whole videos."""
    if not isinstance(views, ClipPlan):
        raise ValueError("not clips of whole videos")
    return views


def square_words(views: Views) -> list[str]:
    """What is unusual about how clips are resized."""
    clips = square_clips(views)
    unusual = [f"short side {clips.short_side}px"] if clips.short_side not in (None, clips.size) else []
    return [*unusual, "squashed"] if clips.squash else unusual


def pace_words(frames: int, shown: str, clips: Paced) -> str:
    """Frames, what is shown of them and how far they lie apart, such as `16x224px step 4`."""
    pace = f"{clips.fps:g} fps" if clips.fps else f"{clips.duration_s:g} s" if clips.duration_s else None
    return f"{frames}x{shown} {pace or f'step {clips.frame_step}'}"
