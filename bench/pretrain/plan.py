"""From what the user asked to what a pretraining run will do: every choice is made and checked before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from bench.cards.load import load_task
from bench.core import machine as environment
from bench.core.distributed import World, world_from_environment
from bench.core.errors import BenchError, nearest
from bench.core.files import cache_folder, writable_folder
from bench.core.hashing import text_digest
from bench.core.types import Precision
from bench.data.dataset import load_splits
from bench.data.sample import ListOptions
from bench.encoders.vjepa import VitConfig
from bench.pretrain.logs import FILE_NAME as LOG_NAME
from bench.pretrain.objectives import sample_masks
from bench.pretrain.presets import MASKED, Preset, load_preset, override
from bench.pretrain.state import encoder_config, head_config
from bench.pretrain.stream import ClipStream, DigitStream, VideoFile, VideoStream, check_first, find_videos
from bench.records.curve import CSV_NAME, PNG_NAME, SVG_NAME
from bench.video.pretrain_views import TrainingPlan

LATEST = "latest.pth.tar"
PRESET = "preset.yaml"
WRITTEN = (LATEST, PRESET, "epoch*.pth.tar", LOG_NAME, CSV_NAME, SVG_NAME, PNG_NAME)
"""What a run writes into its folder."""
PROBE_TASKS = ("digits-motion", "digits-appearance")
_DIGIT_CLIP = (8, 16)
"""Frames and pixels of a clip of the embedded digits."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What a user can ask of a pretraining run. The names are those of the command line."""

    preset: str
    out: Path
    data: str | None = None
    root: Path | None = None
    """Folder of the videos, where the list's paths do not start beside the list."""
    resume: bool = False
    device: str = "auto"
    workers: int | None = None
    timeout_s: float = 60.0
    """A video that takes longer to decode is passed over."""
    save_memory: bool = False
    """Compute activations twice instead of keeping them."""
    compile: bool = False
    """Compile the transformer blocks."""
    probe_every: int | None = None
    """Epochs between two scores of the target encoder."""
    probe_task: tuple[str, ...] | None = None
    """Tasks to score on; the digits where empty."""
    probe_data: Path | None = None
    """Folder of the probe tasks' videos."""
    cache: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the preset."""


@dataclass(frozen=True)
class PretrainPlan:
    """Everything that a pretraining run will do."""

    options: PretrainOptions
    preset: Preset
    encoder: VitConfig
    videos: tuple[VideoFile, ...] | None
    """None for the embedded digits."""
    device: str
    precision: Precision
    world: World

    @property
    def out(self) -> Path:
        """Folder of the run."""
        return self.options.out

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.encoder.num_frames, self.encoder.resolution, self.encoder.resolution

    @property
    def data_digest(self) -> str:
        """Identifies the list of videos: SHA-256 of their ids."""
        names = "\n".join(video.id for video in self.videos) if self.videos else "digits"
        return text_digest(names)

    def stream(self) -> ClipStream:
        """The training clips."""
        preset = self.preset
        if self.videos is None:
            two_clips = preset.clips_per_video == 2
            return DigitStream(two_clips=two_clips, seed=preset.seed, frame_step=preset.data.frame_step)
        workers = self.options.workers
        return VideoStream(
            self.videos,
            clip_plan(preset, self.encoder),
            num_workers=environment.default_workers() if workers is None else workers,
            timeout_s=self.options.timeout_s,
            max_failed=preset.data.max_failed,
        )


def clip_plan(preset: Preset, encoder: VitConfig) -> TrainingPlan:
    """The training clips of a video."""
    return TrainingPlan(
        num_clips=preset.clips_per_video,
        num_frames=encoder.num_frames,
        frame_step=preset.data.frame_step,
        pad_short=preset.data.pad_short,
        size=encoder.resolution,
        augmentation=preset.data.augmentation,
        seed=preset.seed,
        decoder="auto",
    )


def make_options(given: Mapping[str, Any]) -> PretrainOptions:
    """Options from keyword arguments; an unknown one is an error with the nearest name."""
    known = {f.name for f in fields(PretrainOptions)}
    for key in given:
        if key not in known:
            raise BenchError(f"unknown option '{key}'", fix=nearest(key, known))
    try:
        options = TypeAdapter(PretrainOptions).validate_python({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BenchError(f"{first['msg']}, not {first['input']!r}", where=f"--{name.replace('_', '-')}") from error
    if str(given.get("out", "")) in ("", "."):
        raise BenchError("no folder given", where="--out", fix="name a folder of its own, such as runs/mine")
    paths = {name: getattr(options, name) for name in ("out", "root", "probe_data", "cache")}
    return replace(options, **{name: path.expanduser() for name, path in paths.items() if path})


def make_plan(options: PretrainOptions) -> PretrainPlan:
    """Resolve and check the options. Raises BenchError for whatever does not fit together."""
    check_numbers(options)
    preset = override(load_preset(options.preset), dict(options.settings))
    world = world_from_environment()
    device = environment.choose_device(options.device)
    precision = environment.choose_precision(preset.precision, device)
    if precision == "fp16":  # an old GPU: half precision would need its loss scaled
        precision = "fp32"
    preset = override(preset, {"precision": precision})
    if world.size > 1 and device == "cuda":
        device = f"cuda:{world.local_rank}"
    encoder = encoder_config(preset)
    head_config(preset, encoder)
    if preset.options.target_layers > encoder.depth:
        raise BenchError(
            f"targets from {preset.options.target_layers} layers, the encoder has {encoder.depth}",
            where="options.target_layers",
            fix="choose fewer",
        )
    check_masks(preset, encoder)
    check_batches(preset, world)
    check_probes(options)
    videos = _videos(options, preset, encoder)
    if world.first:
        check_folder(options)
    writable_folder(options.out, option="--out")
    return PretrainPlan(options, preset, encoder, videos, device, precision, world)


def check_numbers(options: PretrainOptions) -> None:
    """Raises BenchError for a number of workers or seconds that is none."""
    if options.workers is not None and options.workers < 0:
        raise BenchError(f"--workers {options.workers} is too small", fix="at least 0")
    if not (math.isfinite(options.timeout_s) and options.timeout_s > 0):
        raise BenchError(f"--timeout-s {options.timeout_s} is no time", fix="give seconds above 0, such as 60")


def check_folder(options: PretrainOptions) -> None:
    """Raises BenchError where another run or someone's file would be overwritten, or no run can be resumed."""
    begun = (options.out / LATEST).exists() or (options.out / PRESET).exists()
    if begun and not options.resume:
        fix = "--resume continues it; or choose another --out"
        raise BenchError("holds a run already", where=str(options.out), fix=fix)
    if options.resume and not begun:
        raise BenchError("holds no run to resume", where=str(options.out), fix="check --out, or drop --resume")
    taken = next((path.name for name in WRITTEN for path in options.out.glob(name) if not options.resume), None)
    if taken:
        what = f"holds '{taken}', which this run would write"
        raise BenchError(what, where=f"--out {options.out}", fix="choose a new folder")
    if begun and not (options.out / LATEST).exists():
        load_preset(str(options.out / PRESET))  # of a run that ended before its first checkpoint, or of someone else


