"""Classification of videos and of still images: one label for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.cards.load import ClipProtocol, ProbeCard, TaskCard, replace
from bench.core.errors import BenchError
from bench.data.sample import Sample, Splits
from bench.encoders import EncoderFacts
from bench.metrics.accuracy import ClassAnswers, class_answers
from bench.probing.objectives import Objective, OneLabel
from bench.tasks.clips import (
    augmented,
    clip_plan,
    needs_held_out_clips,
    not_augmented,
    pace_words,
    square_clips,
    square_words,
    training_clips,
)
from bench.tasks.kind import RunPlan, TaskKind, ViewSet, layer_words, layers_read
from bench.tasks.options import RunOptions
from bench.video.image_frames import is_still


class Classification(TaskKind):
    """One label for each video or image, at test the mean of what a probe says of its views."""

    def check_recipe(self, task: TaskCard, recipe: ProbeCard) -> None:
        """As TaskKind."""
        if recipe.boxes or recipe.masks:
            what = f"recipe {recipe.name} reads {'boxes' if recipe.boxes else 'masks'}, and task {task.name} has none"
            raise BenchError(what, where="--probe", fix="give one for clips, such as attentive")

    def settle(self, task: TaskCard, options: RunOptions, splits: Splits) -> TaskCard:
        """A custom task is about images where its lists hold nothing else. Raises BenchError for settings that mean
        nothing for images."""
        if options.task == "custom" and all(is_still(sample.path) for sample in (*splits.train, *splits.test)):
            task = replace(task, {"media": "image"}, "--task custom")
        if task.media == "image":
            usual = ClipProtocol()
            for name in ("step", "fps", "duration_s", "segments", "views", "sampling"):
                if (value := getattr(task.clip, name)) != getattr(usual, name):
                    what = f"clip.{name} {value} means nothing for images"
                    raise BenchError(what, where=f"task {task.name}", fix="drop it")
        return task

    def views(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, options: RunOptions) -> ViewSet:
        """As TaskKind."""
        test = clip_plan(task.clip, facts, options, task.media)
        facts.grid(*test.clip_shape)
        one_view = clip_plan(task.clip.model_copy(update={"views": 1}), facts, options, task.media)
        trained_on = training_clips(task, one_view)
        policy = "official-image" if task.media == "image" else "official-video"
        official = recipe.augmentation == "official"
        train = augmented(trained_on, policy) if official else not_augmented(task, recipe, trained_on)  # type: ignore[arg-type]
        return ViewSet(train, one_view if needs_held_out_clips(recipe) else None, test)

    def objective(self, plan: RunPlan, samples: Sequence[Sample]) -> OneLabel:
        """As TaskKind."""
        labels = np.array([sample.label for sample in samples], dtype=np.int64)
        groups = tuple(sample.group_name for sample in samples)
        return OneLabel(labels, len(plan.splits.class_names), groups if len(set(groups)) < len(groups) else None)

    def input_words(self, plan: RunPlan) -> str:
        """As TaskKind; of images `224px image`."""
        clips = square_clips(plan.test_clips)
        if plan.task.media == "image":
            repeated = f" x{clips.frames_per_clip}" if clips.frames_per_clip > 1 else ""
            return f"{clips.size}px image{repeated}"
        return pace_words(clips.frames_per_clip, f"{clips.size}px", clips)

    def unusual_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return [*square_words(plan.test_clips), *plan.task.clip.normalisation, *layers_read(plan.facts)]

    def reading_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind: segments x views and how they are drawn."""
        clip = plan.task.clip
        words = ["image"] if plan.task.media == "image" else [f"{clip.segments}x{clip.views}", clip.sampling]
        return words + ([] if clip.attend_across_segments else ["clips apart"])

    def protocol_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return layer_words(plan)

    def answers(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[np.float32]) -> ClassAnswers:
        """As TaskKind."""
        return class_answers(
            samples=[sample.id for sample in samples],
            labels=[sample.label for sample in samples],
            probabilities=outputs,
            groups=[sample.group_name for sample in samples],
        )

    def counts(self, objective: Objective) -> Mapping[str, NDArray[np.int64]]:
        """As TaskKind."""
        return {"class": np.bincount(objective.targets, minlength=objective.num_outputs)}
