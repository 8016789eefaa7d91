"""What a run will cost, before it starts: clips, tokens, bytes, time. Nothing is encoded and no weights are read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core import machine as environment
from bench.core.files import check_space
from bench.core.machine import ENCODER_EFFICIENCY, matrix_rate
from bench.data.missing_files import SplitFiles, size_of
from bench.data.sample import Sample
from bench.data.staging import bring_files
from bench.pipeline.estimate.counts import work_of
from bench.pipeline.features import examples_of
from bench.pipeline.plan import check_ready
from bench.tasks.kind import RunPlan
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
    files = check_ready(plan)
    work = work_of(plan)
    check_space(plan.cache, work.feature_bytes)
    workers = plan.options.workers if plan.options.workers is not None else environment.default_workers()
    samples = [*plan.splits.train, *plan.splits.test]
    looked_at = [samples[number] for number in sorted(set(examples_of(plan, samples)))]
    seconds = _decode_seconds(looked_at, plan.test_clips)
    rate = ENCODER_EFFICIENCY * matrix_rate(plan.device, plan.precision)
    return Forecast(
        task=plan.task.name,
        model=plan.facts.name,
        protocol=plan.protocol,
        input=plan.input_name,
        train_samples=len(plan.splits.train),
        test_samples=len(plan.splits.test),
        missing_files=sum(part.missing for part in files),
        empty_files=sum(part.empty for part in files),
        files=files,
        clips=work.clips,
        tokens=work.tokens,
        feature_bytes=work.feature_bytes,
        free_bytes=shutil.disk_usage(plan.cache).free,
        decode_s=seconds * sum(part.videos for part in work.parts) / max(1, workers),
        encode_s=work.clips * plan.facts.flops(plan.clip_tokens) / rate,
        weights=plan.facts.weights,
    )


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
