"""From what the user asked to what will be done: every choice of a run is made here, before anything heavy starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bench.annotations.splits import ListOptions, Splits, load_splits, subset
from bench.cards import Axis, ClipProtocol, ProbeCard, TaskCard, load_probe_card, load_task, override, replace
from bench.encoders import EncoderFacts, describe_encoder
from bench.errors import BenchError, nearest
from bench.files import cache_folder
from bench.progress import Reporter, Silent
from bench.video.loader import ClipPlan

Decoder = Literal["auto", "decord", "pyav"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user can ask of a run. The names are those of the command line."""

    task: str = "digits-motion"
    model: str = "random"
    probe: str = "attentive"
    data: Path | None = None
    train: Path | None = None
    val: Path | None = None
    axis: Axis | None = None
    name: str | None = None
    """Name of a custom task on the leaderboard."""
    cache: Path | None = None
    results: Path = Path("results")
    device: str = "auto"
    precision: str = "auto"
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
    """`probe.KEY` and `clip.KEY` overrides of the cards."""


def make_options(given: Mapping[str, Any]) -> RunOptions:
    """Options from keyword arguments; an unknown one is an error with the nearest name."""
    known = {f.name for f in fields(RunOptions)}
    for key in given:
        if key not in known:
            raise BenchError(f"unknown option '{key}'", fix=nearest(key, known))
    paths = {k: Path(v).expanduser() for k, v in given.items() if k in _PATHS and v is not None}
    return RunOptions(**{**given, **paths})


_PATHS = ("data", "train", "val", "cache", "results")


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything that a run will do."""

    options: RunOptions
    task: TaskCard
    recipe: ProbeCard
    facts: EncoderFacts
    splits: Splits
    train_clips: ClipPlan
    test_clips: ClipPlan
    cache: Path

    def draws(self, split: Literal["train", "test"]) -> int:
        """Clips (times segments) of each video of a split, each at a position of its own."""
        return self.recipe.train_views if split == "train" else 1

    @property
    def clip_tokens(self) -> int:
        """Tokens of one clip."""
        plan = self.test_clips
        t, h, w = self.facts.grid(plan.frames_per_clip, plan.size, plan.size)
        return t * h * w

    @property
    def input_name(self) -> str:
        """What the encoder sees, such as `8x16px`."""
        return f"{self.test_clips.frames_per_clip}x{self.test_clips.size}px"

    @property
    def protocol(self) -> str:
        """Name of the measurement: scores are compared only where it is equal."""
        clip = self.task.clip
        parts = [f"{self.recipe.name}/{self.recipe.version}", f"{clip.segments}x{clip.views}", clip.sampling]
        parts += [f"step {clip.step}"] if clip.step else []
        parts += [f"{clip.crop} crop"] if clip.crop != "official" else []
        parts += [f"limit {self.options.limit}"] if self.options.limit else []
        changed = {k: v for k, v in self.options.settings.items() if k.startswith("probe.")}
        parts += [f"{key.removeprefix('probe.')}={value}" for key, value in sorted(changed.items())]
        return " ".join(parts)


def make_plan(options: RunOptions, reporter: Reporter | None = None) -> RunPlan:
    """Resolve the options: cards, encoder facts, samples, clips. Raises BenchError for whatever does not fit."""
    reporter = reporter or Silent()
    _check_numbers(options)
    task = _task(options)
    recipe = override(load_probe_card(options.probe), "probe", _section(options.settings, "probe"))
    facts = describe_encoder(options.model)
    cache = cache_folder(options.cache)
    splits = load_splits(
        task,
        ListOptions(options.data, options.train, options.val),
        cache,
        lambda done, total: reporter.stage("making the digits", done, total),
    )
    splits = Splits(
        subset(splits.train, options.limit, options.seed),
        subset(splits.test, options.limit, options.seed),
        splits.class_names,
    )
    test_clips = clip_plan(task.clip, facts, options)
    facts.grid(test_clips.frames_per_clip, test_clips.size, test_clips.size)
    train_sampling = "random" if recipe.train_views > 1 else "center"
    train_clip = task.clip.model_copy(update={"views": 1, "sampling": train_sampling})
    return RunPlan(
        options=options,
        task=task,
        recipe=recipe,
        facts=facts,
        splits=splits,
        train_clips=clip_plan(train_clip, facts, options),
        test_clips=test_clips,
        cache=cache,
    )


def clip_plan(clip: ClipProtocol, facts: EncoderFacts, options: RunOptions) -> ClipPlan:
    """The clip protocol of a card, completed by what the encoder's weights were made for."""
    spec = facts.input_spec
    size = clip.resolution or spec.resolution
    return ClipPlan(
        frames_per_clip=clip.frames or spec.num_frames,
        frame_step=clip.step or spec.frame_step,
        num_segments=clip.segments,
        views=clip.views,
        size=size,
        sampling=clip.sampling,
        seed=options.seed,
        short_side=size if clip.crop == "full" else None,
        decoder=options.decoder,
    )


def _task(options: RunOptions) -> TaskCard:
    task = override(load_task(options.task), "clip", _section(options.settings, "clip"))
    unknown = [key for key in options.settings if key.partition(".")[0] not in ("probe", "clip")]
    if unknown:
        raise BenchError(f"unknown setting '{unknown[0]}'", where="--set", fix="settings begin with probe. or clip.")
    if options.task != "custom":
        if options.axis or options.name:
            raise BenchError(f"--axis and --name are for --task custom; card {task.name} has its own")
        return task
    changes = {"axis": options.axis or task.axis, "name": options.name or task.name}
    return replace(task, changes, "--axis, --name")


def _section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k.partition(".")[2]: v for k, v in settings.items() if k.partition(".")[0] == name}


def _check_numbers(options: RunOptions) -> None:
    lowest = {"limit": 2, "workers": 0, "batch_size": 1, "seed": 0}
    for name, least in lowest.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise BenchError(f"--{name.replace('_', '-')} {value} is too small", fix=f"at least {least}")
    if not 0 <= options.max_failed <= 1:
        raise BenchError(f"--max-failed {options.max_failed} is not a share", fix="give 0 to 1, such as 0.01")
