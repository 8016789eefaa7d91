"""What a run will cost, before it starts: clips, tokens, bytes, time. Nothing is encoded and no weights are read."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core import machine as environment
from bench.core.machine import ENCODER_EFFICIENCY, matrix_rate
from bench.core.space import check_space, token_bytes
from bench.data.formats import Sample
from bench.data.staging import bring_files
from bench.pipeline.controls import other_orders
from bench.pipeline.missing_files import SplitFiles, size_of
from bench.pipeline.plan import RunPlan
from bench.pipeline.ready import check_ready
from bench.probing.streaming import num_streamed
from bench.probing.train import group_size
from bench.tasks.boxes.plan import BoxPlan
from bench.video.clip_views import Plan, VideoItem
from bench.video.loader import load_clips

_TIMED_FILES = 4
_TRIED_FILES = 400  # to find those, where some are missing


@dataclass(frozen=True)
class Forecast:
    """The size of a run. Times are rough: a few files are decoded here, the encoder's are computed from its size."""

    task: str
    model: str
    protocol: str
    input: str
    train_samples: int
    test_samples: int
    missing_files: int
    empty_files: int
    files: tuple[SplitFiles, ...]
    """Both splits: annotated, official, present, missing, empty."""
    clips: int
    tokens: int
    feature_bytes: int
    free_bytes: int
    decode_s: float
    encode_s: float
    weights: Mapping[str, Any]
    """What is read of a file of weights (`EncoderFacts.weights`); empty for other encoders."""


def forecast(plan: RunPlan) -> Forecast:
    """The forecast of a plan. Raises MissingFilesError where too many files are missing, and BenchError for whatever
    else a run would refuse before it begins, and where the features do not fit on the cache's disk."""
    if isinstance(plan, BoxPlan):
        return _forecast_boxes(plan)
    train, test = plan.splits.train, plan.splits.test
    orders = 1 + len(other_orders(plan))
    cached, held_out, streamed = _train_draws(plan)
    segments, of_training = plan.test_clips.num_segments, plan.train_clips.num_segments
    cached_clips = orders * (cached * of_training + (held_out + len(test) * plan.test_clips.views) * segments)
    clips = cached_clips + orders * streamed * of_training
    num_bytes = cached_clips * plan.clip_tokens * token_bytes(plan.facts.embed_dim, plan.options.token_bits)
    files = check_ready(plan)
    check_space(plan.cache, num_bytes)
    workers = plan.options.workers if plan.options.workers is not None else environment.default_workers()
    seconds = _decode_seconds([*train, *test], plan.test_clips)
    return Forecast(
        task=plan.task.name,
        model=plan.facts.name,
        protocol=plan.protocol,
        input=plan.input_name,
        train_samples=len(train),
        test_samples=len(test),
        missing_files=sum(part.missing for part in files),
        empty_files=sum(part.empty for part in files),
        files=files,
        clips=clips,
        tokens=clips * plan.clip_tokens,
        feature_bytes=num_bytes,
        free_bytes=shutil.disk_usage(plan.cache).free,
        decode_s=seconds * orders * (cached + held_out + streamed + len(test)) / max(1, workers),
        encode_s=clips
        * plan.facts.flops(plan.clip_tokens)
        / (ENCODER_EFFICIENCY * matrix_rate(plan.device, plan.precision)),
        weights=plan.facts.weights,
    )


def _forecast_boxes(plan: BoxPlan) -> Forecast:
    """The same for key frames; the features are those of their boxes, and frames are as wide as 16:9 films."""
    files = check_ready(plan)
    looked_at = [s for s in (*plan.boxes.train, *plan.boxes.test) if s.looked_at]
    num_bytes = plan.box_bytes * sum(len(sample.looked_at) for sample in looked_at)
    check_space(plan.cache, num_bytes)
    clips = plan.key_frames
    num_tokens = plan.facts.num_tokens(clips.frames_per_clip, *clips.size(9, 16))
    seconds = _decode_seconds([sample.sample for sample in looked_at], clips)
    workers = environment.default_workers() if plan.options.workers is None else plan.options.workers
    rate = ENCODER_EFFICIENCY * matrix_rate(plan.device, plan.precision)
    return Forecast(
        task=plan.task.name,
        model=plan.facts.name,
        protocol=plan.protocol,
        input=plan.input_name,
        train_samples=len(plan.boxes.train),
        test_samples=len(plan.boxes.test),
        missing_files=sum(part.missing for part in files),
        empty_files=sum(part.empty for part in files),
        files=files,
        clips=len(looked_at),
        tokens=len(looked_at) * num_tokens,
        feature_bytes=num_bytes,
        free_bytes=shutil.disk_usage(plan.cache).free,
        decode_s=seconds * len(looked_at) / max(1, workers),
        encode_s=len(looked_at) * plan.facts.flops(num_tokens) / rate,
        weights=plan.facts.weights,
    )


def _train_draws(plan: RunPlan) -> tuple[int, int, int]:
    """How often training samples are decoded and encoded: for the cache, to choose on, and while a probe is trained."""
    recipe, count = plan.recipe, len(plan.splits.train)
    held_out = round(recipe.hold_out.held_out * count) if recipe.hold_out and plan.held_out_clips else 0
    if not recipe.streaming or plan.given:
        return count * plan.draws("train"), held_out, 0
    together = group_size(recipe, plan.facts.embed_dim, len(plan.splits.class_names), plan.device)
    return 0, held_out, num_streamed(recipe, count, num_passes=math.ceil(recipe.num_settings / together))


def _decode_seconds(samples: Sequence[Sample], clips: Plan) -> float:
    """Seconds to decode and crop one video in one process, from a few of them spread over the list."""
    present = [sample for sample in samples[:: max(1, len(samples) // _TRIED_FILES)] if size_of(sample)]
    chosen = present[:: max(1, len(present) // _TIMED_FILES)][:_TIMED_FILES]
    if not chosen:
        return 0.0
    bring_files([sample.path for sample in chosen])
    items = [VideoItem(id=s.id, path=s.path, start_s=s.start_s, end_s=s.end_s, fps=s.fps) for s in chosen]
    started = time.perf_counter()
    for _ in load_clips(items, clips, num_workers=1):
        pass
    return (time.perf_counter() - started) / len(chosen)
