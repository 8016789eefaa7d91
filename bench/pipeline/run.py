"""One run from start to end: load, sample, extract, fit, score, record.

`bench.evaluate(task=..., model=..., probe=..., **options)` returns the record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.errors import BenchError
from bench.core.files import writable_folder
from bench.core.hashing import digest
from bench.core.progress import Reporter, Silent
from bench.data.missing_files import look_for_files, refuse_missing
from bench.encoders import Encoder
from bench.features.remote import shared_file
from bench.pipeline.features import (
    SplitFeatures,
    StreamedSplit,
    content_ids_of,
    examples_of,
    extract_held_out,
    extract_split,
    open_stream,
)
from bench.pipeline.plan import check_ready, make_plan, say_notes
from bench.pipeline.record import keep
from bench.pipeline.speed import fastest
from bench.pipeline.stages import (
    HeldOutFeatures,
    Inputs,
    Measured,
    MeasuredControl,
    MeasuredPart,
    MeasuredProbe,
    Prepared,
    ProbeJob,
)
from bench.pipeline.variants import label_parts, other_orders
from bench.probing.cache import memory_key, memory_path, remember_all
from bench.probing.checkpoints import Checkpoints
from bench.probing.scoring import FittedProbe
from bench.probing.source import HeldOut, TestSamples, TokenSource
from bench.probing.streaming import TokenStream
from bench.probing.train import answers_together, fit, fit_seeds
from bench.records.schema import Record
from bench.tasks.kind import RunPlan, with_order
from bench.tasks.options import make_options


def evaluate(*, reporter: Reporter | None = None, **options: Any) -> Record:
    """Measure how well a probe reads one task from one encoder's frozen features; write and return the record.

    `options` are the fields of `RunOptions`: task, model, probe, data, train, val, device, seed, ...
    Raises BenchError for whatever the user can mend, before a score is given.
    """
    reporter = reporter or Silent()
    (plan,) = say_notes([make_plan(make_options(options), reporter)], reporter)
    check_ready(plan)
    return run(plan, reporter)


def run(plan: RunPlan, reporter: Reporter) -> Record:
    """Carry out a plan."""
    prepared = prepare(plan, reporter)
    measured = measure(prepared.job, prepared.inputs, reporter)
    return keep(prepared, measured, reporter)


def prepare(plan: RunPlan, reporter: Reporter) -> Prepared:
    """Load the encoder and bring the features of both splits into the cache: for a released probe those of the test
    split alone, for a streaming recipe all but those that it trains on."""
    started = time.perf_counter()
    writable_folder(plan.options.results, option="--results")
    encoder = prepare_encoder(plan, reporter)
    plan = replace(plan, precision=encoder.precision)
    contents = content_ids_of(plan, reporter)
    prepared = _bring_features(plan, encoder, contents, reporter)
    controls = tuple(
        _bring_features(with_order(plan, order), encoder, contents, reporter) for order in other_orders(plan)
    )
    return replace(prepared, controls=controls, seconds=time.perf_counter() - started)


def _bring_features(plan: RunPlan, encoder: Encoder, contents: Mapping[str, str], reporter: Reporter) -> Prepared:
    """The features of a plan in one frame order."""
    started = time.perf_counter()
    train: SplitFeatures | StreamedSplit | None = None
    if plan.recipe.streaming and not plan.given:
        train = open_stream(plan, encoder, contents)
    elif not plan.given:
        train = extract_split(plan, "train", encoder, contents, reporter)
    held_out = _hold_out(plan, train, encoder, contents, reporter) if train else None
    test = extract_split(plan, "test", encoder, contents, reporter)
    return Prepared(plan, encoder, train, held_out, test, time.perf_counter() - started)


def _hold_out(
    plan: RunPlan,
    train: SplitFeatures | StreamedSplit,
    encoder: Encoder,
    contents: Mapping[str, str],
    reporter: Reporter,
) -> HeldOutFeatures | None:
    """Draw the examples that a setting is chosen on, and encode them as test clips are, where the recipe does so."""
    selection = plan.recipe.hold_out
    if plan.held_out_clips is None or selection is None:
        return None
    _, rows = plan.kind.objective(plan, train.samples).hold_out(selection.held_out, seed=plan.options.seed)
    owners = examples_of(plan, train.samples)
    samples = [train.samples[number] for number in sorted({owners[row] for row in rows.tolist()})]
    features = extract_held_out(plan, samples, encoder, contents, reporter)
    readable = [row for row in rows.tolist() if train.samples[owners[row]].id not in features.failures]
    if len(readable) != len(features.keys):
        raise ValueError("some examples of a sample are held out, and some are trained on")
    return HeldOutFeatures(rows, np.array(readable), features)


def measure(job: ProbeJob, inputs: Inputs, reporter: Reporter) -> Measured:
    """Train the recipe on the training tokens, or take the released probe; then read the test tokens once. The controls
    and the trainings on parts of the samples are measured in the same way."""
    started = time.perf_counter()
    measured = _measure_one(job, inputs, reporter)
    controls = tuple(
        MeasuredControl(
            None if job.plan.given else _measure_one(part, source, reporter),
            tuple(_outputs(job, probe.fitted, source.test) for probe in measured.probes),
        )
        for part, source in zip(job.controls, inputs.controls, strict=True)
    )
    parts = tuple(
        MeasuredPart(part.share, part.draw, part.rows, _measure_one(part.job, part.inputs(inputs), reporter))
        for part in label_parts(job)
    )
    return replace(measured, controls=controls, fewer_labels=parts, seconds=time.perf_counter() - started)


def _measure_one(job: ProbeJob, inputs: Inputs, reporter: Reporter) -> Measured:
    started = time.perf_counter()
    given = job.plan.given
    if given is not None:
        fitted = [(given.load(), False)]
    elif inputs.train is not None:
        fitted = fit_probes(job, inputs.train, reporter, _chosen_on(job, inputs))
    else:
        raise ValueError("nothing to train a probe on, and none given")
    probes = tuple(MeasuredProbe(one, known, _outputs(job, one, inputs.test)) for one, known in fitted)
    return Measured(probes, time.perf_counter() - started)


def _chosen_on(job: ProbeJob, inputs: Inputs) -> HeldOut | TestSamples | None:
    """The examples that a setting is chosen on, where they are not among those that are trained on."""
    if job.plan.chosen_on_test and job.test_targets is not None and inputs.test is not None:
        return TestSamples(inputs.test, job.test_targets)
    return inputs.held_out


def _outputs(job: ProbeJob, fitted: FittedProbe, test: TokenSource | None) -> NDArray[Any]:
    """What a probe says of the test examples, its outputs as the task orders them."""
    plan, given = job.plan, job.plan.given
    objective = job.objective or plan.kind.objective(plan, [])
    if test is None:
        return np.zeros((0, objective.num_outputs), dtype=np.float32)
    outputs = objective.outputs(fitted.probe, test, job.test_targets, device=plan.device)
    return outputs if given is None else plan.kind.in_task_order(given, outputs)


def prepare_encoder(plan: RunPlan, reporter: Reporter | None = None) -> Encoder:
    """The encoder on its device, in its precision or the fastest, as the plan's facts say."""
    return fastest(plan, plan.load_encoder(), reporter or Silent())


