"""From what the user asked to what will be done: every choice of a run is made here, before anything heavy starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Literal

from bench.cards.layers import layers_name
from bench.cards.load import (
    ClipProtocol,
    ProbeCard,
    TaskCard,
    load_probe_card,
    load_recipe,
    load_task,
    override,
    replace,
    with_clip,
)
from bench.cards.recipe_marks import changed_settings, own_recipe_mark
from bench.core import machine as environment
from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.core.files import cache_folder
from bench.core.progress import Reporter, Silent
from bench.core.remote import remote_cache
from bench.data.dataset import ListOptions, Splits, load_splits, subset
from bench.data.staging import local_folder, local_lists
from bench.encoders import Choice, Encoder, EncoderFacts, Precision
from bench.encoders.layers import layers_as_named, reading
from bench.encoders.stated import stated_settings
from bench.pipeline.controls import check_controls
from bench.pipeline.encoder_check import load_checked
from bench.pipeline.fewer_labels import check_labels
from bench.pipeline.options import RunOptions, check_options, first_precision, section
from bench.probing import attentive
from bench.probing.given import GivenProbe, describe_given
from bench.video.clip_views import ClipPlan
from bench.video.readers import is_still
from bench.video.train_views import TrainViews
from bench.video.views import OFFICIAL_CROP


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything that a run will do."""

    options: RunOptions
    task: TaskCard
    recipe: ProbeCard
    facts: EncoderFacts
    splits: Splits
    train_clips: ClipPlan | TrainViews
    held_out_clips: ClipPlan | None
    """What a setting is chosen on: held-out training samples in one view, drawn as test clips are. None where they are
    looked at as they are trained on, or nothing is chosen."""
    test_clips: ClipPlan
    cache: Path
    device: str
    precision: Precision
    given: GivenProbe | None = None
    """The probe that is scored without training; the recipe and the training split then mean nothing."""
    world: World = field(default_factory=World)
    """The processes that carry it out, this one among them."""

    @property
    def remote_cache(self) -> str | None:
        """The address of the cache, where it has one; `cache` is then its local part."""
        return remote_cache(self.options.cache)

    @property
    def data_folder(self) -> Path | None:
        """The folder of the data; the local one that stands for it, where it is remote."""
        return local_folder(self.options.data, self.cache)

    def load_encoder(self) -> Encoder:
        """The plan's encoder on its device, in its precision, as the plan's facts say."""
        encoder = load_checked(chosen_encoder(self.options, self.task), self.device, self.precision)
        if self.given and encoder.token_scale != 1 and self.given.encoder != encoder.digest:
            encoder = encoder.unscaled()
        return encoder.as_planned(self.facts)

    @property
    def probe_name(self) -> str:
        """Name of the recipe, or of the given probe."""
        return self.given.name if self.given else self.recipe.name

    @property
    def clips_apart(self) -> int:
        """Clips of a test view that a probe classifies one by one; 1 where it reads the tokens of all jointly."""
        return 1 if self.task.clip.attend_across_segments else self.test_clips.num_segments

    @property
    def probe_heads(self) -> int:
        """Attention heads of an attentive probe: as its recipe says, or else the encoder."""
        return self.recipe.num_heads or self.facts.num_heads

    def draws(self, split: Literal["train", "test"]) -> int:
        """Clips (times segments) of each video of a split in the cache, each at a position of its own."""
        return self.recipe.train_views if split == "train" else 1

    @property
    def clip_tokens(self) -> int:
        """Tokens of one clip, of all layers that the probe reads."""
        plan = self.test_clips
        return self.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)

    @property
    def input_name(self) -> str:
        """What the encoder sees and how it computes, such as `16x224px step 4, bf16`."""
        clips = self.test_clips
        unusual: list[str] = [self.precision] if self.precision != "fp32" else []
        unusual += ["8-bit tokens"] if self.options.token_bits == 8 else []
        unusual += ["decord"] if clips.decoder == "decord" else []
        usual = "bilinear" if self.task.media == "image" else "opencv-bilinear"
        unusual += [clips.interpolation] if clips.interpolation != usual else []
        unusual += [f"short side {clips.short_side}px"] if clips.short_side not in (None, clips.size) else []
        unusual += ["squashed"] if clips.squash else []
        unusual += self.task.clip.normalisation
        unusual += [layers_name(self.facts.out_layers)] if self.facts.out_layers else []
        if self.task.media == "image":
            repeated = f" x{clips.frames_per_clip}" if clips.frames_per_clip > 1 else ""
            return ", ".join([f"{clips.size}px image{repeated}", *unusual])
        pace = f"step {clips.frame_step}"
        pace = f"{clips.fps:g} fps" if clips.fps else f"{clips.duration_s:g} s" if clips.duration_s else pace
        return ", ".join([f"{clips.frames_per_clip}x{clips.size}px {pace}", *unusual])

    @property
    def protocol(self) -> str:
        """Name of the measurement: scores are compared only where it is equal."""
        clip = self.task.clip
        recipe = f"{self.recipe.name}/{self.recipe.version}{own_recipe_mark(load_probe_card(self.options.probe))}"
        parts = [self.given.name if self.given else recipe]
        parts += ["image"] if self.task.media == "image" else [f"{clip.segments}x{clip.views}", clip.sampling]
        parts += [] if clip.attend_across_segments else ["clips apart"]
        parts += [f"step {clip.step}"] if clip.step else []
        parts += [f"{clip.fps:g} fps"] if clip.fps else []
        parts += [f"{clip.duration_s:g} s clips"] if clip.duration_s else []
        parts += [f"{clip.crop} crop"] if clip.crop != "official" else []
        parts += clip.normalisation
        choices = (choice.layers for choice in (clip, *self.task.clips.values()))
        parts += [layers_name(layers_as_named(self.facts, choices))] if self.facts.out_layers else []
        parts += [f"limit {self.options.limit}"] if self.options.limit else []
        return " ".join([*parts, *changed_settings(self.recipe, load_recipe(self.options.probe, self.task))])


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
    if task.data == "boxes":
        from bench.tasks.boxes.plan import make_box_plan  # it builds on this module

        return make_box_plan(options, task, section(options.settings, "probe"), reporter)
    if task.data == "actions":
        from bench.tasks.anticipation.plan import make_anticipation_plan  # it builds on this module

        return make_anticipation_plan(options, task, section(options.settings, "probe"), reporter)
    changes = {} if options.probe_weights else section(options.settings, "probe")
    recipe = override(load_recipe(options.probe, task), "probe", changes)
    if recipe.boxes is not None:
        what = f"recipe {recipe.name} reads boxes, and task {task.name} has none"
        raise BenchError(what, where="--probe", fix="give one for clips, such as attentive")
    if options.token_bits == 8 and recipe.streaming and options.probe_weights is None:
        what = f"recipe {recipe.name} stores no training tokens: it encodes them anew in every epoch"
        raise BenchError(what, where="--token-bits 8", fix="drop it, or give a recipe that reads the cache")
    facts = reading(facts or chosen_encoder(options, task).facts(), task.clip.layers)
    facts = facts.normalising(task.clip.mean, task.clip.std)
    cache = cache_folder(options.cache)
    where = ListOptions(options.data, options.train, options.val)
    splits = splits or load_splits(
        task,
        local_lists(task, where, options.cache, reporter),
        cache,
        lambda done, total: reporter.stage("making the digits", done, total),
        test_only=options.probe_weights is not None,
    )
    splits = replace_fields(
        splits,
        train=subset(splits.train, options.limit, seed=0),
        test=subset(splits.test, options.limit, seed=0),
    )
    task = _with_media(task, options, splits)
    test_clips = clip_plan(task.clip, facts, options, task.media)
    facts.grid(test_clips.frames_per_clip, test_clips.size, test_clips.size)
    given = _given(options, task, splits, facts, test_clips)
    augmented = recipe.augmentation == "official"
    one_view = clip_plan(task.clip.model_copy(update={"views": 1}), facts, options, task.media)
    trained_on = one_view if task.clip.attend_across_segments else replace_fields(one_view, num_segments=1)
    plan = RunPlan(
        options=options,
        task=task,
        recipe=recipe,
        facts=facts,
        splits=splits,
        train_clips=_augmented(task, trained_on) if augmented else _still(task, recipe, trained_on),
        held_out_clips=one_view if recipe.hold_out and (augmented or recipe.streaming) else None,
        test_clips=test_clips,
        cache=cache,
        device=device,
        precision=precision,
        given=given,
    )
    check_heads(plan, facts.embed_dim)
    check_controls(plan)
    check_labels(plan)
    return plan


