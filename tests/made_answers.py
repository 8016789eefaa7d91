"""Answers of every form, made up: models of any skill that differ from video to video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.metrics.accuracy import ClassAnswers
from bench.metrics.box_scores import BoxAnswers
from bench.metrics.detection import CORNERS
from bench.metrics.iou import Confusions, MapAnswers, confusion
from bench.metrics.metric import FORMS, Metric, metric_of
from bench.metrics.motion_share import Reading, controls_of
from bench.metrics.recall import RankedAnswers, ranked_answers
from bench.metrics.seed_scores import score_all
from bench.records.schema import Failure, Record
from bench.records.tables.controls import write_readings
from bench.records.write import write_record

CLASSES, EACH = 12, 6
"""Classes of every task, and samples of a video."""
ACTIONS = {number + 1: f"action {number}" for number in range(CLASSES)}
COUNTS = {head: np.arange(CLASSES, 0, -1) for head in ("class", "verb", "noun", "action")}
"""Training samples of each class."""


def scores_of(seed: int, model: int, skill: float, videos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Videos and labels [n], which follow from the seed alone, and scores [n, classes] of one model."""
    truth, random = np.random.RandomState(seed), np.random.RandomState([seed, model])
    video = np.repeat(np.arange(videos), EACH)
    labels = truth.randint(0, CLASSES, len(video))
    easy, liked = truth.randn(videos)[video], random.randn(videos)[video]
    scores = random.randn(len(video), CLASSES)
    scores[np.arange(len(video)), labels] += skill + easy + 0.7 * liked
    return video, labels, scores.astype(np.float32)


def names(video: np.ndarray) -> list[str]:
    """Ids of samples; of one video they do not come one after another."""
    return [f"{place % EACH}-{one:02d}" for place, one in enumerate(video)]


def classes(seed: int, model: int, skill: float, videos: int) -> ClassAnswers:
    video, labels, scores = scores_of(seed, model, skill, videos)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return ClassAnswers(tuple(names(video)), labels, shares, video)


def ranked(seed: int, model: int, skill: float, videos: int) -> RankedAnswers:
    video, labels, scores = scores_of(seed, model, skill, videos)
    paths = [f"videos/{one}.mp4" for one in video]
    heads = {
        "verb": ((labels + 1) % CLASSES, np.roll(scores, 1, axis=1)),
        "noun": (CLASSES - 1 - labels, scores[:, ::-1]),
        "action": (labels, scores),
    }
    return ranked_answers(names(video), paths, heads)


def boxes(seed: int, model: int, skill: float, videos: int) -> BoxAnswers:
    video, labels, scores = scores_of(seed, model, skill, videos)
    table = pd.DataFrame({"video": [f"v{one:02d}" for one in video], "timestamp": 902 + np.arange(len(video)) % EACH})
    table[list(CORNERS)] = [0.1, 0.1, 0.5, 0.5]
    chances = 1 / (1 + np.exp(-scores))
    return BoxAnswers(table.assign(action=labels + 1), table, chances, ACTIONS, {"all": list(ACTIONS)})


def maps(seed: int, model: int, skill: float, videos: int) -> MapAnswers:
    """Each image has twenty pixels."""
    truth, random = np.random.RandomState(seed), np.random.RandomState([seed, model])
    video = np.repeat(np.arange(videos), EACH)
    true, easy = truth.randint(0, CLASSES, (len(video), 20)), truth.randn(videos)[video]
    scores = random.randn(len(video), 20, CLASSES)
    liked = 0.7 * random.randn(videos)[video]
    np.put_along_axis(
        scores,
        true[..., None],
        np.take_along_axis(scores, true[..., None], axis=2) + (skill + easy + liked)[:, None, None],
        axis=2,
    )
    said = scores.argmax(axis=2)
    confusions = Confusions.of(confusion(*pair, CLASSES) for pair in zip(true, said, strict=True))
    return MapAnswers(tuple(names(video)), confusions, tuple(ACTIONS.values()), video)


FORMS_MADE: dict[str, Callable[..., Any]] = {"classes": classes, "boxes": boxes, "ranked": ranked, "maps": maps}


@dataclass(frozen=True)
class Made:
    """Answers for one metric, and what tests do with them."""

    metric: Metric[Any]
    make: Callable[..., Any]

    def __call__(self, seed: int, model: int = 0, skill: float = 1.0, videos: int = 10) -> Any:
        return self.make(seed, model, skill, videos)

    def only(self, answers: Any, groups: Sequence[str]) -> Any:
        """The samples of some groups."""
        kept = {one.rsplit("-")[-1] if "-" in one else one.lstrip("v") for one in groups}
        return answers.of([one for one in answers.samples if _video(one) in kept])

    def shuffled(self, answers: Any) -> Any:
        """The same in another order."""
        order = np.random.RandomState(0).permutation(len(answers.samples))
        return answers.of([answers.samples[place] for place in order])


def _video(sample: str) -> str:
    return sample.split(",")[0].lstrip("v") if "," in sample else sample.rsplit("-")[-1]


MADE = {name: Made(metric_of(name), make) for form, make in FORMS_MADE.items() for name in FORMS[form].metrics}


def write_made_run(
    make_record: Callable[..., Record],
    results: Path,
    form: str,
    *,
    readings: Sequence[Reading] = (),
    answers: Any = None,
    further: Sequence[Any] = (),
    failures: Sequence[str] = (),
    **fields: Any,
) -> Path:
    """A run on disk that gave these answers, with those in other frame orders; its record says what they score."""
    said = answers if answers is not None else FORMS_MADE[form](0, 0, 1.0, 10)
    scored = score_all(said, len(failures), further)
    beside = controls_of(readings, scored.scores[0].metric, COUNTS)
    groups = {"boxes": {"groups": {"all": [1, CLASSES]}}}
    record = make_record(
        task=f"made-{form}",
        scores=scored.scores,
        breakdowns=scored.breakdowns,
        controls=beside.controls,
        motion_shares=beside.shares,
        num_classes=CLASSES,
        class_names=list(ACTIONS.values()),
        failures=[Failure(sample=sample, split="test", reason="damaged") for sample in failures],
        resolved={"actions": ACTIONS, "task": {"name": f"made-{form}", "axis": "motion", **groups}},
        seeds=[fields.get("seed", 0) + 1000 * number for number in range(1 + len(further))],
        digests={"encoder": fields.get("model", "random"), "test_list": "a" * 64, "train_list": "b" * 64},
        **fields,
    )
    return write_record(
        results, record, said, add_files=lambda folder: write_readings(folder, readings), further=further
    )
