"""How long a little of a run takes here: some videos are decoded, some clips encoded, some features written.

Everything goes through the code of the run itself.

Shapes: V views, K segments, T frames, S pixels of a side, N tokens of a clip, D channels.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.hashing import file_digest
from bench.core.progress import Reporter
from bench.core.threads import SMALL_CLIP
from bench.data.sample import Sample
from bench.data.staging import bring_files
from bench.encoders import Encoder
from bench.features.extract import ClipsAtOnce, clips_at_once, encode
from bench.features.half_precision import HalfPrecision
from bench.features.spec import FeatureSpec, Request
from bench.features.store import Store, items_per_shard
from bench.pipeline.estimate.constants import Constant, Constants, constant
from bench.pipeline.estimate.counts import PartName, Work
from bench.pipeline.estimate.plans import NUM_CLIPS, Subject
from bench.pipeline.estimate.probes import measure_probe
from bench.pipeline.features import requests
from bench.tasks.kind import RunPlan
from bench.video.clip_views import Views
from bench.video.image_frames import frame_files
from bench.video.loader import load_clips

ENCODE_BUDGET_S, DECODE_BUDGET_S = 30.0, 12.0
_LEAST_CLIPS = 2
_KEPT_VIDEOS = 4
_GROUPS = 5
_GROUP_S = 0.1
"""Cheap clips are encoded in groups that take about this long."""

Decoded = tuple[Request, Tensor]
"""What is asked of a video, and its clips, uint8 [V * K, T, H, W, 3]."""


def measure(subject: Subject, work: Work, reporter: Reporter) -> Constants:
    """Measure everything that `hours` multiplies. Takes one to two minutes for a large encoder."""
    began = time.perf_counter()
    plan = subject.plan
    encoder = subject.load()
    load = constant([time.perf_counter() - began])
    # As a run has it: --workers 0 decodes in the process that encodes.
    workers = plan.options.workers if plan.options.workers is not None else environment.default_workers()
    drawn: dict[PartName, tuple[Sequence[Sample], Views]] = {"train": (plan.splits.train, plan.train_clips)}
    if plan.held_out_clips:
        drawn["held-out"] = (plan.splits.train, plan.held_out_clips)
    drawn["test"] = (plan.splits.test, plan.test_clips)
    bring_files([sample.path for samples, _ in drawn.values() for sample in spread(samples)], plan.world, reporter)
    decode: dict[PartName, Constant] = {}
    decoded: dict[PartName, list[Decoded]] = {}
    for name, (samples, clips) in drawn.items():
        decode[name], decoded[name] = _decode(plan, spread(samples), clips, workers, f"decoding {name} clips", reporter)
    batch_size = plan.options.batch_size
    encoding = encode_seconds(encoder, decoded["train"], plan.train_clips, plan.spec, batch_size, reporter)
    with tempfile.TemporaryDirectory(prefix=".estimate-", dir=plan.cache) as folder:
        write, read_cold = _disk_seconds(Path(folder), work)
        del encoder
        probe = measure_probe(plan, work, Path(folder), reporter)
    device = torch.device(plan.device)
    return Constants(
        device=device_in_words(plan.device),
        cores=environment.num_cores(),
        workers=workers,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        encoding_cores=_encoding_cores(device, work, plan.facts.embed_dim),
        load=load,
        hash=_hash_seconds(spread(plan.splits.train)),
        decode=decode,
        encode=encoding,
        write=write,
        read_cold=read_cold,
        steps=probe.steps,
        steps_by_setting=plan.recipe.num_blocks > 1,
        start=probe.start,
        score=probe.score,
        predict=probe.predict,
        pool=probe.pool,
        seconds=round(time.perf_counter() - began, 1),
    )


def device_in_words(device: str) -> str:
    """`2 CPU cores (AMD EPYC)`, or the name of the GPU."""
    facts = environment.hardware(device)
    if "accelerator" in facts:
        return str(facts["accelerator"])
    return f"{facts['cores']} CPU cores ({facts['processor']})" if device == "cpu" else device


def spread(samples: Sequence[Sample]) -> list[Sample]:
    """At most NUM_CLIPS of them, evenly spread over the list."""
    places = np.linspace(0, len(samples) - 1, min(NUM_CLIPS, len(samples)))
    return [samples[round(place)] for place in places]


def _encoding_cores(device: torch.device, work: Work, embed_dim: int) -> float:
    """On a GPU, one core drives it; on a CPU, small clips are encoded by one thread (bench.core.threads)."""
    small = embed_dim * work.clip_tokens < SMALL_CLIP
    return 1 if device.type != "cpu" or small else torch.get_num_threads()


def _decode(
    plan: RunPlan, samples: Sequence[Sample], clips: Views, workers: int, stage: str, reporter: Reporter
) -> tuple[Constant, list[Decoded]]:
    """Seconds of a core that a video takes, through the loader with the run's workers, and the first few's pixels."""
    asked = [request for sample in samples if (request := requests(plan, sample, {}, 1)[0]).keys]
    # A small set is gone through again, until the start of the processes does not tell.
    asked = (asked * -(-NUM_CLIPS // max(1, len(asked))))[:NUM_CLIPS]
    items = [request.item for request in asked]
    stamps, kept, failure = [time.perf_counter()], list[Decoded](), ""
    for request, loaded in zip(
        asked, load_clips(items, clips, num_workers=workers, timeout_s=plan.options.timeout_s), strict=True
    ):
        failure = loaded.error or failure
        stamps.append(time.perf_counter())
        if loaded.pixels is not None and len(kept) < _KEPT_VIDEOS:
            kept.append((request, clips.unpack(loaded.pixels)))
        reporter.stage(stage, len(stamps) - 1, len(items))
        if stamps[-1] - stamps[0] > DECODE_BUDGET_S and len(stamps) > _LEAST_CLIPS * max(1, workers) + 1:
            break
    if not kept:
        raise BenchError(f"none of {len(items)} videos can be decoded ({failure})", where=f"task {plan.task.name}")
    first = 1 if workers else 0  # the first waits for the processes to start
    count = len(stamps) - 1 - first
    if count < 1:
        return constant([stamps[-1] - stamps[0]]), kept
    at_work = max(1, min(workers, environment.num_cores(), len(items)))
    places = np.linspace(first, len(stamps) - 1, min(_GROUPS, count) + 1).round().astype(int).tolist()
    rates = [(stamps[stop] - stamps[start]) * at_work / (stop - start) for start, stop in pairwise(places)]
    spread_of = constant(rates)
    mean = (stamps[-1] - stamps[first]) * at_work / count
    error = spread_of.high - spread_of.value
    return Constant(value=mean, low=max(0.0, mean - error), high=mean + error, count=len(stamps) - 1), kept


def encode_seconds(
    encoder: Encoder,
    decoded: Sequence[Decoded],
    views: Views,
    spec: FeatureSpec,
    batch_size: int | None,
    reporter: Reporter,
) -> Constant:
    """Seconds of a clip: as many as fit ENCODE_BUDGET_S, at least 2 and at most NUM_CLIPS, in the run's batches."""
    single = views.alone()
    each = [(request, clips[number : number + 1]) for request, clips in decoded for number in range(len(clips))]
    at_once = batch_size or clips_at_once(encoder, encoder.facts.num_tokens(*views.clip_shape))

    def timed(number: int) -> float:
        batch = [each[place % len(each)] for place in range(number)]
        started = time.perf_counter()
        half = HalfPrecision(encoder, 16)
        for start in range(0, number, at_once):
            some = _of_one_shape(batch[start : start + at_once])
            for group in some:
                pixels, asked = [clips for _, clips in group], [request for request, _ in group]
                for features in encode(encoder, pixels, asked, single, spec, ClipsAtOnce(at_once), half):
                    features.cpu()
        return time.perf_counter() - started

    on_cpu = encoder.device.type == "cpu"
    group = 1 if on_cpu else at_once
    began = time.perf_counter()
    warm_up = timed(group)
    if on_cpu and warm_up < _GROUP_S:
        group = max(1, min(NUM_CLIPS // _GROUPS, int(_GROUP_S / warm_up)))
    # Where a clip takes seconds, there is no time to throw one away, and its start does not tell.
    seconds = [warm_up] if warm_up > ENCODE_BUDGET_S / 6 else []
    while len(seconds) < _LEAST_CLIPS or len(seconds) * group < NUM_CLIPS:
        if len(seconds) >= _LEAST_CLIPS and time.perf_counter() - began + seconds[-1] > ENCODE_BUDGET_S:
            break
        seconds.append(timed(group))
        reporter.stage("encoding clips", len(seconds) * group, NUM_CLIPS)
    return constant(seconds, per=group)


def _of_one_shape(batch: Sequence[Decoded]) -> list[list[Decoded]]:
    """Clips that can be encoded at once."""
    shapes = dict.fromkeys(clips.shape for _, clips in batch)
    return [[one for one in batch if one[1].shape == shape] for shape in shapes]


def _hash_seconds(samples: Sequence[Sample]) -> Constant:
    """Seconds to hash one video: its file, or the files of its frames."""
    seconds = []
    for sample in samples:
        path = Path(sample.path)
        started = time.perf_counter()
        for file in [Path(frame.path) for frame in frame_files(str(path))] if path.is_dir() else [path]:
            if file.is_file():
                file_digest(file)
        seconds.append(time.perf_counter() - started)
    return constant(seconds)


def _disk_seconds(folder: Path, work: Work) -> tuple[Constant, Constant]:
    """Seconds of a byte: written to the cache as shards are, and read from the disk beyond a read from memory."""
    store = Store(folder, {"purpose": "estimate"})
    count = items_per_shard(work.sample_bytes)
    features = np.random.RandomState(0).standard_normal((count, 1, work.sample_tokens, work.kept_shape[1]))
    shard = features.astype(np.float16)
    written = []
    for number in range(3):
        started = time.perf_counter()
        store.add([f"{number}/{row}" for row in range(count)], shard)
        written.append(time.perf_counter() - started)
    paths = sorted(store.folder.glob("*.npy"))
    cold, warm = [_drop_and_read(path) for path in paths], [_read(path) for path in paths]
    beyond = constant([max(0.0, a - b) for a, b in zip(cold, warm, strict=True)], per=shard.nbytes)
    return constant(written, per=shard.nbytes), beyond


def _drop_and_read(path: Path) -> float:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return _read(path)


def _read(path: Path) -> float:
    started = time.perf_counter()
    path.read_bytes()
    return time.perf_counter() - started
