"""What a run on boxes will do: a run's plan with key frames in place of clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.cards.load import BoxReading, ProbeCard, TaskCard, load_probe_card, load_recipe, override
from bench.cards.recipe_marks import changed_settings, own_recipe_mark
from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import cache_folder
from bench.core.progress import Reporter
from bench.core.space import token_bytes
from bench.data.dataset import ListOptions, Splits
from bench.data.key_frames import BoxSample, BoxSplits, read_box_splits
from bench.data.staging import local_lists
from bench.encoders import EncoderFacts
from bench.features.regions import box_shape
from bench.metrics.box_scores import unique_names
from bench.pipeline.options import RunOptions, is_measured
from bench.pipeline.plan import RunPlan, check_heads, chosen_encoder, clip_plan
from bench.video.frame_views import KeyFramePlan

DEFAULT_PROBE = "ava-attentive"
"""The recipe of tasks of boxes where the user names none."""


@dataclass(frozen=True, kw_only=True)
class BoxPlan(RunPlan):
    """Everything that a run on boxes will do. A sample of `splits` is a key frame; its label means nothing."""

    boxes: BoxSplits
    key_frames: KeyFramePlan

    @property
    def reading(self) -> BoxReading:
        """What is read of a box."""
        return box_reading(self.recipe)

    @property
    def box_shape(self) -> tuple[int, int]:
        """Tokens and channels of the features of one box."""
        return box_shape(self.facts, self.reading, self.key_frames.frames_per_clip, self.key_frames.short_side)

    @property
    def box_bytes(self) -> int:
        """Size of the features of one box in the cache."""
        num_tokens, channels = self.box_shape
        return token_bytes(channels, self.options.token_bits) * num_tokens

    @property
    def input_name(self) -> str:
        """What the encoder sees and how it computes, such as `16x224px short side, 7.5 fps`."""
        clips = self.key_frames
        pace = f"{clips.fps:g} fps" if clips.fps else f"{clips.duration_s:g} s" if clips.duration_s else None
        unusual: list[str] = [self.precision] if self.precision != "fp32" else []
        unusual += ["8-bit tokens"] if self.options.token_bits == 8 else []
        unusual += ["decord"] if clips.decoder == "decord" else []
        unusual += [clips.interpolation] if clips.interpolation != "opencv-bilinear" else []
        unusual += self.task.clip.normalisation
        shown = "square" if clips.square else "short side"
        size = f"{clips.frames_per_clip}x{clips.short_side}px {shown}"
        return ", ".join([size, pace or f"step {clips.frame_step}", *unusual])

    @property
    def protocol(self) -> str:
        """Name of the measurement: scores are compared only where it is equal."""
        clip, given = self.task.clip, load_probe_card(probe_of(self.options))
        parts = [f"{self.recipe.name}/{self.recipe.version}{own_recipe_mark(given)}"]
        parts += ["detected boxes" if self.reading.test_boxes == "detector" else "ground-truth boxes"]
        parts += [f"step {clip.step}"] if clip.step else []
        parts += [f"{clip.fps:g} fps"] if clip.fps else []
        parts += [f"{clip.duration_s:g} s clips"] if clip.duration_s else []
        parts += clip.normalisation
        parts += [f"{len(self.boxes.actions)} actions"] if len(self.boxes.actions) != self.task.num_classes else []
        parts += [f"limit {self.options.limit}"] if self.options.limit else []
        changed = changed_settings(self.recipe, load_recipe(probe_of(self.options), self.task))
        return " ".join([*parts, *(said for said in changed if not said.startswith("test_boxes="))])


def probe_of(options: RunOptions) -> str:
    """The recipe that is meant: boxes have a default of their own."""
    return DEFAULT_PROBE if options.probe == RunOptions.probe else options.probe


def box_reading(recipe: ProbeCard) -> BoxReading:
    """What a recipe reads of a box. Raises BenchError for a recipe that reads whole clips."""
    if recipe.boxes is None:
        fix = f"give one for boxes: --probe {DEFAULT_PROBE} or ava-paper"
        raise BenchError(f"recipe {recipe.name} reads whole clips, not boxes", where="--probe", fix=fix)
    return recipe.boxes


def make_box_plan(options: RunOptions, task: TaskCard, settings: dict[str, object], reporter: Reporter) -> BoxPlan:
    """Resolve the options of a task of boxes; `settings` are those of the recipe. Raises BenchError for whatever does
    not fit."""
    if options.probe_weights is not None:
        raise BenchError("--probe-weights is for tasks of whole clips", where=f"task {task.name}", fix="drop it")
    for name in ("controls", "labels"):
        if getattr(options, name):
            raise BenchError(f"--{name} is for tasks of whole clips", where=f"task {task.name}", fix="drop it")
    if is_measured(options):  # frames have many shapes, and which is fastest differs with them
        what = "--precision fastest and --compile are for tasks of whole clips"
        raise BenchError(what, where=f"task {task.name}", fix="drop them")
    device = environment.choose_device(options.device)
    precision = environment.choose_precision(options.precision, device)
    recipe = override(load_recipe(probe_of(options), task), "probe", settings)
    reading = box_reading(recipe)
    facts = chosen_encoder(options, task).facts().normalising(task.clip.mean, task.clip.std)
    key_frames = _key_frames(task, facts, options)
    where = local_lists(task, ListOptions(options.data, options.train, options.val), options.cache, reporter)
    boxes = _limited(read_box_splits(task, where, reading, task.clip.starts_s), options.limit)
    if task.clip.starts_s:
        early = next((s for s in (*boxes.train, *boxes.test) if (s.sample.start_s or 0) < 0), None)
        if early:
            what = f"key frame {early.sample.id} lies before second {task.clip.starts_s:g}"
            raise BenchError(what, where="--set clip.starts_s", fix="give the second at which the files begin")
    clips = clip_plan(task.clip, facts, options)
    plan = BoxPlan(
        options=options,
        task=task,
        recipe=recipe,
        facts=facts,
        splits=Splits(
            [sample.sample for sample in boxes.train],
            [sample.sample for sample in boxes.test],
            unique_names(boxes.actions),
        ),
        train_clips=clips,
        held_out_clips=None,
        test_clips=clips,
        cache=cache_folder(options.cache),
        device=device,
        precision=precision,
        boxes=boxes,
        key_frames=key_frames,
    )
    check_heads(plan, plan.box_shape[1])
    return plan


def _key_frames(task: TaskCard, facts: EncoderFacts, options: RunOptions) -> KeyFramePlan:
    clip, spec = task.clip, facts.input_spec
    for name, usual in (("segments", 1), ("views", 1), ("sampling", "center"), ("crop", "official"), ("layers", None)):
        if getattr(clip, name) != usual:
            what = f"clip.{name} {getattr(clip, name)} means nothing for boxes in whole frames"
            raise BenchError(what, where=f"task {task.name}", fix="drop it")
    plan = KeyFramePlan(
        frames_per_clip=clip.frames or spec.num_frames,
        frame_step=clip.step or spec.frame_step,
        fps=clip.fps,
        duration_s=clip.duration_s,
        short_side=clip.resolution or spec.resolution,
        patch_size=facts.patch_size,
        square=facts.fixed_resolution,
        decoder=options.decoder,
        interpolation=spec.interpolation,
    )
    facts.grid(plan.frames_per_clip, plan.short_side, plan.short_side)
    return plan


def _limited(boxes: BoxSplits, limit: int | None) -> BoxSplits:
    """At most `limit` random key frames of each split, in the order of the files."""
    if limit is None:
        return boxes

    def some(samples: list[BoxSample]) -> list[BoxSample]:
        order = np.random.RandomState(0).permutation(len(samples))[:limit]
        return [samples[place] for place in sorted(order)] if limit < len(samples) else samples

    return replace(boxes, train=some(boxes.train), test=some(boxes.test))
