"""From counts and constants to hours, on one device or on many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.pipeline.estimate.constants import Bound, Constant, Constants, StepTime
from bench.pipeline.estimate.counts import Part, Training, Work

Pick = Callable[[Constant], float]


@dataclass(frozen=True)
class Span:
    """Seconds, and the range that they lie in by the spread of the measurements."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a run will take. Decoding and encoding go on at once: `extract` is the time of both together."""

    clips: int
    tokens: int
    feature_bytes: int
    devices: int
    seconds: dict[str, Span]
    """By part: start, decode, encode, extract, probes, test, total. Start, extract, probes and test make the total."""

    def facts(self) -> dict[str, Any]:
        """As JSON holds it: with hours."""
        hours = {name: asdict(_scaled(span, 1 / 3600)) for name, span in self.seconds.items()}
        return {
            "clips": self.clips,
            "tokens": self.tokens,
            "feature_bytes": self.feature_bytes,
            "gpus": self.devices,
            "hours": hours,
        }


def estimate(work: Work, constants: Constants, devices: int = 1) -> Estimate:
    """The hours on so many devices like the measured one, each with its cores and workers.

    Files, decoding, encoding and writing are divided. The probe of one run is trained and tested by one process
    (bench.pipeline.torchrun), and so is the encoding of a streaming recipe's training clips.
    """
    bounds: dict[Bound, dict[str, float]] = {
        bound: _seconds(work, constants, devices, lambda c, bound=bound: float(getattr(c, bound)))  # type: ignore[misc]
        for bound in ("value", "low", "high")
    }
    spans = {name: Span(bounds["value"][name], bounds["low"][name], bounds["high"][name]) for name in bounds["value"]}
    return Estimate(work.clips, work.tokens, work.feature_bytes, devices, spans)


def _scaled(span: Span, factor: float) -> Span:
    return Span(span.value * factor, span.low * factor, span.high * factor)


def _seconds(work: Work, constants: Constants, devices: int, pick: Pick) -> dict[str, float]:
    start = pick(constants.load) + pick(constants.hash) * math.ceil(work.files / devices)
    decode = encode = extract = probes = 0.0
    for part in work.parts:
        alone = _alone(part, work, constants, 1 if part.streamed else devices, pick)
        decode, encode = decode + alone[0], encode + alone[1]
        if part.streamed:
            probes += _together(*alone, constants)
        else:
            extract += _together(*alone, constants)
    from_disk = reads_disk(work, constants)
    probes += pick(constants.pool) * work.pooled
    for training in work.trainings:
        probes += _training_seconds(training, constants, pick)
        if from_disk:
            probes += training.samples * training.epochs * work.sample_bytes * pick(constants.read_cold)
    test = pick(constants.predict) * work.predicted
    return {
        "start": start,
        "decode": decode,
        "encode": encode,
        "extract": extract,
        "probes": probes,
        "test": test,
        "total": start + extract + probes + test,
    }


def _alone(part: Part, work: Work, constants: Constants, devices: int, pick: Pick) -> tuple[float, float]:
    """Seconds of decoding and of encoding (and writing) a part where nothing else goes on."""
    videos = math.ceil(part.videos / devices)
    at_work = max(1, min(constants.workers, constants.cores))
    decode = videos * pick(constants.decode[part.name]) / at_work
    written = 0 if part.streamed else part.kept / max(1, part.clips) * work.kept_bytes * pick(constants.write)
    return decode, videos * part.clips_per_video * (pick(constants.encode) + written)


def _together(decode_s: float, encode_s: float, constants: Constants) -> float:
    """Seconds of decoding beside encoding: the slower, or what the cores take for both."""
    if constants.workers == 0:
        return decode_s + encode_s
    at_work = min(constants.workers, constants.cores)
    busy = decode_s * at_work + encode_s * min(constants.encoding_cores, constants.cores)
    return max(decode_s, encode_s, busy / constants.cores)


def reads_disk(work: Work, constants: Constants) -> bool:
    """Whether the training features in the cache do not fit the memory, so that epochs read them from the disk."""
    cached = sum(part.kept for part in work.parts if part.name == "train" and not part.streamed)
    return cached * work.kept_bytes > constants.memory_bytes


def _training_seconds(training: Training, constants: Constants, pick: Pick) -> float:
    step = step_seconds(training, constants, pick)
    return pick(constants.start) + training.steps * step + training.scored * pick(constants.score)


def step_seconds(training: Training, constants: Constants, pick: Pick) -> float:
    """Seconds of a step on the mean batch of a training: the last batch of an epoch may be smaller."""
    batch = training.samples * training.epochs / training.steps
    times = constants.steps
    known = {time.settings for time in times}
    settings = min(known, key=lambda number: abs(number - training.settings))
    seconds = _on_line([time for time in times if time.settings == settings], batch, pick)
    return seconds * (training.settings / settings if constants.steps_by_setting else 1)


def _on_line(times: list[StepTime], batch: float, pick: Pick) -> float:
    """Seconds for a batch from the smallest and the largest that were measured."""
    first, last = min(times, key=lambda t: t.batch_size), max(times, key=lambda t: t.batch_size)
    small, large = pick(first.seconds), pick(last.seconds)
    if first.batch_size == last.batch_size:
        return large
    slope = (large - small) / (last.batch_size - first.batch_size)
    if slope < 0:  # noise: a sample is known to cost something
        return large * max(1.0, batch / last.batch_size)
    return max(0.0, small - slope * first.batch_size) + slope * batch