def extract_features(plan: RunPlan, encoder: Encoder, reporter: Reporter) -> tuple[SplitFeatures, SplitFeatures]:
    """Bring the features of the training and the test split into the cache, every sample accounted for.

    Raises BenchError for a streaming recipe, which trains on none, and where more files are missing than may be.
    """
    refuse_missing(plan.task, look_for_files(plan.task, plan.splits), plan.options.max_failed)
    if plan.recipe.streaming:
        raise BenchError(
            f"recipe {plan.recipe.name} encodes its training clips anew in every epoch: none go to the cache",
            where="--probe",
            fix="run it, or give a recipe that reads the cache, such as attentive",
        )
    contents = content_ids_of(plan, reporter)
    train = extract_split(plan, "train", encoder, contents, reporter)
    _hold_out(plan, train, encoder, contents, reporter)
    return train, extract_split(plan, "test", encoder, contents, reporter)


def fit_probes(
    job: ProbeJob, train: TokenSource | TokenStream, reporter: Reporter, chosen_on: HeldOut | TestSamples | None = None
) -> list[tuple[FittedProbe, bool]]:
    """Train the recipe on the training features from every seed of the plan, or read the probes that were trained so
    before.

    The test split is not looked at, unless the recipe chooses on it. Returns the probes, and whether they were read.
    """
    plan = job.plan
    prefix = ", ".join(filter(None, (plan.facts.name, plan.task.name, job.remark)))
    if answers_together(plan.recipe, job.trained):
        found = _fit(job, plan.seeds, train, reporter, chosen_on, prefix)
    else:
        found = []
        for number, seed in enumerate(plan.seeds, start=1):
            which = f"{prefix}, probe {number} of {len(plan.seeds)}" if len(plan.seeds) > 1 else prefix
            found += _fit(job, [seed], train, reporter, chosen_on, which)
    if all(known for _, known in found):
        reporter.say(f"{prefix}: probe read from the cache")
    return found


