"""What a run does, counted: videos, clips, bytes, optimiser steps. Exact, as far as all videos can be read.

Videos of the same bytes are counted one by one here, and encoded once by a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.files import token_bytes
from bench.data.sample import Sample
from bench.pipeline.features import examples_of
from bench.pipeline.variants import DRAWS, draw_rows, other_orders
from bench.probing.loop import make_plan
from bench.probing.objectives import Objective
from bench.probing.train import answers_together, group_size, normalised_beforehand
from bench.tasks.kind import RunPlan
from bench.video.clip_views import Views

PartName = Literal["train", "held-out", "test"]


@dataclass(frozen=True)
class Part:
    """Videos that are decoded and encoded in one way."""

    name: PartName
    videos: int
    """Decoded: once for each draw, epoch and frame order."""
    clips_per_video: int
    """Segments times views."""
    kept: int
    """Features that are kept of all clips: one of each, or one of each box."""
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
    """Tokens of one clip, as the encoder computes them."""
    kept_shape: tuple[int, int]
    """Tokens and channels of what is kept of one clip, or of one of its boxes."""
    segments: int
    """Clips whose tokens a probe reads jointly."""
    token_bits: int
    """Size of a channel of a token in the cache."""
    files: int
    """Different video files: each is hashed."""

    @property
    def clips(self) -> int:
        """Encoded in all."""
        return sum(part.clips for part in self.parts)

    @property
    def tokens(self) -> int:
        """Tokens of all clips."""
        return self.clips * self.clip_tokens

    @property
    def kept_bytes(self) -> int:
        """Size of what the cache keeps of one clip, or of one of its boxes."""
        num_tokens, channels = self.kept_shape
        return token_bytes(channels, self.token_bits) * num_tokens

    @property
    def kept(self) -> int:
        """How many of these are in the cache."""
        return sum(part.kept for part in self.parts if not part.streamed)

    @property
    def feature_bytes(self) -> int:
        """Size of the cache."""
        return self.kept_bytes * self.kept

    @property
    def sample_tokens(self) -> int:
        """Tokens that a probe reads of one example in one view."""
        return self.kept_shape[0] * self.segments

    @property
    def sample_bytes(self) -> int:
        """Size in the cache of what a probe reads of one example in one view."""
        return self.kept_bytes * self.segments


def work_of(plan: RunPlan) -> Work:
    """The work of a run that finds nothing in the cache."""
    orders = 1 + len(other_orders(plan))
    jobs = _objectives(plan, orders)
    trainings = [training for job in jobs for training in _trainings(plan, job)]
    tested = len(examples_of(plan, plan.splits.test)) * plan.test_clips.num_views * plan.clips_apart
    samples = (*plan.splits.train, *plan.splits.test)
    whole = not plan.given and (reads_means(plan) or normalised(plan))
    return Work(
        parts=_parts(plan, trainings, orders),
        trainings=tuple(trainings),
        # A control is tested twice: by a probe trained alike, and by that of the clips as they are.
        predicted=tested * ((len(jobs) or 1) + orders - 1) * len(plan.seeds),
        pooled=sum(len(job.targets) for job in jobs) * plan.draws("train") if whole else 0,
        clip_tokens=plan.clip_tokens,
        kept_shape=plan.kept_shape,
        segments=plan.train_clips.num_segments,
        token_bits=plan.options.token_bits,
        files=len({sample.path for sample in samples}) if plan.options.data else len(samples),
    )


def _objectives(plan: RunPlan, orders: int) -> list[Objective]:
    """What probes are trained for: one a frame order, and one a part of the labels; none for a released probe."""
    if plan.given:
        return []
    whole = plan.kind.objective(plan, plan.splits.train)
    return [whole] * orders + [
        whole.take(draw_rows(whole, share, draw, plan.options.seed))
        for share in plan.options.labels
        for draw in range(DRAWS)
    ]


def reads_means(plan: RunPlan) -> bool:
    """Whether a probe reads the mean of a sample's tokens, taken beforehand."""
    return plan.recipe.kind != "attentive" and not plan.kind.objective(plan, []).as_they_are


def normalised(plan: RunPlan) -> bool:
    """Whether the training tokens are normalised beforehand and kept in memory."""
    num_tokens, channels = plan.kept_shape
    count = len(plan.splits.train)
    values = plan.draws("train") * count * num_tokens * plan.train_clips.num_segments * channels
    as_they_are = plan.kind.objective(plan, []).as_they_are or plan.recipe.streaming
    return not as_they_are and normalised_beforehand(plan.recipe, count, values, plan.device)


def _parts(plan: RunPlan, trainings: Sequence[Training], orders: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    if plan.recipe.streaming and not plan.given:
        seen = sum(one.samples * one.epochs for one in trainings)
        per_item = plan.train_clips.clips_per_item
        parts.append(Part("train", seen, per_item, seen * per_item, streamed=True))
    elif not plan.given:
        parts.append(_part(plan, "train", plan.splits.train, plan.train_clips, orders * plan.draws("train")))
    if plan.held_out_clips and plan.recipe.hold_out and not plan.given:
        objective, owners = plan.kind.objective(plan, plan.splits.train), examples_of(plan, plan.splits.train)
        _, rows = objective.hold_out(plan.recipe.hold_out.held_out, seed=plan.options.seed)
        held_out = [plan.splits.train[number] for number in sorted({owners[row] for row in rows.tolist()})]
        parts.append(_part(plan, "held-out", held_out, plan.held_out_clips, orders))
    parts.append(_part(plan, "test", plan.splits.test, plan.test_clips, orders))
    return tuple(parts)


def _part(plan: RunPlan, name: PartName, samples: Sequence[Sample], views: Views, times: int) -> Part:
    """Samples of which something is kept are encoded `times` over."""
    owners = examples_of(plan, samples)
    per_item = views.clips_per_item
    return Part(name, times * len(set(owners)), per_item, times * len(owners) * per_item)


def _trainings(plan: RunPlan, objective: Objective) -> list[Training]:
    """The trainings on these examples: for each seed, of the sweep in groups that fit the memory and of the chosen one;
    or of all seeds at once."""
    recipe, count = plan.recipe, len(objective.targets)
    if recipe.optimisation is None:
        return []

    def training(settings: int, samples: int, scored: int) -> Training:
        schedule = make_plan(recipe.optimisation, samples)  # type: ignore[arg-type]
        return Training(settings, samples, schedule.steps, schedule.batch_size, schedule.epochs, scored)

    if recipe.selection is None:
        return [training(1, count, 0)] * len(plan.seeds)
    if recipe.hold_out is None:
        scored = len(examples_of(plan, plan.splits.test)) * plan.test_clips.num_views * plan.clips_apart
        trained = count
    else:
        rest, held_out = objective.hold_out(recipe.hold_out.held_out, seed=plan.options.seed)
        scored = len(held_out) * (plan.clips_apart if plan.held_out_clips else plan.draws("train"))
        trained = len(rest)
    if answers_together(recipe, objective):
        return [training(len(plan.seeds) * recipe.num_settings, trained, len(plan.seeds) * scored)]
    together = group_size(recipe, plan.kept_shape[1], objective.num_outputs, plan.device)
    sizes = [min(together, recipe.num_settings - first) for first in range(0, recipe.num_settings, together)]
    refit = [training(1, count, 0)] if recipe.hold_out and recipe.hold_out.refit else []
    return ([training(size, trained, scored) for size in sizes] + refit) * len(plan.seeds)
