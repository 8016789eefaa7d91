"""One run on boxes from start to end: encode key frames, fit, look for actions in test boxes, score, record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import writable_folder
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.data.key_frames import BoxSample
from bench.data.staging import bring_files
from bench.encoders import Encoder
from bench.features.remote import shared_features, shared_file
from bench.features.store import FeatureSet, Store
from bench.metrics.metric import score_all
from bench.pipeline.features import refuse_too_many
from bench.probing.cache import memory_path, remember
from bench.probing.train import FittedProbe
from bench.records.schema import Record
from bench.tasks.box_pictures import draw_key_frames
from bench.tasks.boxes.extract import BoxExtraction, box_fields, box_keys, extract_boxes
from bench.tasks.boxes.fitting import action_probabilities, fit_boxes
from bench.tasks.boxes.plan import BoxPlan
from bench.tasks.boxes.recording import BoxOutcome, write_box_record
from bench.tasks.boxes.scoring import Detections, box_answers
from bench.video.contents import changed_since, content_ids


@dataclass(frozen=True)
class BoxFeatures:
    """The readable key frames of a split, and the features of their boxes one after another."""

    samples: list[BoxSample]
    tokens: FeatureSet | None
    """None where no frame has a box."""
    keys: list[str]
    """Of each box: its name in the feature space."""
    failures: dict[str, str]
    """Id of a key frame -> why it could not be read."""
    extraction: BoxExtraction
    contents: list[str]
    """Content id of the file of every key frame of the list, readable or not; empty for one that is not there."""
    space: str


def run_boxes(plan: BoxPlan, reporter: Reporter) -> Record:
    """Carry out a plan."""
    started = time.perf_counter()
    writable_folder(plan.options.results, option="--results")
    encoder = plan.load_encoder()
    paths = [sample.path for sample in (*plan.splits.train, *plan.splits.test)]
    bring_files(paths, reporter=reporter)
    contents = content_ids(plan.cache, paths, lambda done, total: reporter.stage("hashing files", done, total))
    train = _features(plan, "train", encoder, contents, reporter)
    test = _features(plan, "test", encoder, contents, reporter)
    fitted, known = _fit(plan, train, reporter)
    detections = Detections(test.samples, _look(plan, fitted, test), plan.boxes.actions)
    answers = box_answers(plan, detections)
    scored = score_all(answers, failed=len(test.failures))
    drawn = draw_key_frames(detections, plan.key_frames, num_workers=_workers(plan), timeout_s=plan.options.timeout_s)
    seconds = time.perf_counter() - started
    outcome = BoxOutcome(plan, encoder, train, test, fitted, known, scored, answers, drawn, seconds)
    record, folder = write_box_record(outcome)
    reporter.say(f"{encoder.name}, {plan.task.name}: {record.scores[0].value:.1f} mAP ({seconds:.0f} s), {folder}")
    return record


def _features(
    plan: BoxPlan, split: Split, encoder: Encoder, contents: Mapping[str, str], reporter: Reporter
) -> BoxFeatures:
    """Bring the features of a split's boxes into the cache, every key frame accounted for.

    Raises BenchError where more than the allowed share of them cannot be read.
    """
    listed = plan.boxes.train if split == "train" else plan.boxes.test
    with_boxes = [sample for sample in listed if sample.looked_at]
    store = Store(plan.cache, box_fields(encoder, plan.key_frames, plan.reading, plan.options.token_bits))
    stage = f"{encoder.name}: encoding {split} key frames"
    wanted = (key for sample in with_boxes for key in box_keys(sample, contents))
    with shared_features(store, plan.remote_cache, wanted, plan.world, reporter):
        done = extract_boxes(
            encoder,
            with_boxes,
            plan.key_frames,
            plan.reading,
            store,
            contents,
            num_workers=_workers(plan),
            timeout_s=plan.options.timeout_s,
            batch_size=plan.options.batch_size,
            progress=lambda finished, total: reporter.stage(stage, finished, total),
            changed=lambda paths: changed_since(plan.cache, contents, paths),
        )
    _report(done, stage, reporter)
    refuse_too_many(plan, split, [sample.sample for sample in listed], done.failures)
    readable = [sample for sample in listed if sample.sample.id not in done.failures]
    keys = [key for sample in readable for key in box_keys(sample, contents)]
    if split == "train" and not keys:
        raise BenchError("no box to train on could be read", where=f"task {plan.task.name}")
    tokens = FeatureSet(store, [[key] for key in keys]) if keys else None
    identities = [contents.get(sample.sample.path, "") for sample in listed]
    return BoxFeatures(readable, tokens, keys, done.failures, done, identities, store.key)


def _workers(plan: BoxPlan) -> int:
    given = plan.options.workers
    return environment.default_workers() if given is None else given


def _report(done: BoxExtraction, stage: str, reporter: Reporter) -> None:
    for note in done.notes:
        reporter.say(note)
    encoded = f"{done.encoded_frames} key frames" if done.encoded_frames else "nothing to do"
    cached = f", {done.cached_frames} read from the cache" if done.cached_frames else ""
    failed = f", {len(done.failures)} unreadable" if done.failures else ""
    reporter.say(f"{stage}: {encoded}{cached}{failed} ({done.seconds:.1f} s)")


def _fit(plan: BoxPlan, train: BoxFeatures, reporter: Reporter) -> tuple[FittedProbe, bool]:
    """Train the recipe on the annotated boxes, or read the probe that was trained on them before."""
    tokens = train.tokens
    if tokens is None:
        raise ValueError("nothing to train on")
    labels, videos = box_labels(train.samples, list(plan.boxes.actions))
    prefix = f"{plan.facts.name}, {plan.task.name}"
    facts: dict[str, Any] = {
        "features": train.space,
        "items": _digest([train.keys, labels.tolist(), videos]),
        "recipe": plan.recipe.model_dump(mode="json", exclude={"title", "caveat"}),
        "num_heads": plan.probe_heads,
        "seed": plan.options.seed,
        "device": torch.device(plan.device).type,
        "boxes": _code_digest(),
    }

    def train_now() -> FittedProbe:
        return fit_boxes(
            plan.recipe,
            tokens,
            labels,
            videos,
            plan.probe_heads,
            seed=plan.options.seed,
            device=plan.device,
            progress=lambda phase, done, total: reporter.stage(f"{prefix}: {phase}", done, total),
        )

    with shared_file(memory_path(plan.cache, facts), plan.remote_cache):
        fitted, known = remember(plan.cache, facts, train_now)
    if known:
        reporter.say(f"{prefix}: probe read from the cache")
    return fitted, known


def _look(plan: BoxPlan, fitted: FittedProbe, test: BoxFeatures) -> NDArray[np.float32]:
    """How likely each action is in each test box, float32 [boxes, C]."""
    if test.tokens is None:
        return np.zeros((0, len(plan.boxes.actions)), dtype=np.float32)
    return action_probabilities(fitted.probe, test.tokens, device=plan.device)


def box_labels(samples: Sequence[BoxSample], actions: Sequence[int]) -> tuple[NDArray[np.int64], list[str]]:
    """Of each annotated box of these key frames: 1 for its actions among `actions`, else 0, [n, C]; and its video."""
    rows = [[action in sample.truth.boxes[box] for action in actions] for sample in samples for box in sample.looked_at]
    videos = [sample.truth.video for sample in samples for _ in sample.looked_at]
    return np.array(rows, dtype=np.int64), videos


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _code_digest() -> str:
    """Of this package: a probe that other code trained is not this one's."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
