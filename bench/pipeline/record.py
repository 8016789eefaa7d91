"""Writes the record of a run: its scores, what was measured beside them, and everything they follow from."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from bench.core import machine as environment
from bench.core.hashing import text_digest
from bench.core.progress import Reporter
from bench.core.remote import remote_url
from bench.core.types import Split
from bench.data.verify.manifest import notes_on
from bench.encoders.contract import Encoder
from bench.metrics.accuracy import ClassAnswers, suspicion
from bench.metrics.metric import Answers
from bench.metrics.seed_scores import score_all
from bench.pipeline.beside import Further, answers_of, further_of, train_account
from bench.pipeline.features import SplitAccount, account
from bench.pipeline.stages import Measured, Prepared
from bench.pipeline.sweep_facts import edges, mean_heads, not_converged, training_curve
from bench.probing.attentive import AttentiveProbe
from bench.probing.dense import DenseProbe
from bench.probing.files import save_probe
from bench.probing.mean import MeanProbe
from bench.probing.pooled import LinearProbe
from bench.probing.scoring import FittedProbe
from bench.probing.streaming import StreamCounts
from bench.records.conditions import shared_note
from bench.records.consistency import PROBE_NAME
from bench.records.schema import Cost, Failure, Record
from bench.records.tables import seed_folder
from bench.records.tables.controls import write_readings
from bench.records.write import write_record
from bench.tasks.kind import Kept, RunPlan
from bench.video.contents import bytes_of

_CLOCKS_DIFFER_BY = timedelta(minutes=1)
"""Runs of several machines may share a folder; smaller differences of their clocks mean nothing."""


@dataclass(frozen=True)
class Outcome:
    """Everything that a run did and measured, from which its record is made."""

    plan: RunPlan
    encoder: Encoder
    train: SplitAccount | None
    """None for a released probe."""
    test: SplitAccount
    measured: Measured
    answers: tuple[Answers, ...]
    """Of every probe."""
    kept: Kept
    further: Further
    seconds: float

    @property
    def fitted(self) -> FittedProbe:
        """The probe of the run's own seed."""
        return self.measured.fitted


def keep(prepared: Prepared, measured: Measured, reporter: Reporter) -> Record:
    """Score the answers and write the record, the answers and the probe."""
    plan, samples = prepared.plan, prepared.test.samples
    done = Outcome(
        plan=plan,
        encoder=prepared.encoder,
        train=train_account(prepared, measured),
        test=account(prepared.test),
        measured=measured,
        answers=answers_of(plan, samples, measured.outputs),
        kept=plan.kind.keep(plan, samples, measured.outputs[0]),
        further=further_of(prepared, measured),
        seconds=prepared.seconds + measured.seconds,
    )
    record = make_record(done)

    def keep_more(folder: Path) -> None:
        write_readings(folder, done.further.readings)
        done.kept.write(folder)

        for number, probe in enumerate(measured.probes if not plan.given else ()):
            keep_probe(seed_folder(folder, number) / PROBE_NAME, probe.fitted, done, record)

    first, *further = done.answers
    folder = write_record(plan.options.results, record, first, add_files=keep_more, further=further)
    reporter.say(f"{record.model}, {record.task}: {_in_words(plan, record)} ({done.seconds:.0f} s), {folder}")
    return record


def _in_words(plan: RunPlan, record: Record) -> str:
    if len(record.scores) == 1:
        return f"{record.scores[0].value:.1f} {plan.kind.unit}"
    return ", ".join(f"{score.metric} {score.value:.1f} %" for score in record.scores)


def keep_probe(path: Path, fitted: FittedProbe, done: Outcome, record: Record) -> None:
    """Save a trained probe where `load_probe` finds it again; nearest neighbours have nothing to save."""
    probe = fitted.probe
    if isinstance(probe, AttentiveProbe | DenseProbe | LinearProbe | MeanProbe):
        facts = {name: getattr(record, name) for name in ("run_id", "task", "protocol", "model", "input")}
        facts |= {"encoder": record.digests["encoder"], "recipe": json.dumps(record.resolved["recipe"])}
        facts |= done.plan.kind.probe_facts(done.plan)
        save_probe(path, probe, {**facts, "classes": json.dumps(record.class_names)})


