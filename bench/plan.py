"""From what the user asked to what will be done: every choice of a run is made here, before anything heavy starts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from bench import environment
from bench.annotations.splits import ListOptions, Splits, load_splits, subset
from bench.cards import (
    Axis,
    ClipProtocol,
    ProbeCard,
    TaskCard,
    load_probe_card,
    load_recipe,
    load_task,
    override,
    probe_names,
    replace,
    with_clip,
)
from bench.checkup import load_checked
from bench.controls import check_controls, read_orders
from bench.distributed import World
from bench.encoders import Choice, Encoder, EncoderFacts, Precision
from bench.encoders.stated import stated_settings
from bench.errors import BenchError, nearest
from bench.fewer_labels import check_labels, read_shares
from bench.files import cache_folder
from bench.layers import layers_as_named, layers_name, reading
from bench.probing import attentive
from bench.probing.given import GivenProbe, describe_given
from bench.progress import Reporter, Silent
from bench.remote.staging import local_folder, local_lists
from bench.remote.urls import remote_cache, remote_url
from bench.scores.records import FrameOrder
from bench.video.decode import check_decoder
from bench.video.plans import ClipPlan
from bench.video.readers import is_still
from bench.video.training import TrainViews
from bench.video.views import OFFICIAL_CROP

Decoder = Literal["auto", "decord", "pyav"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user can ask of a run. The names are those of the command line."""

    task: str = "digits-motion"
    model: str = "random"
    probe: str = "attentive"
    probe_weights: Path | None = None
    """A probe that is scored as it is; none is trained."""
    probe_classes: Path | None = None
    """Names of that probe's classes, in its order."""
    data: Path | None = None
    train: Path | None = None
    val: Path | None = None
    axis: Axis | None = None
    name: str | None = None
    """Name of a custom task on the leaderboard."""
    clip: str | None = None
    """Which of the card's clip protocols, by its name in `clips`."""
    cache: Path | None = None
    results: Path = Path("results")
    device: str = "auto"
    precision: str = "auto"
    """`fastest`: what this machine is measured to be fastest in."""
    compile: Literal["off", "auto", "on"] = "off"
    """Whether the encoder runs under torch.compile; `auto`: where it is measured to be faster."""
    token_bits: Literal[8, 16] = 16
    """Size of a channel of a stored token: 8 bits have one scale for each token (bench.features.eight_bit)."""
    decoder: Decoder = "auto"
    workers: int | None = None
    batch_size: int | None = None
    timeout_s: float = 60.0
    """A video that takes longer to decode is a failed sample."""
    seed: int = 0
    limit: int | None = None
    max_failed: float = 0.01
    """Largest share of unreadable samples of a split, 0 to 1."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`probe.KEY`, `clip.KEY` and `task.KEY` overrides of the cards; `encoder.KEY` says what a file of weights leaves
    open."""
    controls: Annotated[tuple[FrameOrder, ...], BeforeValidator(read_orders)] = ()
    """Orders of a clip's frames that probes are scored on besides the clips as they are."""
    labels: Annotated[tuple[float, ...], BeforeValidator(read_shares)] = ()
    """Shares of the training samples that probes are trained on besides all, above 0 and below 1."""


def make_options(given: Mapping[str, Any]) -> RunOptions:
    """Options from keyword arguments; an unknown one is an error with the nearest name."""
    known = {f.name for f in fields(RunOptions)}
    for key in given:
        if key not in known:
            raise BenchError(f"unknown option '{key}'", fix=nearest(key, known))
    try:
        options = TypeAdapter(RunOptions).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BenchError(f"{first['msg']}, not {first['input']!r}", where=f"--{name.replace('_', '-')}") from error
    names = ("probe_weights", "probe_classes", "data", "train", "val", "cache", "results")
    paths = {name: getattr(options, name) for name in names}
    if url := remote_url(options.results):
        raise BenchError("records are kept on a local disk", where=f"--results {url}", fix="give a local folder")
    return replace_fields(options, **{name: path.expanduser() for name, path in paths.items() if path})


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


def flat(recipe: ProbeCard) -> dict[str, str]:
    """The fields of a recipe that decide scores, sections dissolved."""
    content = recipe.model_dump(mode="json", exclude={"name", "title", "version", "caveat"})
    if recipe.num_blocks == 1:  # as before there was a choice, so that recipes of a user's own keep their mark
        del content["num_blocks"]
    values: dict[str, str] = {}
    for key, value in content.items():
        for inner, setting in value.items() if isinstance(value, dict) else [(key, value)]:
            values[inner] = ",".join(map(_flat_value, setting)) if isinstance(setting, list) else str(setting)
    return values


