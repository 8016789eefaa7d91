"""From what the user asked to what will be done: every choice of a run is made here, before anything heavy starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.cards.load import ProbeCard, TaskCard, load_recipe, load_task, override, replace, with_clip
from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import cache_folder
from bench.core.progress import Reporter, Silent
from bench.data.dataset import subset
from bench.data.missing_files import SplitFiles, look_for_files, refuse_missing
from bench.data.sample import ListOptions, Sample, Splits
from bench.data.staging import local_lists
from bench.encoders import EncoderFacts
from bench.pipeline.variants import check_controls, check_labels
from bench.probing import attentive
from bench.probing.given import GivenProbe, describe_given
from bench.probing.objectives import OneLabel
from bench.probing.pooled import check_neighbours
from bench.tasks.kind import RunPlan, TaskKind, chosen_encoder
from bench.tasks.kinds import kind_of
from bench.tasks.options import RunOptions, check_options, first_precision, section
from bench.video.clip_views import ClipPlan
from bench.video.image_frames import frame_files


def make_plan(
    options: RunOptions,
    reporter: Reporter | None = None,
    *,
    splits: Splits | None = None,
    facts: EncoderFacts | None = None,
) -> RunPlan:
    """Resolve the options: cards, encoder facts, samples, clips. Raises BenchError for whatever does not fit.

    `splits` and `facts` stand in for samples and weights that are not on this machine (bench.pipeline.estimate).
    """
    reporter = reporter or Silent()
    check_options(options)
    device = environment.choose_device(options.device)
    precision = first_precision(options, device)
    task = _task(options)
    kind = kind_of(task)
    recipe = _recipe(kind, options, task)
    cache = cache_folder(options.cache)
    facts = (facts or kind.describe(chosen_encoder(options, task), task)).normalising(task.clip.mean, task.clip.std)
    splits = splits or _samples(kind, options, task, recipe, reporter)
    splits = replace_fields(
        splits,
        train=subset(splits.train, options.limit, seed=0),
        test=subset(splits.test, options.limit, seed=0),
    )
    task = kind.settle(task, options, splits)
    views = kind.views(task, recipe, facts, options)
    plan = RunPlan(
        options=options,
        kind=kind,
        task=task,
        recipe=recipe,
        facts=facts,
        splits=splits,
        train_clips=views.train,
        held_out_clips=views.held_out,
        test_clips=views.test,
        spec=kind.spec(task, recipe, facts, splits),
        cache=cache,
        device=device,
        precision=precision,
    )
    plan = replace_fields(plan, given=_given(plan))
    if recipe.kind == "attentive" and plan.given is None:
        attentive.check_heads(plan.kept_shape[1], plan.probe_heads, where=f"model {facts.name}")
    check_controls(plan)
    check_labels(plan)
    return plan


def _recipe(kind: TaskKind, options: RunOptions, task: TaskCard) -> ProbeCard:
    name, path = kind.recipe_name(options), options.probe_weights
    if path is not None:
        recipe = kind.recipe_of_given(path, load_recipe(name, task))
    else:
        recipe = override(load_recipe(name, task), "probe", section(options.settings, "probe"))
    kind.check_recipe(task, recipe)
    if options.token_bits == 8 and recipe.streaming and path is None:
        what = f"recipe {recipe.name} stores no training tokens: it encodes them anew in every epoch"
        raise BenchError(what, where="--token-bits 8", fix="drop it, or give a recipe that reads the cache")
    return recipe


def _samples(kind: TaskKind, options: RunOptions, task: TaskCard, recipe: ProbeCard, reporter: Reporter) -> Splits:
    where = local_lists(task, ListOptions(options.data, options.train, options.val), options.cache, reporter)
    test_only = options.probe_weights is not None
    return kind.dataset(task, recipe, where, cache_folder(options.cache), reporter, test_only=test_only)


def _given(plan: RunPlan) -> GivenProbe | None:
    options, clips = plan.options, plan.test_clips
    if options.probe_weights is None:
        return None
    return describe_given(
        options.probe_weights,
        options.probe_classes,
        task=plan.task.name,
        class_names=plan.splits.class_names,
        before=plan.kind.given_outputs(plan.splits),
        embed_dim=plan.kept_shape[1],
        num_heads=section(options.settings, "probe").get("num_heads"),
        encoder_heads=plan.facts.num_heads,
        layers=plan.facts.out_layers,
        clip=_clip_facts(plan, clips) if isinstance(clips, ClipPlan) else {},
    )


def _clip_facts(plan: RunPlan, clips: ClipPlan) -> dict[str, Any]:
    """What the encoder sees, as released probes state it."""
    return {
        "frames": plan.facts.shown_frames(clips.frames_per_clip),
        "step": "by time" if clips.fps or clips.duration_s else clips.frame_step,
        "segments": clips.num_segments if plan.task.clip.attend_across_segments else 1,
        "resolution": clips.size,
    }


def _task(options: RunOptions) -> TaskCard:
    task = override(with_clip(load_task(options.task), options.clip), "clip", section(options.settings, "clip"))
    task = override(task, "task", section(options.settings, "task"))
    unknown = [key for key in options.settings if key.partition(".")[0] not in ("probe", "clip", "task", "encoder")]
    if unknown:
        fix = "settings begin with probe., clip., task. or encoder."
        raise BenchError(f"unknown setting '{unknown[0]}'", where="--set", fix=fix)
    if options.task != "custom":
        if options.axis or options.name:
            raise BenchError(f"--axis and --name are for --task custom; card {task.name} has its own")
        return task
    changes = {"axis": options.axis or task.axis, "name": options.name or task.name}
    return replace(task, changes, "--axis, --name")


def check_ready(plan: RunPlan) -> tuple[SplitFiles, ...]:
    """Which files of a plan are there. Raises BenchError where its recipe cannot be trained on so few samples, clips
    are drawn by the second from folders without a rate, or more files are missing than may be."""
    if not plan.given:
        _check_training(plan)
    files = look_for_files(plan.task, plan.splits)
    refuse_missing(plan.task, files, plan.options.max_failed)
    if plan.task.clip.fps or plan.task.clip.duration_s:
        _check_rates(plan, plan.splits.train)
        _check_rates(plan, plan.splits.test)
    return files


def check_all_ready(plans: Sequence[RunPlan]) -> None:
    """Raise as `check_ready` for the first of several plans that is not, before any is begun. The plans of one task
    have the same files, which are looked at once."""
    for plan in {plan.options.task: plan for plan in plans}.values():
        check_ready(plan)


def say_notes(plans: list[RunPlan], reporter: Reporter) -> list[RunPlan]:
    """The same plans; what their records will note of the samples is told, once for each task."""
    for line in dict.fromkeys(f"{plan.task.name}: {note}" for plan in plans for note in plan.splits.notes):
        reporter.say(line)
    return plans


def _check_training(plan: RunPlan) -> None:
    recipe, objective = plan.recipe, plan.kind.objective(plan, plan.splits.train)
    labels = objective.targets
    if isinstance(objective, OneLabel) and len(np.unique(labels)) < 2:
        name = plan.splits.class_names[labels[0]]
        what = f"all {len(labels)} training samples are of one class, '{name}': there is nothing to tell apart"
        raise BenchError(what, where=f"task {plan.task.name}", fix="give training samples of other classes too")
    rows = np.arange(len(labels))
    if recipe.hold_out:
        rows, _ = objective.hold_out(recipe.hold_out.held_out, seed=plan.options.seed)
    check_neighbours(recipe, len(rows), plan.draws("train"))


def _check_rates(plan: RunPlan, samples: Sequence[Sample]) -> None:
    """Refuse folders of frames without a rate where seconds of them are asked for, if they are more than may fail."""
    without = [one for one in samples if not one.fps and Path(one.path).is_dir() and len(frame_files(one.path)) > 1]
    if len(without) > plan.options.max_failed * len(samples):
        count = f"{len(without)} of {len(samples)} samples"
        raise BenchError(
            f"{count} are folders of frames without a rate, and clips are drawn by the second; first '{without[0].id}'",
            where=f"task {plan.task.name}",
            fix="count in frames with --set clip.step=N, or make videos of them with `bench data prepare --fps`",
        )