def _fit(
    job: ProbeJob,
    seeds: Sequence[int],
    train: TokenSource | TokenStream,
    reporter: Reporter,
    chosen_on: HeldOut | TestSamples | None,
    prefix: str,
) -> list[tuple[FittedProbe, bool]]:
    """The probes of these seeds, trained together, or read."""
    plan, facts = job.plan, [probe_facts(job, seed) for seed in seeds]
    checkpoints = Checkpoints(plan.cache / "training" / memory_key(facts[0])) if plan.recipe.streaming else None

    def progress(phase: str, *state: Any) -> None:
        reporter.stage(f"{prefix}: {phase}", *state)

    def train_now(places: Sequence[int]) -> list[FittedProbe]:
        data = (plan.recipe, train, job.trained, plan.probe_heads)
        if answers_together(plan.recipe, job.trained):
            held_out = None if isinstance(chosen_on, TestSamples) else chosen_on
            some = [seeds[place] for place in places]
            return fit_seeds(*data, some, device=plan.device, progress=progress, held_out=held_out)
        options: dict[str, Any] = {"chosen_on": chosen_on, "checkpoints": checkpoints}
        return [fit(*data, seed=seeds[0], device=plan.device, progress=progress, **options)]

    with ExitStack() as shared:
        for one in facts:
            shared.enter_context(shared_file(memory_path(plan.cache, one), plan.remote_cache))
        found = remember_all(plan.cache, facts, train_now)
    if checkpoints:
        checkpoints.remove()
    for fitted, known in found:
        if fitted.streamed and not known:
            reporter.say(f"{prefix}: {fitted.streamed}")
    return found


def probe_facts(job: ProbeJob, seed: int) -> dict[str, Any]:
    """What the trained probe depends on besides the code: its key in the cache."""
    plan, held = job.plan, job.held_out
    on_test = job.test_targets if plan.chosen_on_test else None
    return {
        "features": job.train_space,
        "examples": digest([job.train_items, job.trained.facts()]),
        "recipe": plan.recipe.model_dump(mode="json", exclude={"title", "caveat", "seeds", "seeds_up_to"}),
        "num_heads": plan.probe_heads,
        "seed": seed,
        "device": torch.device(plan.device).type,
        **({"held_out": [held.space, digest([held.items, held.rows.tolist()])]} if held else {}),
        **({"test": [job.test_space, digest([job.test_items, on_test.tolist()])]} if on_test is not None else {}),
    }
