"""From what a run of anticipation did to its record, and the best answers beside it.

    top5.parquet    sample, video; for each of verb, noun and action: the label, the five classes of highest score in
                    falling order, and their scores

Recall at 5 follows from it without the probe.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.files import atomic_folder, writable_folder
from bench.encoders.contract import Encoder
from bench.metrics.recall import hits_at
from bench.metrics.recall_scores import BEST, scores_of_hits
from bench.metrics.score import Predictions, Score
from bench.pipeline.features import SplitAccount
from bench.pipeline.further import Further
from bench.pipeline.record import Outcome, make_record
from bench.probing.actions import HEADS
from bench.probing.attentive import AttentiveProbe
from bench.probing.files import save_probe
from bench.probing.train import FittedProbe
from bench.records.schema import Record
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
    def videos(self) -> list[int]:
        """Numbers of the videos that the test samples were cut from."""
        numbers = {path: number for number, path in enumerate(dict.fromkeys(s.path for s in self.test.samples))}
        return [numbers[sample.path] for sample in self.test.samples]


def write_anticipation_record(done: Foreseen) -> tuple[Record, Path]:
    """Write the folder of a run: record, best answers, probe. It appears complete or not at all."""
    record = make_anticipation_record(done)
    folder = writable_folder(done.plan.options.results, option="--results") / record.run_id
    with atomic_folder(folder) as temporary:
        _write_best(temporary / "top5.parquet", done)
        (temporary / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
        if isinstance(done.fitted.probe, AttentiveProbe):
            facts = {name: getattr(record, name) for name in ("run_id", "task", "protocol", "model", "input")}
            facts |= {"encoder": record.digests["encoder"], "recipe": json.dumps(record.resolved["recipe"])}
            facts |= {"actions": json.dumps(done.plan.splits.pairs), "classes": json.dumps(record.class_names)}
            save_probe(temporary / "probe.safetensors", done.fitted.probe, facts)
    return record, folder


def make_anticipation_record(done: Foreseen) -> Record:
    """Everything about a run, as it goes to disk. The classes are the actions, the first score is theirs."""
    plan = done.plan
    predictions = Predictions(
        samples=[sample.id for sample in done.test.samples],
        labels=[sample.label for sample in done.test.samples],
        probabilities=done.heads["action"][1],
        videos=[sample.path for sample in done.test.samples],
    )
    nothing = Further(readings=(), controls=[], motion_shares=[], fewer_labels=[], accounts=[], probe_s=0.0)
    outcome = Outcome(
        plan, done.encoder, done.train, done.test, done.fitted, done.probe_known, predictions, done.seconds, nothing
    )
    return make_record(outcome, scores=recall_scores(done), more_notes=_notes(done))


def recall_scores(done: Foreseen) -> list[Score]:
    """Class-mean recall at 5 of action, verb and noun, all of the one probe that was chosen."""
    hits = {head: (labels, hits_at(labels, values, BEST)) for head, (labels, values) in done.heads.items()}
    return scores_of_hits(hits, done.videos, len(done.test.failures))


def _notes(done: Foreseen) -> list[str]:
    plan, notes = done.plan, []
    unseen = {sample.label for sample in plan.splits.test} - {sample.label for sample in plan.splits.train}
    if unseen:
        count = sum(sample.label in unseen for sample in plan.splits.test)
        notes.append(f"{count} test actions are of {len(unseen)} pairs of verb and noun that are never trained on")
    if plan.splits.num_left_out:
        notes.append(f"{plan.splits.num_left_out} test actions left out: no training sample has their verb and noun")
    return notes


def _write_best(path: Path, done: Foreseen) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "sample": pa.array([sample.id for sample in done.test.samples], pa.string()),
        # Numbers instead of names: a path of this machine has no place in a result.
        "video": pa.array(done.videos, pa.int32()),
    }
    for head, (labels, values) in done.heads.items():
        best = np.argsort(-values, axis=1, kind="stable")[:, :BEST]
        columns[f"{head}_label"] = pa.array(labels, pa.int32())
        columns[f"{head}_top5"] = pa.array(list(best.astype(np.int32)), pa.list_(pa.int32()))
        columns[f"{head}_scores"] = pa.array(list(np.take_along_axis(values, best, axis=1)), pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), path)
