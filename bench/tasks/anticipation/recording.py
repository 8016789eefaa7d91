"""From what a run of anticipation did to its record, with the best answers beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.encoders.contract import Encoder
from bench.metrics.accuracy import class_answers
from bench.metrics.metric import score_all
from bench.metrics.recall_scores import RankedAnswers, ranked_answers
from bench.metrics.score import Score
from bench.pipeline.features import SplitAccount
from bench.pipeline.further import Further
from bench.pipeline.record import Outcome, make_record
from bench.probing.actions import HEADS
from bench.probing.attentive import AttentiveProbe
from bench.probing.files import save_probe
from bench.probing.train import FittedProbe
from bench.records.schema import Record
from bench.records.write import write_record
from bench.tasks.anticipation.plan import AnticipationPlan


@dataclass(frozen=True)
class Foreseen:
    """What a run of anticipation did."""

    plan: AnticipationPlan
    encoder: Encoder
    train: SplitAccount
    test: SplitAccount
    fitted: FittedProbe
    probe_known: bool
    """Whether the probe was trained in an earlier run and read from the cache."""
    scores: NDArray[np.float32]
    """[n, V + N + A], of the test samples in order."""
    seconds: float

    @property
    def heads(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Labels [n] and scores [n, classes] of verb, noun and action."""
        classes = self.plan.classes
        actions = torch.tensor([sample.label for sample in self.test.samples])
        labels = [part.numpy() for part in classes.labels(actions)]
        parts = np.split(self.scores, np.cumsum(classes.sizes)[:-1], axis=1)
        return dict(zip(HEADS, zip(labels, parts, strict=True), strict=True))

    @property
    def answers(self) -> RankedAnswers:
        """The best answers to the test samples."""
        samples = self.test.samples
        return ranked_answers([sample.id for sample in samples], [sample.path for sample in samples], self.heads)


def write_anticipation_record(done: Foreseen) -> tuple[Record, Path]:
    """Write the folder of a run: record, best answers, probe. It appears complete or not at all."""
    record = make_anticipation_record(done)

    def keep_probe(path: Path) -> None:
        if isinstance(done.fitted.probe, AttentiveProbe):
            facts = {name: getattr(record, name) for name in ("run_id", "task", "protocol", "model", "input")}
            facts |= {"encoder": record.digests["encoder"], "recipe": json.dumps(record.resolved["recipe"])}
            facts |= {"actions": json.dumps(done.plan.splits.pairs), "classes": json.dumps(record.class_names)}
            save_probe(path, done.fitted.probe, facts)

    return record, write_record(done.plan.options.results, record, done.answers, keep_probe)


def make_anticipation_record(done: Foreseen) -> Record:
    """Everything about a run, as it goes to disk. The classes are the actions, the first score is theirs."""
    plan = done.plan
    predictions = class_answers(
        samples=[sample.id for sample in done.test.samples],
        labels=[sample.label for sample in done.test.samples],
        probabilities=done.heads["action"][1],
        groups=[sample.path for sample in done.test.samples],
    )
    nothing = Further(readings=(), controls=[], motion_shares=[], fewer_labels=[], accounts=[], probe_s=0.0)
    outcome = Outcome(
        plan, done.encoder, done.train, done.test, done.fitted, done.probe_known, predictions, done.seconds, nothing
    )
    return make_record(outcome, scores=recall_scores(done), more_notes=_notes(done))


def recall_scores(done: Foreseen) -> list[Score]:
    """Class-mean recall at 5 of action, verb and noun, all of the one probe that was chosen."""
    return score_all(done.answers, len(done.test.failures)).scores


def _notes(done: Foreseen) -> list[str]:
    plan, notes = done.plan, []
    unseen = {sample.label for sample in plan.splits.test} - {sample.label for sample in plan.splits.train}
    if unseen:
        count = sum(sample.label in unseen for sample in plan.splits.test)
        notes.append(f"{count} test actions are of {len(unseen)} pairs of verb and noun that are never trained on")
    if plan.splits.num_left_out:
        notes.append(f"{plan.splits.num_left_out} test actions left out: no training sample has their verb and noun")
    return notes