def check_heads(plan: RunPlan, width: int) -> None:
    """Raise BenchError where an attentive probe that is to be trained cannot have its heads on tokens of this width."""
    if plan.recipe.kind == "attentive" and plan.given is None:
        attentive.check_heads(width, plan.probe_heads, where=f"model {plan.facts.name}")


def chosen_encoder(options: RunOptions, task: TaskCard) -> Choice:
    """The encoder of a run: its file read as the user states, built for the resolution of the clips."""
    return Choice(options.model, stated_settings(options.settings), task.clip.resolution)


def _given(
    options: RunOptions, task: TaskCard, splits: Splits, facts: EncoderFacts, clips: ClipPlan
) -> GivenProbe | None:
    if options.probe_weights is None:
        return None
    return describe_given(
        options.probe_weights,
        options.probe_classes,
        task=task.name,
        class_names=splits.class_names,
        embed_dim=facts.embed_dim,
        num_heads=section(options.settings, "probe").get("num_heads"),
        encoder_heads=facts.num_heads,
        layers=facts.out_layers,
        clip={
            "frames": facts.shown_frames(clips.frames_per_clip),
            "step": "by time" if clips.fps or clips.duration_s else clips.frame_step,
            "segments": clips.num_segments if task.clip.attend_across_segments else 1,
            "resolution": clips.size,
        },
    )


