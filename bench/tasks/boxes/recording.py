"""From what a run on boxes did to its record, with a few key frames to look at (bench.records.key_frames)."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core import machine as environment
from bench.data.key_frames import BoxSample
from bench.data.verify.prepared import notes_on
from bench.encoders.contract import Encoder
from bench.features.regions import chosen_layers
from bench.metrics.box_scores import BoxAnswers
from bench.metrics.metric import Scored
from bench.pipeline.record import head_facts, plain_facts, slug
from bench.probing.attentive import AttentiveProbe
from bench.probing.files import save_probe
from bench.probing.linear import LinearProbe
from bench.probing.train import FittedProbe
from bench.records.conditions import shared_note
from bench.records.key_frames import write_key_frames
from bench.records.schema import Cost, Failure, Record
from bench.records.write import write_record
from bench.tasks.box_pictures import DrawnFrames
from bench.tasks.boxes.plan import BoxPlan

if TYPE_CHECKING:
    from bench.tasks.boxes.run import BoxFeatures


@dataclass(frozen=True)
class BoxOutcome:
    """What a run on boxes did."""

    plan: BoxPlan
    encoder: Encoder
    train: BoxFeatures
    test: BoxFeatures
    fitted: FittedProbe
    probe_known: bool
    """Whether the probe was trained in an earlier run and read from the cache."""
    scored: Scored
    answers: BoxAnswers
    drawn: DrawnFrames
    seconds: float


def write_box_record(done: BoxOutcome) -> tuple[Record, Path]:
    """Write the folder of a run: record, tables, key frames, probe. It appears complete or not at all."""
    record, probe = make_box_record(done), done.fitted.probe

    def keep_probe(path: Path) -> None:
        if isinstance(probe, AttentiveProbe | LinearProbe):
            facts = {name: getattr(record, name) for name in ("run_id", "task", "protocol", "model", "input")}
            facts |= {"encoder": record.digests["encoder"], "recipe": json.dumps(record.resolved["recipe"])}
            save_probe(path, probe, {**facts, "classes": json.dumps(record.class_names)})

    def keep_frames(folder: Path) -> None:
        write_key_frames(folder, done.drawn.frames)

    folder = write_record(done.plan.options.results, record, done.answers, keep_probe, keep_frames)
    return record, folder


def make_box_record(done: BoxOutcome) -> Record:
    """Everything about a run, as it goes to disk. A sample is a key frame."""
    plan, encoder = done.plan, done.encoder
    now = datetime.now(timezone.utc)
    return Record(
        run_id=f"{now:%Y%m%d-%H%M%S}-{slug(plan.task.name)}-{slug(encoder.name)}-{secrets.token_hex(3)}",
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
        scores=done.scored.scores,
        heads=[head_facts(head) for head in done.fitted.heads],
        breakdowns=done.scored.breakdowns,
        failures=[
            *(Failure(sample=name, split="train", reason=why) for name, why in done.train.failures.items()),
            *(Failure(sample=name, split="test", reason=why) for name, why in done.test.failures.items()),
        ],
        notes=_notes(done),
        arguments=plain_facts(asdict(plan.options)),
        resolved=_resolved(done),
        digests={
            "encoder": encoder.digest,
            "train_features": done.train.space,
            "test_features": done.test.space,
            "train_list": list_digest(plan.boxes.train, done.train.contents, list(plan.boxes.actions)),
            "test_list": list_digest(plan.boxes.test, done.test.contents, list(plan.boxes.actions)),
        },
        versions=environment.versions(),
        hardware=environment.hardware(str(encoder.device)),
        git_revision=environment.git_revision(),
        cost=_cost(done),
    )


def list_digest(samples: list[BoxSample], contents: list[str], actions: list[int]) -> str:
    """SHA-256 of the evaluated actions, and of ids, boxes, labels and contents of all key frames, readable or not."""
    digest = hashlib.sha256(f"{actions}\n".encode())
    for sample, content in zip(samples, contents, strict=True):
        truth = sorted((box, sorted(labels)) for box, labels in sample.truth.boxes.items())
        digest.update(f"{sample.sample.id} {truth} {sorted(sample.looked_at)} {content}\n".encode())
    return digest.hexdigest()


def _cost(done: BoxOutcome) -> Cost:
    parts = (done.train, done.test)
    return Cost(
        encoder_clips=sum(part.extraction.encoded_frames for part in parts),
        cached_clips=sum(part.extraction.cached_frames for part in parts),
        extract_s=round(sum(part.extraction.seconds for part in parts), 3),
        probe_s=0.0 if done.probe_known else round(done.fitted.seconds, 3),
        cached_probe=done.probe_known,
        total_s=round(done.seconds, 3),
        peak_memory_bytes=environment.peak_memory_bytes(),
        feature_bytes=sum(len(part.keys) for part in parts) * done.plan.box_bytes,
    )


def _notes(done: BoxOutcome) -> list[str]:
    plan, reading = done.plan, done.plan.reading
    notes = [plan.recipe.caveat] if plan.recipe.caveat else []
    if reading.test_boxes == "ground-truth":
        notes.append("actions are looked for in annotated boxes, an oracle: not comparable with detected boxes")
    if len(chosen_layers(plan.facts, reading.layers)) < reading.layers:
        found = max(1, len(chosen_layers(plan.facts, reading.layers)))
        notes.append(f"the recipe reads {reading.layers} layers, and {plan.facts.name} offers {found}")
    notes += [*plan.boxes.notes, *notes_on(plan.data_folder), *done.drawn.notes]
    if plan.options.limit:
        notes.append(f"on a random subset of at most {plan.options.limit} key frames of each split (--limit)")
    shared = len(set(done.train.contents) & set(done.test.contents) - {""})
    if shared:
        notes.append(shared_note(shared))
    return notes + [f"{done.encoder.name}: {note}" for note in done.encoder.report.get("notes", [])]


def _resolved(done: BoxOutcome) -> dict[str, Any]:
    plan, fitted = done.plan, done.fitted
    return plain_facts(
        {
            "task": plan.task.model_dump(),
            "recipe": plan.recipe.model_dump(),
            "encoder": {**asdict(plan.facts), "report": done.encoder.report, "precision": done.encoder.precision},
            "key_frames": asdict(plan.key_frames),
            "layers": chosen_layers(plan.facts, plan.reading.layers),
            "box_tokens": plan.box_shape,
            "actions": plan.boxes.actions,
            "boxes": {"train": len(done.train.keys), "test": len(done.test.keys)},
            **_halved(done),
            "training": {
                "epochs": fitted.epochs,
                "steps": fitted.steps,
                "batch_size": fitted.batch_size,
                "held_out_samples": fitted.num_held_out,
            },
        }
    )


def _halved(done: BoxOutcome) -> dict[str, Any]:
    """Of splits on which memory ran out: the key frames that were encoded at once after that."""
    parts = {"train": done.train.extraction.halved_to, "test": done.test.extraction.halved_to}
    halved = {split: size for split, size in parts.items() if size}
    return {"clips_at_once_after_out_of_memory": halved} if halved else {}
