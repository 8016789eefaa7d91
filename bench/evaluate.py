"""One run from start to end: load, sample, extract, fit, score, record.

`bench.evaluate(task=..., model=..., probe=..., **options)` returns the record.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from types import ModuleType
from typing import Any

import numpy as np

from bench import environment
from bench.annotations import Sample
from bench.encoders import Encoder, load_encoder
from bench.errors import BenchError
from bench.features.contents import content_ids
from bench.features.extract import Extraction, extract, feature_fields, item_key
from bench.features.store import FeatureSet, Store
from bench.plan import RunPlan, make_options, make_plan
from bench.probing import train
from bench.probing.train import FittedProbe, fit, predict
from bench.progress import Reporter, Silent
from bench.scores.metrics import score_of
from bench.scores.records import Cost, Failure, Head, Predictions, Record, write_record
from bench.video.loader import ClipPlan, VideoItem


def evaluate(*, reporter: Reporter | None = None, **options: Any) -> Record:
    """Measure how well a probe reads one task from one encoder's frozen features; write and return the record.

    `options` are the fields of `bench.plan.RunOptions`: task, model, probe, data, train, val, device, seed, ...
    Raises BenchError for whatever the user can mend, before a score is given.
    """
    reporter = reporter or Silent()
    return run(make_plan(make_options(options), reporter), reporter)


def run(plan: RunPlan, reporter: Reporter) -> Record:
    """Carry out a plan."""
    started = time.perf_counter()
    encoder = prepare_encoder(plan)
    features = extract_features(plan, encoder, reporter)
    fitted = fit_probe(plan, encoder, features, reporter)
    reporter.say(f"{plan.task.name}: one look at the {len(features.test)} test samples")
    probabilities = predict(fitted.probe, features.test_tokens, device=str(encoder.device))
    predictions = Predictions(
        samples=[sample.id for sample in features.test],
        labels=[sample.label for sample in features.test],
        probabilities=probabilities,
    )
    seconds = time.perf_counter() - started
    record = make_record(plan, encoder, features, fitted, predictions, seconds)
    folder = write_record(plan.options.results, record, predictions)
    reporter.say(f"{plan.task.name}: record in {folder}")
    return record


@dataclass(frozen=True)
class SplitFeatures:
    """The readable samples of a run, their tokens, and what could not be read."""

    train: list[Sample]
    test: list[Sample]
    train_tokens: FeatureSet
    test_tokens: FeatureSet
    failures: list[Failure]
    extractions: list[Extraction]
    digests: dict[str, str]


def prepare_encoder(plan: RunPlan) -> Encoder:
    """The encoder on its device, in its precision."""
    device = environment.choose_device(plan.options.device)
    precision = environment.choose_precision(plan.options.precision, device)
    return load_encoder(plan.options.model, device).to(device, precision)


def extract_features(plan: RunPlan, encoder: Encoder, reporter: Reporter) -> SplitFeatures:
    """Bring the features of both splits into the cache, and account for every sample that cannot be read."""
    train, test = plan.splits.train, plan.splits.test
    paths = [sample.path for sample in (*train, *test)]
    contents = content_ids(plan.cache, paths, lambda done, total: reporter.stage("hashing files", done, total))
    parts = {
        "train": (train, plan.train_clips, plan.train_draws),
        "test": (test, plan.test_clips, 1),
    }
    stores: dict[str, Store] = {}
    kept: dict[str, list[tuple[Sample, list[str]]]] = {}
    failures: list[Failure] = []
    extractions = []
    for split, (samples, clips, draws) in parts.items():
        items = {sample.id: _items(sample, contents, draws) for sample in samples}
        stores[split] = Store(plan.cache, feature_fields(encoder, clips))
        done = _extract_split(plan, encoder, f"encoding {split} clips", items, clips, stores[split], reporter)
        extractions.append(done)
        reasons = {
            sample.id: reason
            for sample in samples
            for reason in [next((done.failures[k] for k in map(item_key, items[sample.id]) if k in done.failures), "")]
            if reason
        }
        _refuse_too_many(plan, split, samples, reasons)
        failures += [Failure(sample=i, split=split, reason=r) for i, r in reasons.items()]
        kept[split] = [(s, [item_key(i) for i in items[s.id]]) for s in samples if s.id not in reasons]
    return SplitFeatures(
        train=[sample for sample, _ in kept["train"]],
        test=[sample for sample, _ in kept["test"]],
        train_tokens=FeatureSet(stores["train"], [keys for _, keys in kept["train"]]),
        test_tokens=FeatureSet(stores["test"], [keys for _, keys in kept["test"]]),
        failures=failures,
        extractions=extractions,
        digests={
            "encoder": encoder.digest,
            **{f"{split}_features": store.key for split, store in stores.items()},
            **{f"{split}_samples": _list_digest(rows) for split, rows in kept.items()},
        },
    )


def _extract_split(
    plan: RunPlan,
    encoder: Encoder,
    stage: str,
    items: dict[str, list[VideoItem]],
    clips: ClipPlan,
    store: Store,
    reporter: Reporter,
) -> Extraction:
    workers = plan.options.workers
    done = extract(
        encoder,
        [item for draws in items.values() for item in draws],
        clips,
        store,
        num_workers=environment.default_workers() if workers is None else workers,
        timeout_s=plan.options.timeout_s,
        batch_size=plan.options.batch_size,
        progress=lambda finished, total: reporter.stage(f"{encoder.name}: {stage}", finished, total),
    )
    for note in done.notes:
        reporter.say(note)
    source = "encoded now" if done.encoded_clips else "all"
    cached = f", {done.cached_clips} clips from the cache" if done.cached_clips else ""
    encoded = f"{done.encoded_clips} clips {source}" if done.encoded_clips else "nothing to encode"
    reporter.say(f"{encoder.name}: {stage}: {encoded}{cached} ({done.seconds:.1f} s)")
    return done


def _items(sample: Sample, contents: dict[str, str], draws: int) -> list[VideoItem]:
    """What the loader is asked for: identified by the file's content, so that equal clips share their tokens."""
    identity = contents.get(sample.path, f"unreadable {sample.path}")
    if sample.start_s is not None or sample.end_s is not None:
        identity += f"@{sample.start_s}-{sample.end_s}"
    return [
        VideoItem(id=identity, path=sample.path, draw=draw, start_s=sample.start_s, end_s=sample.end_s)
        for draw in range(draws)
    ]


