"""Anticipation: which verb, noun and action comes next in a long video (EPIC-KITCHENS-100). A sample's label is its
action, its clip ends some time before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.cards.load import Anticipation as Question
from bench.cards.load import ProbeCard, TaskCard
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.data.actions import ActionSplits, load_actions
from bench.data.sample import ListOptions, Sample, Splits
from bench.encoders import Choice, Encoder, EncoderFacts
from bench.encoders.predictor import describe_with_predictor, load_with_predictor, steps_ahead
from bench.metrics.recall import RankedAnswers, ranked_answers
from bench.probing.actions import HEADS, ActionClasses
from bench.probing.objectives import NextAction, Objective
from bench.tasks.clips import augmented, clip_plan, needs_held_out_clips, pace_words, square_clips, square_words
from bench.tasks.kind import RunPlan, TaskKind, ViewSet, chosen_encoder, layer_words, layers_read
from bench.tasks.options import RunOptions
from bench.video.clips import Ending


class Anticipation(TaskKind):
    """Verb, noun and action of what comes next; the probe has a query for each."""

    def check_recipe(self, task: TaskCard, recipe: ProbeCard) -> None:
        """Raise BenchError for a recipe that has no three queries."""
        wrong = ""
        if recipe.kind != "attentive":
            wrong = f"is a {recipe.kind} probe, and verb, noun and action each have a query of an attentive one"
        elif recipe.boxes is not None:
            wrong = "reads boxes, and the clips before an action are read whole"
        if wrong:
            fix = "give an attentive one: --probe attentive or ek100-paper"
            raise BenchError(f"recipe {recipe.name} {wrong}", where="--probe", fix=fix)
        if _question(task).tokens != "encoder" and (recipe.train_views > 1 or recipe.augmentation != "none"):
            what = "several training views draw" if recipe.train_views > 1 else "augmented training clips draw"
            raise BenchError(
                f"the predictor looks the same time ahead in every clip, and {what} it",
                where=f"recipe {recipe.name}",
                fix="give --set probe.train_views=1 and probe.augmentation=none, or --set clip.tokens=encoder",
            )

    def describe(self, choice: Choice, task: TaskCard) -> EncoderFacts:
        """What is known of the encoder, or of encoder and predictor where the protocol reads both."""
        facts = super().describe(choice, task)
        question = _question(task)
        if question.tokens == "encoder":
            return facts
        if task.clip.layers:
            what = "the predictor sees the tokens of the last layer, and clip.layers names others"
            raise BenchError(what, where=f"task {task.name}", fix="drop clip.layers, or --set clip.tokens=encoder")
        spec = facts.input_spec
        size = task.clip.resolution or spec.resolution
        grid = facts.grid(task.clip.frames or spec.num_frames, size, size)
        return describe_with_predictor(choice, grid, _steps_ahead(task, facts))

    def load(self, plan: RunPlan) -> Encoder:
        """The encoder, with its predictor where the protocol reads both."""
        if _question(plan.task).tokens == "encoder":
            return super().load(plan)
        grid = plan.facts.grid(*plan.test_clips.clip_shape)
        choice, ahead = chosen_encoder(plan.options, plan.task), _steps_ahead(plan.task, plan.facts)
        return load_with_predictor(choice, grid, ahead, plan.device).to(plan.device, plan.precision)

    def dataset(
        self, task: TaskCard, recipe: ProbeCard, where: ListOptions, cache: Path, reporter: Reporter, *, test_only: bool
    ) -> Splits:
        """As TaskKind; the actions are taken from both lists."""
        splits = load_actions(task, where)
        return replace(splits, train=[]) if test_only else splits

    def views(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, options: RunOptions) -> ViewSet:
        """As TaskKind: clips that end before actions, those of training at drawn times where several are seen."""
        question = _question(task)
        ending = Ending(question.seconds, question.anchor, by_number=question.times == "frame-numbers")
        test = replace(clip_plan(task.clip, facts, options), ending=ending)
        one_view = replace(clip_plan(task.clip.model_copy(update={"views": 1}), facts, options), ending=ending)
        official = recipe.augmentation == "official"
        trained_on = replace(one_view, ending=replace(ending, drawn=official or recipe.train_views > 1))
        train = augmented(trained_on, "official-actions") if official else trained_on
        return ViewSet(train, one_view if needs_held_out_clips(recipe) else None, test)

    def objective(self, plan: RunPlan, samples: Sequence[Sample]) -> NextAction:
        """As TaskKind."""
        labels = np.array([sample.label for sample in samples], dtype=np.int64)
        return NextAction(labels, tuple(sample.path for sample in samples), action_classes(plan.splits))

    def given_outputs(self, splits: Splits) -> tuple[int, ...]:
        """Verbs and nouns."""
        return action_classes(splits).sizes[:-1]

    def input_words(self, plan: RunPlan) -> str:
        """As TaskKind."""
        clips = square_clips(plan.test_clips)
        return pace_words(clips.frames_per_clip, f"{clips.size}px", clips)

    def unusual_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return [*square_words(plan.test_clips), *plan.task.clip.normalisation, *layers_read(plan.facts)]

    def reading_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return [f"{plan.task.clip.segments}x{plan.task.clip.views}", plan.task.clip.sampling]

    def protocol_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return layer_words(plan)

    def question_words(self, plan: RunPlan) -> list[str]:
        """Words for what is to be anticipated, and how long before it a clip ends."""
        question = _question(plan.task)
        words = [f"{question.seconds:g} s {question.anchor}"]
        words += [question.times] if question.times != "timestamps" else []
        words += ["unseen left out"] if question.unseen != "counted" else []
        return words + (["with predictor"] if question.tokens != "encoder" else [])

    def answers(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[np.float32]) -> RankedAnswers:
        """As TaskKind."""
        classes = action_classes(plan.splits)
        labels = classes.labels(torch.tensor([sample.label for sample in samples]))
        parts = np.split(outputs, np.cumsum(classes.sizes)[:-1], axis=1)
        heads = {head: (truth.numpy(), said) for head, truth, said in zip(HEADS, labels, parts, strict=True)}
        return ranked_answers([sample.id for sample in samples], [sample.path for sample in samples], heads)

    def counts(self, objective: Objective) -> Mapping[str, NDArray[np.int64]]:
        """As TaskKind."""
        if not isinstance(objective, NextAction):
            raise ValueError("no actions")
        classes = objective.classes
        labels = zip(HEADS, classes.sizes, classes.labels(torch.from_numpy(objective.targets)), strict=True)
        return {head: np.bincount(truth.numpy(), minlength=size) for head, size, truth in labels}

    def more_notes(self, plan: RunPlan) -> list[str]:
        """Test actions that cannot be foreseen, and those that are left out."""
        notes, splits = [], plan.splits
        unseen = {sample.label for sample in splits.test} - {sample.label for sample in splits.train}
        if unseen and not plan.given:
            count = sum(sample.label in unseen for sample in splits.test)
            notes.append(f"{count} test actions are of {len(unseen)} pairs of verb and noun that are never trained on")
        left_out = _actions(splits).num_left_out
        if left_out:
            notes.append(f"{left_out} test actions left out: no training sample has their verb and noun")
        return notes

    def probe_facts(self, plan: RunPlan) -> dict[str, str]:
        """The verb and the noun of each action."""
        return {"actions": json.dumps(_actions(plan.splits).pairs)}


def _question(task: TaskCard) -> Question:
    """What a task of anticipation asks."""
    if task.clip.anticipation is None:
        raise ValueError(f"{task.name} is no task of anticipation")
    return task.clip.anticipation


def _steps_ahead(task: TaskCard, facts: EncoderFacts) -> int:
    return steps_ahead(_question(task).seconds, task.clip.fps or 0.0, facts.tubelet_size)


def _actions(splits: Splits) -> ActionSplits:
    if not isinstance(splits, ActionSplits):
        raise ValueError("no samples of actions")
    return splits


def action_classes(splits: Splits) -> ActionClasses:
    """The classes that a probe of verbs, nouns and actions distinguishes."""
    actions = _actions(splits)
    return ActionClasses(len(actions.verb_names), len(actions.noun_names), actions.pairs)
