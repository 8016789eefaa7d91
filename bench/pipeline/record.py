"""From what a run did to its record."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from bench.core import machine as environment
from bench.core.remote import remote_url
from bench.core.types import Split
from bench.data.formats import Sample
from bench.data.verify.prepared import notes_on
from bench.encoders.contract import Encoder
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.class_order import suspicion
from bench.metrics.metric import score_all
from bench.metrics.score import Score
from bench.pipeline.features import SplitAccount
from bench.pipeline.further import Further
from bench.pipeline.plan import RunPlan
from bench.probing import heads as probing_heads
from bench.probing.streaming import StreamCounts
from bench.probing.train import FittedProbe
from bench.records.conditions import shared_note
from bench.records.schema import Cost, Failure, Head, Record
from bench.video.contents import bytes_of

_CLOCKS_DIFFER_BY = timedelta(minutes=1)
"""Runs of several machines may share a folder; smaller differences of their clocks mean nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    plan: RunPlan
    encoder: Encoder
    train: SplitAccount | None
    """None where a probe is given."""
    test: SplitAccount
    fitted: FittedProbe
    probe_known: bool
    """Whether the probe was trained in an earlier run and read from the cache."""
    predictions: ClassAnswers
    seconds: float
    further: Further


def make_record(done: Outcome, *, scores: Sequence[Score] | None = None, more_notes: Sequence[str] = ()) -> Record:
    """Everything about a run, as it goes to disk. `scores` are given where they are not of one label a sample."""
    plan, encoder, fitted = done.plan, done.encoder, done.fitted
    now = datetime.now(timezone.utc)
    on_test = plan.recipe.selected_on_test and not plan.given
    if scores is None:
        scores = score_all(done.predictions, len(done.test.failures)).scores
    return Record(
        run_id=f"{now:%Y%m%d-%H%M%S}-{slug(plan.task.name)}-{slug(encoder.name)}-{secrets.token_hex(3)}",
        created=now.isoformat(timespec="microseconds"),
        task=plan.task.name,
        axis=plan.task.axis,
        model=encoder.name,
        probe=plan.probe_name,
        protocol=plan.protocol,
        seed=plan.options.seed,
        selected_on_test=on_test,
        input=plan.input_name,
        num_train=len(done.train.samples) if done.train else 0,
        num_classes=len(plan.splits.class_names),
        class_names=list(plan.splits.class_names),
        scores=list(scores),
        heads=[head_facts(head, on_test=on_test) for head in fitted.heads],
        controls=done.further.controls,
        motion_shares=done.further.motion_shares,
        fewer_labels=done.further.fewer_labels,
        failures=[
            Failure(sample=sample, split=split, reason=reason)
            for split, part in _parts(done).items()
            for sample, reason in part.failures.items()
        ],
        notes=[*_notes(done), *more_notes, *notes_on_clock(plan.options.results, now)],
        arguments=plain_facts(asdict(plan.options)),
        resolved=_resolved(done),
        digests=_digests(done),
        versions=environment.versions(),
        hardware=_hardware(done),
        git_revision=environment.git_revision(),
        cost=_cost(done),
    )


def _hardware(done: Outcome) -> dict[str, Any]:
    processes = {"processes": done.plan.world.size} if done.plan.world.size > 1 else {}
    return {**environment.hardware(str(done.encoder.device)), **processes}


def _parts(done: Outcome) -> dict[Split, SplitAccount]:
    """The splits that the run read."""
    return {"train": done.train, "test": done.test} if done.train else {"test": done.test}


def _digests(done: Outcome) -> dict[str, str]:
    samples = {"train": done.plan.splits.train, "test": done.plan.splits.test}
    parts = _parts(done)
    return {
        "encoder": done.encoder.digest,
        **({"probe": done.plan.given.digest} if done.plan.given else {}),
        **{f"{split}_features": part.space for split, part in parts.items()},
        **{f"{split}_list": list_digest(samples[split], part.contents) for split, part in parts.items()},
    }


