"""From what a run did to its record."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from bench import environment
from bench.annotations import Sample
from bench.encoders.contract import Encoder
from bench.features.split import SplitFeatures
from bench.plan import RunPlan
from bench.probing import train as probe_training
from bench.scores.metrics import score_of
from bench.scores.records import Cost, Failure, Head, Predictions, Record


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    plan: RunPlan
    encoder: Encoder
    train: SplitFeatures
    test: SplitFeatures
    fitted: probe_training.FittedProbe
    probe_known: bool
    """Whether the probe was trained in an earlier run and read from the cache."""
    predictions: Predictions
    seconds: float


def make_record(done: Outcome) -> Record:
    """Everything about a run, as it goes to disk."""
    plan, encoder, fitted = done.plan, done.encoder, done.fitted
    now = datetime.now(timezone.utc)
    score = score_of(plan.task.metric, done.predictions.labels, done.predictions.probabilities, len(done.test.failures))
    return Record(
        run_id=f"{now:%Y%m%d-%H%M%S}-{_slug(plan.task.name)}-{_slug(encoder.name)}-{secrets.token_hex(3)}",
        created=now.isoformat(timespec="microseconds"),
        task=plan.task.name,
        axis=plan.task.axis,
        model=encoder.name,
        probe=plan.recipe.name,
        protocol=plan.protocol,
        seed=plan.options.seed,
        input=plan.input_name,
        num_train=len(done.train.samples),
        num_classes=len(plan.splits.class_names),
        class_names=list(plan.splits.class_names),
        scores=[score],
        heads=[_head(head) for head in fitted.heads],
        failures=[
            *(Failure(sample=sample, split="train", reason=reason) for sample, reason in done.train.failures.items()),
            *(Failure(sample=sample, split="test", reason=reason) for sample, reason in done.test.failures.items()),
        ],
        notes=_notes(done),
        arguments=_plain(asdict(plan.options)),
        resolved=_resolved(done),
        digests={
            "encoder": encoder.digest,
            "train_features": done.train.space,
            "test_features": done.test.space,
            "train_list": list_digest(plan.splits.train, done.train.contents),
            "test_list": list_digest(plan.splits.test, done.test.contents),
        },
        versions=environment.versions(),
        hardware=environment.hardware(str(encoder.device)),
        git_revision=environment.git_revision(),
        cost=_cost(done),
    )


def list_digest(samples: list[Sample], contents: list[str]) -> str:
    """SHA-256 of the ids, labels and contents of a whole list, readable or not."""
    rows = zip(samples, contents, strict=True)
    text = "\n".join(f"{sample.id} {sample.label} {content}" for sample, content in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _cost(done: Outcome) -> Cost:
    parts = (done.train.extraction, done.test.extraction)
    return Cost(
        encoder_clips=sum(part.encoded_clips for part in parts),
        cached_clips=sum(part.cached_clips for part in parts),
        extract_s=round(sum(part.seconds for part in parts), 3),
        probe_s=0.0 if done.probe_known else round(done.fitted.seconds, 3),
        cached_probe=done.probe_known,
        total_s=round(done.seconds, 3),
        peak_memory_bytes=environment.peak_memory_bytes(),
        feature_bytes=done.train.tokens.num_bytes + done.test.tokens.num_bytes,
    )


def _head(head: probe_training.Head) -> Head:
    return Head(
        lr=head.lr,
        weight_decay=head.weight_decay,
        neighbours=head.neighbours,
        held_out_accuracy=None if head.held_out_accuracy is None else 100 * head.held_out_accuracy,
        held_out_loss=head.held_out_loss,
        train_loss=head.train_loss,
        diverged=head.diverged,
        chosen=head.chosen,
    )


def _notes(done: Outcome) -> list[str]:
    plan = done.plan
    notes = [plan.recipe.caveat] if plan.recipe.caveat else []
    if plan.options.limit:
        notes.append(f"on a random subset of at most {plan.options.limit} samples of each split (--limit)")
    official = {"training": (plan.task.train_size, plan.splits.train), "test": (plan.task.test_size, plan.splits.test)}
    for split, (size, samples) in official.items():
        if size and len(samples) != size:
            notes.append(f"{len(samples)} {split} samples listed; the official split has {size}")
    shared = len(set(done.train.contents) & set(done.test.contents) - {""})
    if shared:
        notes.append(f"{shared} test videos have the same bytes as a training video")
    return notes + [f"{done.encoder.name}: {note}" for note in done.encoder.report.get("notes", [])]


def _resolved(done: Outcome) -> dict[str, Any]:
    plan, fitted = done.plan, done.fitted
    return _plain(
        {
            "task": plan.task.model_dump(),
            "recipe": plan.recipe.model_dump(),
            "encoder": {**asdict(plan.facts), "report": done.encoder.report, "precision": done.encoder.precision},
            "train_clips": {**asdict(plan.train_clips), "draws": plan.draws("train")},
            "test_clips": asdict(plan.test_clips),
            "training": {
                "epochs": fitted.epochs,
                "steps": fitted.steps,
                "batch_size": fitted.batch_size,
                "held_out_samples": fitted.num_held_out,
            },
        }
    )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _slug(name: str) -> str:
    """A name for a folder: letters, digits and dashes that every file system takes, at most 60."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name)[:60]
