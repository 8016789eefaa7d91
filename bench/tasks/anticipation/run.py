"""One run of anticipation from start to end: encode the clips before actions, fit three queries, score, record."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.core.files import writable_folder
from bench.core.progress import Reporter
from bench.data.staging import bring_files
from bench.encoders import Encoder
from bench.encoders.with_predictor import load_with_predictor, steps_ahead
from bench.features.remote import shared_file
from bench.pipeline.features import SplitFeatures, account, extract_split
from bench.pipeline.plan import chosen_encoder
from bench.pipeline.speed import fastest
from bench.probing.actions import Foreseeing, action_scores, load_action_probe
from bench.probing.cache import memory_path, remember
from bench.probing.train import FittedProbe, fit
from bench.records.schema import Record
from bench.tasks.anticipation.plan import AnticipationPlan
from bench.tasks.anticipation.recording import Foreseen, write_anticipation_record
from bench.video.contents import content_ids


def run_anticipation(plan: AnticipationPlan, reporter: Reporter) -> Record:
    """Carry out a plan."""
    started = time.perf_counter()
    writable_folder(plan.options.results, option="--results")
    encoder = fastest(plan, load_foreseer(plan), reporter)
    plan = replace(plan, precision=encoder.precision)
    train, test = encode_actions(plan, encoder, reporter)
    fitted, known = _fit(plan, train, reporter)
    scores = action_scores(fitted.probe, test.tokens, device=plan.device)
    done = Foreseen(
        plan=plan,
        encoder=encoder,
        train=account(train),
        test=account(test),
        fitted=fitted,
        probe_known=known,
        scores=scores,
        seconds=time.perf_counter() - started,
    )
    record, folder = write_anticipation_record(done)
    values = ", ".join(f"{score.metric} {score.value:.1f} %" for score in record.scores)
    reporter.say(f"{encoder.name}, {plan.task.name}: {values} ({done.seconds:.0f} s), {folder}")
    return record


def encode_actions(plan: AnticipationPlan, encoder: Encoder, reporter: Reporter) -> tuple[SplitFeatures, SplitFeatures]:
    """Bring the features of the training and the test split into the cache, every action accounted for."""
    paths = [sample.path for sample in (*plan.splits.train, *plan.splits.test)]
    bring_files(paths, reporter=reporter)
    contents = content_ids(plan.cache, paths, lambda done, total: reporter.stage("hashing files", done, total))
    train = extract_split(plan, "train", encoder, contents, reporter)
    return train, extract_split(plan, "test", encoder, contents, reporter)


def load_foreseer(plan: AnticipationPlan) -> Encoder:
    """The encoder, with its predictor where the protocol reads both, on its device, in its precision, as the plan's
    facts say."""
    question, clips = plan.question, plan.test_clips
    if question.tokens == "encoder":
        return plan.load_encoder()
    grid = plan.facts.grid(clips.frames_per_clip, clips.size, clips.size)
    ahead = steps_ahead(question.seconds, clips.fps or 0.0, plan.facts.tubelet_size)
    joined = load_with_predictor(chosen_encoder(plan.options, plan.task), grid, ahead, plan.device)
    return joined.to(plan.device, plan.precision).as_planned(plan.facts)


def _fit(plan: AnticipationPlan, train: SplitFeatures, reporter: Reporter) -> tuple[FittedProbe, bool]:
    """Train the recipe on the training clips, or read the probe that was trained on them before."""
    labels = [sample.label for sample in train.samples]
    videos = [sample.path for sample in train.samples]
    _, video_numbers = np.unique(videos, return_inverse=True)
    prefix = f"{plan.facts.name}, {plan.task.name}"
    facts: dict[str, Any] = {
        "features": train.space,
        "items": _digest([train.keys, labels, video_numbers.tolist()]),
        "recipe": plan.recipe.model_dump(mode="json", exclude={"title", "caveat"}),
        "actions": _digest([plan.classes.sizes, plan.classes.pairs]),
        "num_heads": plan.probe_heads,
        "seed": plan.options.seed,
        "device": torch.device(plan.device).type,
    }

    def train_now() -> FittedProbe:
        return fit(
            plan.recipe,
            train.tokens,
            np.array(labels),
            sum(plan.classes.sizes),
            plan.probe_heads,
            seed=plan.options.seed,
            device=plan.device,
            progress=lambda phase, *state: reporter.stage(f"{prefix}: {phase}", *state),
            objective=Foreseeing(plan.classes, videos),
        )

    with shared_file(memory_path(plan.cache, facts), plan.remote_cache):
        fitted, known = remember(plan.cache, facts, train_now, load=load_action_probe)
    if known:
        reporter.say(f"{prefix}: probe read from the cache")
    return fitted, known


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