def list_digest(samples: list[Sample], contents: list[str]) -> str:
    """SHA-256 of the ids, labels and contents of a whole list, readable or not."""
    rows = zip(samples, contents, strict=True)
    text = "\n".join(f"{sample.id} {sample.label} {content}" for sample, content in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _cost(done: Outcome) -> Cost:
    parts = [*_parts(done).values(), *done.further.accounts]
    return Cost(
        encoder_clips=sum(part.encoded_clips for part in parts),
        cached_clips=sum(part.cached_clips for part in parts),
        extract_s=round(sum(part.seconds for part in parts), 3),
        probe_s=round((0.0 if done.probe_known else done.fitted.seconds) + done.further.probe_s, 3),
        cached_probe=done.probe_known,
        total_s=round(done.seconds, 3),
        peak_memory_bytes=environment.peak_memory_bytes(),
        feature_bytes=sum(part.num_bytes for part in parts),
    )


def head_facts(head: probing_heads.Head, *, on_test: bool = False) -> Head:
    """A setting of a sweep, as it goes to disk; `on_test` where it was scored on the test split for the choice."""
    accuracy = None if head.accuracy is None else 100 * head.accuracy
    return Head(
        lr=head.lr,
        weight_decay=head.weight_decay,
        neighbours=head.neighbours,
        held_out_accuracy=None if on_test else accuracy,
        held_out_loss=None if on_test else head.loss,
        test_accuracy=accuracy if on_test else None,
        test_loss=head.loss if on_test else None,
        train_loss=head.train_loss,
        diverged=head.diverged,
        chosen=head.chosen,
        start_lr=head.start_lr,
        warmup_epochs=head.warmup_epochs,
        final_weight_decay=head.final_weight_decay,
    )


def _notes(done: Outcome) -> list[str]:
    plan = done.plan
    notes = [*_notes_on_probe(done), *notes_on(plan.data_folder), *plan.splits.notes]
    if plan.options.limit:
        notes.append(f"on a random subset of at most {plan.options.limit} samples of each split (--limit)")
    official = {"training": (plan.task.train_size, plan.splits.train), "test": (plan.task.test_size, plan.splits.test)}
    for split, (size, samples) in official.items():
        if size and len(samples) != size and not (plan.given and split == "training"):
            notes.append(f"{len(samples)} {split} samples listed; the official split has {size}")
    lists = (done.train.contents if done.train else [], done.test.contents)
    train, test = ({bytes_of(content) for content in contents} - {""} for contents in lists)
    shared = len(train & test)
    if shared:
        notes.append(shared_note(shared))
    return notes + [f"{done.encoder.name}: {note}" for note in done.encoder.report.get("notes", [])]


def notes_on_clock(results: Path, now: datetime) -> list[str]:
    """A note where a run in `results` was recorded later than `now`: tables go by these times to find the newest."""
    soon = f"{now + _CLOCKS_DIFFER_BY:%Y%m%d-%H%M%S}"
    later = [path.parent.name for path in results.glob("[0-9]*/record.json") if path.parent.name[: len(soon)] > soon]
    return [f"by this machine's clock it was made before {max(later)}, which was there already"] if later else []


def _notes_on_probe(done: Outcome) -> list[str]:
    """What a reader of the score must know of the recipe, or of the probe that was given."""
    given = done.plan.given
    if given is None:
        recipe = done.plan.recipe
        chosen = [selected_on_test_note(recipe.num_settings)] if recipe.selected_on_test else []
        return chosen + ([recipe.caveat] if recipe.caveat else [])
    notes = list(given.notes)
    if given.encoder not in (None, done.encoder.digest):
        notes.append(f"{given.path.name} was trained on the tokens of another encoder")
    if given.input_name not in (None, done.plan.input_name):
        notes.append(f"{given.path.name} was trained on {given.input_name}")
    doubt = suspicion(done.predictions.labels.tolist(), done.predictions.probabilities.argmax(axis=1))
    return [*notes, doubt] if doubt else notes


def selected_on_test_note(num_settings: int) -> str:
    """What a row says of a score whose setting was chosen by the test split."""
    return f"selected on test: the best of {num_settings} settings by this very score; never ranked, averaged or gated"


def _resolved(done: Outcome) -> dict[str, Any]:
    plan, fitted = done.plan, done.fitted
    return plain_facts(
        {
            "task": plan.task.model_dump(),
            "recipe": None if plan.given else plan.recipe.model_dump(),
            "probe_weights": asdict(plan.given) if plan.given else None,
            "encoder": {**asdict(plan.facts), "report": done.encoder.report, "precision": done.encoder.precision},
            "train_clips": None if plan.given else {**asdict(plan.train_clips), "draws": _draws(done)},
            **({"held_out_clips": asdict(plan.held_out_clips)} if plan.held_out_clips else {}),
            "test_clips": asdict(plan.test_clips),
            **_halved(done),
            "training": None
            if plan.given
            else {
                "epochs": fitted.epochs,
                "steps": fitted.steps,
                "batch_size": fitted.batch_size,
                "held_out_samples": fitted.num_held_out,
                **_streaming(fitted.streamed),
            },
        }
    )


def _halved(done: Outcome) -> dict[str, Any]:
    """Of splits on which memory ran out: the clips that were encoded at once after that."""
    halved = {split: part.halved_to for split, part in _parts(done).items() if part.halved_to}
    return {"clips_at_once_after_out_of_memory": halved} if halved else {}


def _draws(done: Outcome) -> int:
    """Clips (times segments) of each training video that the probe has seen."""
    fresh = done.fitted.streamed is not None and done.plan.recipe.augmentation != "none"
    return done.fitted.epochs if fresh else done.plan.draws("train")


def _streaming(streamed: StreamCounts | None) -> dict[str, Any]:
    if streamed is None:
        return {}
    return {
        "streamed_clips": streamed.clips,
        "streamed_s": round(streamed.seconds, 3),
        "clips_per_s": round(streamed.clips_per_s, 3),
        "waiting_share": round(streamed.waiting_share, 4),
    }


def plain_facts(content: dict[str, Any]) -> dict[str, Any]:
    """The same in types that JSON has; paths and the like as text."""
    plain: dict[str, Any] = json.loads(json.dumps(content, default=lambda value: remote_url(str(value)) or str(value)))
    return plain


def slug(name: str) -> str:
    """A name for a folder: letters, digits and dashes that every file system takes, at most 60."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name)[:60]
