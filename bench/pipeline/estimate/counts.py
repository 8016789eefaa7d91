"""What a run does, counted: videos, clips, bytes, optimiser steps. Exact, as far as all videos can be read.

Videos of the same bytes are counted one by one here, and encoded once by a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.pipeline.controls import other_orders
from bench.pipeline.fewer_labels import DRAWS, draw_rows
from bench.pipeline.plan import RunPlan
from bench.probing.loop import make_plan
from bench.probing.split import Rows, stratified_split
from bench.probing.train import group_size

PartName = Literal["train", "held-out", "test"]


@dataclass(frozen=True)
class Part:
    """Videos that are decoded and encoded in one way."""

    name: PartName
    videos: int
    """Decoded: once for each draw, epoch and frame order."""
    clips_per_video: int
    """Segments times views."""
    streamed: bool = False
    """Whether they are encoded while a probe is trained, by the one process that trains it."""

    @property
    def clips(self) -> int:
        """Encoded."""
        return self.videos * self.clips_per_video


@dataclass(frozen=True)
class Training:
    """One training of probes, all settings on the same steps."""

    settings: int
    samples: int
    steps: int
    batch_size: int
    epochs: int
    scored: int
    """Held-out samples, times their views, that all settings are scored on afterwards."""


@dataclass(frozen=True)
class Work:
    """All of it."""

    parts: tuple[Part, ...]
    trainings: tuple[Training, ...]
    predicted: int
    """Test samples, times their views, or clips where these are classified apart, that a trained probe looks at."""
    pooled: int
    """Samples, times their views, whose tokens are read once before a training on their means or normalised."""
    clip_tokens: int
    """Tokens of one clip."""
    segments: int
    """Clips whose tokens a probe reads jointly."""
    embed_dim: int
    files: int
    """Different video files: each is hashed."""

    @property
    def clips(self) -> int:
        """Encoded in all."""
        return sum(part.clips for part in self.parts)

    @property
    def tokens(self) -> int:
        """Of all clips."""
        return self.clips * self.clip_tokens

    @property
    def clip_bytes(self) -> int:
        """Of the tokens of a clip in the cache, float16."""
        return 2 * self.clip_tokens * self.embed_dim

    @property
    def feature_bytes(self) -> int:
        """Size of the cache."""
        return self.clip_bytes * sum(part.clips for part in self.parts if not part.streamed)

    @property
    def sample_tokens(self) -> int:
        """Tokens that a probe reads of one sample in one view."""
        return self.clip_tokens * self.segments

    @property
    def sample_bytes(self) -> int:
        """Of those, in the cache."""
        return self.clip_bytes * self.segments


def work_of(plan: RunPlan) -> Work:
    """The work of a run that finds nothing in the cache."""
    orders = 1 + len(other_orders(plan))
    labels = np.array([sample.label for sample in plan.splits.train])
    jobs = [labels] * orders + [
        labels[draw_rows(labels, share, draw, plan.options.seed)]
        for share in plan.options.labels
        for draw in range(DRAWS)
    ]
    trainings = [training for job in jobs for training in _trainings(plan, job)]
    test_views = len(plan.splits.test) * plan.test_clips.views * plan.clips_apart
    samples = (*plan.splits.train, *plan.splits.test)
    whole = plan.recipe.kind != "attentive" or normalised(plan)
    return Work(
        parts=_parts(plan, labels, trainings, orders),
        trainings=tuple(trainings),
        # A control is tested twice: by a probe trained alike, and by that of the clips as they are.
        predicted=test_views * (len(jobs) + orders - 1),
        pooled=sum(len(job) for job in jobs) * plan.draws("train") if whole else 0,
        clip_tokens=plan.clip_tokens,
        segments=plan.train_clips.num_segments,
        embed_dim=plan.facts.embed_dim,
        files=len({sample.path for sample in samples}) if plan.options.data else len(samples),
    )


def normalised(plan: RunPlan) -> bool:
    """Whether the training tokens are normalised beforehand and kept in memory."""
    from bench.probing.train import normalised_beforehand

    values = plan.draws("train") * len(plan.splits.train) * plan.clip_tokens * plan.train_clips.num_segments
    return not plan.recipe.streaming and normalised_beforehand(
        plan.recipe, len(plan.splits.train), values * plan.facts.embed_dim, plan.device
    )


def _parts(plan: RunPlan, labels: Rows, trainings: list[Training], orders: int) -> tuple[Part, ...]:
    segments = plan.train_clips.num_segments
    parts = [
        Part("train", sum(t.samples * t.epochs for t in trainings), segments, streamed=True)
        if plan.recipe.streaming
        else Part("train", orders * len(labels) * plan.draws("train"), segments)
    ]
    if plan.held_out_clips and plan.recipe.hold_out:
        _, held_out = stratified_split(labels, plan.recipe.hold_out.held_out, seed=plan.options.seed)
        parts.append(Part("held-out", orders * len(held_out), math.prod(plan.held_out_clips.shape[:2])))
    parts.append(Part("test", orders * len(plan.splits.test), math.prod(plan.test_clips.shape[:2])))
    return tuple(parts)


def _trainings(plan: RunPlan, labels: Rows) -> list[Training]:
    """The trainings on samples of these labels: of the sweep in groups that fit the memory, and of the chosen one."""
    recipe = plan.recipe

    def training(settings: int, samples: int, scored: int) -> Training:
        if recipe.optimisation is None:
            raise ValueError("nothing is trained")
        schedule = make_plan(recipe.optimisation, samples)
        return Training(settings, samples, schedule.steps, schedule.batch_size, schedule.epochs, scored)

    if recipe.selection is None:
        return [training(1, len(labels), 0)]
    if recipe.hold_out is None:
        rest, scored = labels, len(plan.splits.test) * plan.test_clips.views * plan.clips_apart
    else:
        rest, held_out = stratified_split(labels, recipe.hold_out.held_out, seed=plan.options.seed)
        scored = len(held_out) * (plan.clips_apart if plan.held_out_clips else plan.draws("train"))
    together = group_size(recipe, plan.facts.embed_dim, len(plan.splits.class_names), plan.device)
    sizes = [min(together, recipe.num_settings - first) for first in range(0, recipe.num_settings, together)]
    refit = [training(1, len(labels), 0)] if recipe.hold_out and recipe.hold_out.refit else []
    return [training(size, len(rest), scored) for size in sizes] + refit