def _flat_value(value: Any) -> str:
    """A number, or the values of one setting of a listed sweep."""
    if isinstance(value, dict):
        return "/".join(f"{v:g}" for v in value.values() if v is not None)
    return f"{value:g}"


def changed_settings(recipe: ProbeCard, usual: ProbeCard) -> list[str]:
    """`key=value` of every field of a recipe that decides scores and is not as its card says."""
    ours, theirs = flat(recipe), flat(usual)
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    return [f"{key}={ours.get(key, getattr(recipe, key, None))}" for key in changed]


def own_recipe_mark(recipe: ProbeCard) -> str:
    """What tells a recipe of the user's own from a shipped one, whatever name it bears; empty for those."""
    if recipe.name in probe_names() and flat(load_probe_card(recipe.name)) == flat(recipe):
        return ""
    return "#" + hashlib.sha256(json.dumps(flat(recipe)).encode()).hexdigest()[:6]


def make_plan(
    options: RunOptions,
    reporter: Reporter | None = None,
    *,
    splits: Splits | None = None,
    facts: EncoderFacts | None = None,
) -> RunPlan:
    """Resolve the options: cards, encoder facts, samples, clips. Raises BenchError for whatever does not fit.

    `splits` and `facts` stand in for samples and weights that are not on this machine (bench.estimate).
    """
    reporter = reporter or Silent()
    _check_numbers(options)
    _check_given(options)
    check_decoder(options.decoder)
    device = environment.choose_device(options.device)
    precision = first_precision(options, device)
    task = _task(options)
    if task.data == "boxes":
        from bench.boxes.plan import make_box_plan  # it builds on this module

        return make_box_plan(options, task, _section(options.settings, "probe"), reporter)
    if task.data == "actions":
        from bench.anticipation.plan import make_anticipation_plan  # it builds on this module

        return make_anticipation_plan(options, task, _section(options.settings, "probe"), reporter)
    changes = {} if options.probe_weights else _section(options.settings, "probe")
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
        num_heads=_section(options.settings, "probe").get("num_heads"),
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
    short_side = None if spec.crop == OFFICIAL_CROP else math.floor(size / spec.crop)
    return ClipPlan(
        frames_per_clip=clip.frames or (1 if image else spec.num_frames),
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


def is_measured(options: RunOptions) -> bool:
    """Whether how the encoder computes is settled by measurement when its weights are there (bench.fastest)."""
    return options.precision == "fastest" or options.compile != "off"


def first_precision(options: RunOptions, device: str) -> Precision:
    """The precision until `fastest` has been measured: that of `auto`."""
    wanted = "auto" if options.precision == "fastest" else options.precision
    return environment.choose_precision(wanted, device)


def _task(options: RunOptions) -> TaskCard:
    task = override(with_clip(load_task(options.task), options.clip), "clip", _section(options.settings, "clip"))
    task = override(task, "task", _section(options.settings, "task"))
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


def _section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k.partition(".")[2]: v for k, v in settings.items() if k.partition(".")[0] == name}


def _check_given(options: RunOptions) -> None:
    """A given probe is not trained: what concerns training alone is refused rather than ignored."""
    if options.probe_weights is None:
        if options.probe_classes is not None:
            raise BenchError("--probe-classes is for --probe-weights", fix="drop it, or give the probe's file too")
        return
    useless = [f"--probe {options.probe}"] if options.probe != RunOptions.probe else []
    useless += ["--train"] if options.train else []
    useless += [
        f"--set {key}" for key in options.settings if key.partition(".")[0] == "probe" and key != "probe.num_heads"
    ]
    if useless:
        raise BenchError(f"{useless[0]} means nothing with --probe-weights: nothing is trained", fix="drop one of them")


def _check_numbers(options: RunOptions) -> None:
    lowest = {"limit": 2, "workers": 0, "batch_size": 1, "seed": 0}
    for name, least in lowest.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise BenchError(f"--{name.replace('_', '-')} {value} is too small", fix=f"at least {least}")
    if options.seed >= 2**32:
        raise BenchError(f"--seed {options.seed} is too large", fix="less than 4294967296")
    if not (math.isfinite(options.timeout_s) and options.timeout_s > 0):
        raise BenchError(f"--timeout-s {options.timeout_s} is no time", fix="give seconds above 0, such as 60")
    if not 0 <= options.max_failed <= 1:
        raise BenchError(f"--max-failed {options.max_failed} is not a share", fix="give 0 to 1, such as 0.01")