def make_record(done: Outcome) -> Record:
    """Everything about a run, as it goes to disk."""
    plan, encoder = done.plan, done.encoder
    now = datetime.now(timezone.utc)
    on_test = plan.chosen_on_test
    scored = score_all(done.answers[0], len(done.test.failures), done.answers[1:])
    return Record(
        run_id=f"{now:%Y%m%d-%H%M%S}-{slug(plan.task.name)}-{slug(encoder.name)}-{secrets.token_hex(3)}",
        created=now.isoformat(timespec="microseconds"),
        task=plan.task.name,
        axis=plan.task.axis,
        model=encoder.name,
        probe=plan.probe_name,
        protocol=plan.protocol,
        seed=plan.options.seed,
        seeds=list(plan.seeds),
        selected_on_test=on_test,
        input=plan.input_name,
        num_train=len(done.train.samples) if done.train else 0,
        num_classes=len(plan.splits.class_names),
        class_names=list(plan.splits.class_names),
        scores=scored.scores,
        heads=mean_heads([probe.fitted for probe in done.measured.probes], on_test=on_test),
        training=training_curve([probe.fitted for probe in done.measured.probes]),
        breakdowns=scored.breakdowns,
        controls=done.further.beside.controls,
        motion_shares=done.further.beside.shares,
        fewer_labels=done.further.fewer_labels,
        failures=[
            Failure(sample=sample, split=split, reason=reason)
            for split, part in _parts(done).items()
            for sample, reason in part.failures.items()
        ],
        notes=[*_notes(done), *plan.kind.more_notes(plan), *notes_on_clock(plan.options.results, now)],
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
    parts = _parts(done)
    return {
        "encoder": done.encoder.digest,
        **({"probe": done.plan.given.digest} if done.plan.given else {}),
        **{f"{split}_features": part.space for split, part in parts.items()},
        **{f"{split}_list": _list_digest(done.plan, split, part.contents) for split, part in parts.items()},
    }


def _list_digest(plan: RunPlan, split: Split, contents: list[str]) -> str:
    """SHA-256 of the ids, truth and contents of a whole list, readable or not."""
    return text_digest(plan.kind.list_text(plan, plan.samples(split), contents))


def _cost(done: Outcome) -> Cost:
    parts = [*_parts(done).values(), *done.further.accounts]
    return Cost(
        encoder_clips=sum(part.encoded_clips for part in parts),
        cached_clips=sum(part.cached_clips for part in parts),
        extract_s=round(sum(part.seconds for part in parts), 3),
        probe_s=round(done.measured.trained_s + done.further.probe_s, 3),
        cached_probe=done.measured.known,
        total_s=round(done.seconds, 3),
        peak_memory_bytes=environment.peak_memory_bytes(),
        feature_bytes=sum(part.num_bytes for part in parts),
    )


def _notes(done: Outcome) -> list[str]:
    plan = done.plan
    notes = [*_notes_on_probe(done), *plan.kind.notes(plan), *notes_on(plan.data_folder), *plan.splits.notes]
    notes += done.kept.notes
    if plan.options.limit:
        called = plan.kind.samples_called
        notes.append(f"on a random subset of at most {plan.options.limit} {called} of each split (--limit)")
    official = {"training": (plan.task.train_size, plan.splits.train), "test": (plan.task.test_size, plan.splits.test)}
    for split, (size, samples) in official.items():
        if size and len(samples) != size and not (plan.given and split == "training"):
            notes.append(f"{len(samples)} {split} {plan.kind.samples_called} listed; the official split has {size}")
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
    """What a reader of the score must know of the recipe, or of the released probe."""
    given = done.plan.given
    if given is None:
        recipe = done.plan.recipe
        chosen = [selected_on_test_note(recipe.num_settings)] if recipe.selected_on_test else []
        probes = [probe.fitted for probe in done.measured.probes]
        return chosen + ([recipe.caveat] if recipe.caveat else []) + not_converged(probes) + edges(probes)
    notes = list(given.notes)
    if given.encoder not in (None, done.encoder.digest):
        notes.append(f"{given.path.name} was trained on the tokens of another encoder")
    if given.input_name not in (None, done.plan.input_name):
        notes.append(f"{given.path.name} was trained on {given.input_name}")
    answers = done.answers[0]
    if isinstance(answers, ClassAnswers):
        doubt = suspicion(answers.labels.tolist(), answers.predicted)
        notes += [doubt] if doubt else []
    return notes


def selected_on_test_note(num_settings: int) -> str:
    """What a row says of a score whose setting was chosen by the test split."""
    return f"selected on test: the best of {num_settings} settings by this very score; never ranked, averaged or gated"


def _resolved(done: Outcome) -> dict[str, Any]:
    plan, fitted = done.plan, done.fitted
    examples = {str(split): part.num_examples for split, part in _parts(done).items()}
    return plain_facts(
        {
            "task": plan.task.model_dump(),
            "recipe": None if plan.given else plan.recipe.model_dump(),
            "probe_weights": asdict(plan.given) if plan.given else None,
            "encoder": {**asdict(plan.facts), "report": done.encoder.report, "precision": done.encoder.precision},
            **plan.kind.resolved(plan, examples, _draws(done)),
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
    """Say how many clips were encoded at once after memory ran out, for each split where it did."""
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