def _refuse_too_many(plan: RunPlan, split: str, samples: Sequence[Sample], reasons: dict[str, str]) -> None:
    if len(reasons) <= plan.options.max_failed * len(samples):
        return
    shown = "; ".join(f"{sample}: {reason}" for sample, reason in list(reasons.items())[:3])
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise BenchError(
        f"{len(reasons)} of {len(samples)} {split} samples cannot be read ({shown}{more})",
        where=f"task {plan.task.name}",
        fix=f"mend or unlist them; no score is given above --max-failed {plan.options.max_failed}",
    )


def fit_probe(plan: RunPlan, encoder: Encoder, features: SplitFeatures, reporter: Reporter) -> FittedProbe:
    """Train the recipe on the training features; the test split is not looked at."""
    labels = np.array([sample.label for sample in features.train])
    prefix = f"{encoder.name}, {plan.task.name}"
    return fit(
        plan.recipe,
        features.train_tokens,
        labels,
        len(plan.splits.class_names),
        encoder.num_heads,
        seed=plan.options.seed,
        device=str(encoder.device),
        progress=lambda stage, done, total: reporter.stage(f"{prefix}: {stage}", done, total),
    )


def make_record(
    plan: RunPlan,
    encoder: Encoder,
    features: SplitFeatures,
    fitted: FittedProbe,
    predictions: Predictions,
    seconds: float,
) -> Record:
    """Everything about the run, as it goes to disk."""
    now = datetime.now(timezone.utc)
    failed = sum(failure.split == "test" for failure in features.failures)
    score = score_of(plan.task.metric, predictions.labels, predictions.probabilities, failed)
    done = features.extractions
    return Record(
        run_id=f"{now:%Y%m%d-%H%M%S}-{plan.task.name}-{_slug(encoder.name)}-{secrets.token_hex(3)}",
        created=now.isoformat(timespec="seconds"),
        task=plan.task.name,
        axis=plan.task.axis,
        model=encoder.name,
        probe=plan.recipe.name,
        protocol=plan.protocol,
        seed=plan.options.seed,
        input=plan.input_name,
        num_train=len(features.train),
        num_classes=len(plan.splits.class_names),
        class_names=list(plan.splits.class_names),
        scores=[score],
        heads=[_head(head) for head in fitted.heads],
        failures=features.failures,
        notes=_notes(plan, encoder, features),
        arguments=_plain(asdict(plan.options)),
        resolved=_resolved(plan, encoder, fitted),
        digests=features.digests,
        versions=environment.versions(),
        hardware=environment.hardware(str(encoder.device)),
        git_revision=environment.git_revision(),
        cost=Cost(
            encoder_clips=sum(part.encoded_clips for part in done),
            cached_clips=sum(part.cached_clips for part in done),
            extract_s=round(sum(part.seconds for part in done), 3),
            probe_s=round(fitted.seconds, 3),
            total_s=round(seconds, 3),
            peak_memory_bytes=environment.peak_memory_bytes(),
            feature_bytes=features.train_tokens.num_bytes + features.test_tokens.num_bytes,
        ),
    )


def _head(head: train.Head) -> Head:
    return Head(
        lr=head.lr,
        weight_decay=head.weight_decay,
        neighbours=head.neighbours,
        held_out_accuracy=None if head.held_out_accuracy is None else 100 * head.held_out_accuracy,
        held_out_loss=head.held_out_loss,
        diverged=head.diverged,
        chosen=head.chosen,
    )


def _notes(plan: RunPlan, encoder: Encoder, features: SplitFeatures) -> list[str]:
    notes = [plan.recipe.caveat] if plan.recipe.caveat else []
    if plan.options.limit:
        notes.append(f"on a random subset of at most {plan.options.limit} samples of each split (--limit)")
    notes += [f"{encoder.name}: {note}" for note in encoder.report.get("notes", [])]
    if features.failures:
        notes.append(f"{len(features.failures)} unreadable samples left out, listed in the record")
    return notes


def _resolved(plan: RunPlan, encoder: Encoder, fitted: FittedProbe) -> dict[str, Any]:
    return _plain(
        {
            "task": plan.task.model_dump(),
            "recipe": plan.recipe.model_dump(),
            "encoder": {**asdict(plan.facts), "report": encoder.report, "precision": encoder.precision},
            "train_clips": {**asdict(plan.train_clips), "draws": plan.train_draws},
            "test_clips": asdict(plan.test_clips),
            "probe": {
                "epochs": fitted.epochs,
                "steps": fitted.steps,
                "batch_size": fitted.batch_size,
                "held_out": fitted.num_held_out,
            },
        }
    )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _list_digest(rows: list[tuple[Sample, list[str]]]) -> str:
    text = "\n".join(f"{sample.id} {sample.label} {keys[0]}" for sample, keys in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in name)[:60]


class _CallableModule(ModuleType):
    # `bench.evaluate` is this module once it is imported, and also the public function: so the module can be called.
    def __call__(self, **options: Any) -> Record:
        return evaluate(**options)


sys.modules[__name__].__class__ = _CallableModule
