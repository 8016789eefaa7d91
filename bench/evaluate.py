"""One run from start to end: load, sample, extract, fit, score, record.

`bench.evaluate(task=..., model=..., probe=..., **options)` returns the record.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.encoders import Encoder, load_encoder
from bench.features.contents import content_ids
from bench.features.split import SplitFeatures, extract_split
from bench.files import writable_folder
from bench.plan import RunPlan, make_options, make_plan
from bench.probing import save_probe
from bench.probing.attentive import AttentiveProbe
from bench.probing.linear import LinearProbe
from bench.probing.memory import remember
from bench.probing.source import TokenSource
from bench.probing.train import FittedProbe, fit, predict
from bench.progress import Reporter, Silent
from bench.recording import Outcome, make_record
from bench.scores.records import Predictions, Record, write_record


def evaluate(*, reporter: Reporter | None = None, **options: Any) -> Record:
    """Measure how well a probe reads one task from one encoder's frozen features; write and return the record.

    `options` are the fields of `bench.plan.RunOptions`: task, model, probe, data, train, val, device, seed, ...
    Raises BenchError for whatever the user can mend, before a score is given.
    """
    reporter = reporter or Silent()
    return run(make_plan(make_options(options), reporter), reporter)


@dataclass(frozen=True)
class ProbeJob:
    """What is left to do of a plan when its features are in the cache. Small enough to be sent to another process."""

    plan: RunPlan
    labels: list[int]
    """Of the readable training samples."""
    train_items: list[list[str]]
    """Of each readable training sample: its items in the feature space."""
    test_items: list[list[str]]
    train_space: str
    """Key of the feature space of the training split."""
    test_space: str


@dataclass(frozen=True)
class Prepared:
    """A plan whose features are in the cache."""

    plan: RunPlan
    encoder: Encoder
    train: SplitFeatures | None
    """None where a probe is given."""
    test: SplitFeatures
    seconds: float

    @property
    def train_tokens(self) -> TokenSource | None:
        """What the probe is trained on; None where one is given."""
        return self.train.tokens if self.train else None

    @property
    def job(self) -> ProbeJob:
        """What is left to do."""
        return ProbeJob(
            plan=self.plan,
            labels=[sample.label for sample in self.train.samples] if self.train else [],
            train_items=self.train.keys if self.train else [],
            test_items=self.test.keys,
            train_space=self.train.space if self.train else "",
            test_space=self.test.space,
        )


@dataclass(frozen=True)
class Measured:
    """What a probe made of the features of a plan."""

    fitted: FittedProbe
    known: bool
    """Whether the probe was trained before and read from the cache."""
    probabilities: NDArray[np.float32]
    """[n, C], of the test samples in order."""
    seconds: float


def run(plan: RunPlan, reporter: Reporter) -> Record:
    """Carry out a plan."""
    prepared = prepare(plan, reporter)
    measured = measure(prepared.job, prepared.train_tokens, prepared.test.tokens, reporter)
    return keep(prepared, measured, reporter)


def prepare(plan: RunPlan, reporter: Reporter) -> Prepared:
    """Load the encoder and bring the features into the cache: of both splits, or for a given probe the test split's."""
    started = time.perf_counter()
    writable_folder(plan.options.results, option="--results")
    encoder = prepare_encoder(plan)
    train: SplitFeatures | None = None
    if plan.given:
        test = extract_split(plan, "test", encoder, _contents(plan, reporter), reporter)
    else:
        train, test = extract_features(plan, encoder, reporter)
    return Prepared(plan, encoder, train, test, time.perf_counter() - started)


def measure(job: ProbeJob, train: TokenSource | None, test: TokenSource, reporter: Reporter) -> Measured:
    """Train the recipe on the training tokens, or take the given probe; then look at the test tokens once."""
    started = time.perf_counter()
    given = job.plan.given
    if given is not None:
        fitted, known = given.load(), False
    elif train is not None:
        fitted, known = fit_probe(job, train, reporter)
    else:
        raise ValueError("nothing to train a probe on, and none given")
    probabilities = predict(fitted.probe, test, device=job.plan.device)
    if given is not None:
        probabilities = given.in_task_order(probabilities)
    return Measured(fitted, known, probabilities, time.perf_counter() - started)