def _augmented(task: TaskCard, clips: ClipPlan) -> TrainViews:
    """The official training views of a task, of the size of these clips."""
    return TrainViews(
        frames_per_clip=clips.frames_per_clip,
        frame_step=clips.frame_step,
        num_segments=clips.num_segments,
        size=clips.size,
        policy="official-image" if task.media == "image" else "official-video",
        seed=clips.seed,
        decoder=clips.decoder,
        fps=clips.fps,
        duration_s=clips.duration_s,
    )


def _still(task: TaskCard, recipe: ProbeCard, clips: ClipPlan) -> ClipPlan:
    """Training clips without augmentation: those of the middle, or at random positions where there are several."""
    several = recipe.train_views > 1 and task.media == "video"
    return replace_fields(clips, sampling="random" if several else "center")


_MOST_PIXELS = 1 << 32
"""Of one sample: 13 GB of bytes. Papers show a probe up to some 20 million."""


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


def _with_media(task: TaskCard, options: RunOptions, splits: Splits) -> TaskCard:
    """The task; a custom one is about images where its lists hold nothing else.

    Raises BenchError for settings that mean nothing for images.
    """
    if options.task == "custom" and all(is_still(sample.path) for sample in (*splits.train, *splits.test)):
        task = replace(task, {"media": "image"}, "--task custom")
    if task.media == "image":
        usual = ClipProtocol()
        for name in ("step", "fps", "duration_s", "segments", "views", "sampling"):
            if (value := getattr(task.clip, name)) != getattr(usual, name):
                raise BenchError(
                    f"clip.{name} {value} means nothing for images", where=f"task {task.name}", fix="drop it"
                )
    return task


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