def check_masks(preset: Preset, encoder: VitConfig) -> None:
    """Draw a few batches of masks. Raises BenchError where they leave no context on the preset's grid."""
    if preset.objective in MASKED:
        count = preset.optimisation.micro_batch
        for seed in range(8):
            sample_masks(preset.masks, encoder.native_grid, count, np.random.RandomState(seed))


def check_batches(preset: Preset, world: World) -> None:
    """Raises BenchError where the processes cannot share the micro-batches of a step equally."""
    recipe = preset.optimisation
    if recipe.micro_batches % world.size:
        raise BenchError(
            f"{world.size} processes cannot share the {recipe.micro_batches} micro-batches of a step equally "
            f"(global batch {recipe.global_batch}, micro-batch {recipe.micro_batch})",
            where="world size",
            fix="start a number of processes that divides them, or --set micro_batch=...",
        )


def check_probes(options: PretrainOptions) -> None:
    """Raises BenchError where the encoder cannot be scored as asked: no such task, or not its data."""
    if options.probe_every is None:
        if options.probe_task or options.probe_data:
            raise BenchError("nothing is scored without --probe-every", where="--probe-task", fix="add --probe-every N")
        return
    if options.probe_every < 1:
        raise BenchError(f"--probe-every {options.probe_every} is no number of epochs", fix="give 1 or more")
    for task in options.probe_task or PROBE_TASKS:
        try:
            load_splits(load_task(task), ListOptions(options.probe_data, None, None), cache_folder(options.cache))
        except BenchError as error:
            where = f"--probe-task {task}: {error.where}" if error.where else f"--probe-task {task}"
            raise BenchError(error.what, where=where, fix="check --probe-task and --probe-data") from error


def _videos(options: PretrainOptions, preset: Preset, encoder: VitConfig) -> tuple[VideoFile, ...] | None:
    """The videos to train on; none for the embedded digits."""
    source = options.data or preset.data.source
    if source is None:
        raise BenchError(
            f"preset {preset.name} needs videos", where="--data", fix="give a list, a folder, a card, or digits"
        )
    if source == "digits":
        asked = (encoder.num_frames, encoder.resolution)
        if asked != _DIGIT_CLIP:
            raise BenchError(
                f"the embedded digits are clips of 8 frames, 16 pixels; preset {preset.name} asks for "
                f"{asked[0]} frames, {asked[1]} pixels",
                where="--data digits",
                fix="use preset nano or demo, or name videos",
            )
        return None
    videos = tuple(find_videos(Path(source).expanduser(), options.root))
    wanted = preset.optimisation.global_batch // preset.clips_per_video
    if wanted > len(videos):
        raise BenchError(
            f"a step takes {wanted} videos, the data has {len(videos)}",
            where="--data",
            fix="name more videos, or lower --set global_batch=... --set micro_batch=...",
        )
    check_first(videos, clip_plan(preset, encoder))
    return videos