def keep(prepared: Prepared, measured: Measured, reporter: Reporter) -> Record:
    """Score the predictions and write the record, the predictions and the probe."""
    plan, encoder, test = prepared.plan, prepared.encoder, prepared.test
    predictions = Predictions(
        samples=[sample.id for sample in test.samples],
        labels=[sample.label for sample in test.samples],
        probabilities=measured.probabilities,
    )
    seconds = prepared.seconds + measured.seconds
    fitted = measured.fitted
    record = make_record(Outcome(plan, encoder, prepared.train, test, fitted, measured.known, predictions, seconds))
    save = None if plan.given else (lambda path: keep_probe(path, fitted, record))
    folder = write_record(plan.options.results, record, predictions, save)
    reporter.say(f"{encoder.name}, {plan.task.name}: {record.scores[0].value:.1f} % ({seconds:.0f} s), {folder}")
    return record


def prepare_encoder(plan: RunPlan) -> Encoder:
    """The encoder on its device, in its precision."""
    return load_encoder(plan.options.model, plan.device).to(plan.device, plan.precision)


def extract_features(plan: RunPlan, encoder: Encoder, reporter: Reporter) -> tuple[SplitFeatures, SplitFeatures]:
    """Bring the features of the training and the test split into the cache, every sample accounted for."""
    contents = _contents(plan, reporter)
    return (
        extract_split(plan, "train", encoder, contents, reporter),
        extract_split(plan, "test", encoder, contents, reporter),
    )


def _contents(plan: RunPlan, reporter: Reporter) -> dict[str, str]:
    """Content ids of all files of the plan, by path."""
    paths = [sample.path for sample in (*plan.splits.train, *plan.splits.test)]
    return content_ids(plan.cache, paths, lambda done, total: reporter.stage("hashing files", done, total))


def fit_probe(job: ProbeJob, train: TokenSource, reporter: Reporter) -> tuple[FittedProbe, bool]:
    """Train the recipe on the training features, or read the probe that was trained on them before.

    The test split is not looked at. Returns the probe, and whether it was read.
    """
    plan = job.plan
    prefix = f"{plan.facts.name}, {plan.task.name}"

    def train_now() -> FittedProbe:
        return fit(
            plan.recipe,
            train,
            np.array(job.labels),
            len(plan.splits.class_names),
            plan.facts.num_heads,
            seed=plan.options.seed,
            device=plan.device,
            progress=lambda phase, done, total: reporter.stage(f"{prefix}: {phase}", done, total),
        )

    fitted, known = remember(plan.cache, probe_facts(job), train_now)
    if known:
        reporter.say(f"{prefix}: probe read from the cache")
    return fitted, known


def probe_facts(job: ProbeJob) -> dict[str, Any]:
    """What the trained probe depends on besides the code: its key in the cache."""
    plan = job.plan
    return {
        "features": job.train_space,
        "items": hashlib.sha256(json.dumps([job.train_items, job.labels]).encode()).hexdigest(),
        "recipe": plan.recipe.model_dump(mode="json", exclude={"title", "caveat"}),
        "num_classes": len(plan.splits.class_names),
        "num_heads": plan.facts.num_heads,
        "seed": plan.options.seed,
        "device": torch.device(plan.device).type,
    }


def keep_probe(path: Path, fitted: FittedProbe, record: Record) -> None:
    """Save a trained probe where `load_probe` finds it again; nearest neighbours have nothing to save."""
    if isinstance(fitted.probe, AttentiveProbe | LinearProbe):
        facts = {name: getattr(record, name) for name in ("run_id", "task", "protocol", "model", "input")}
        facts |= {"encoder": record.digests["encoder"], "recipe": json.dumps(record.resolved["recipe"])}
        save_probe(path, fitted.probe, {**facts, "classes": json.dumps(record.class_names)})


class _CallableModule(ModuleType):
    # `bench.evaluate` is this module once it is imported, and also the public function: so the module can be called.
    def __call__(self, **options: Any) -> Record:
        return evaluate(**options)


sys.modules[__name__].__class__ = _CallableModule
