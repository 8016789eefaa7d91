"""What the tables beside a record say of it: every score, its interval, counts and parts made anew, and compared.

    predictions.parquet                          one label a sample: top-1, and with controls.parquet the controls
    top5.parquet                                 actions that were foreseen: class-mean recall at 5
    detections.parquet, ground_truth.parquet     boxes: frame mAP, its classes and groups

Every run writes the tables of its metric. A score of one label a sample without them is not believed; tables of boxes
and of actions may have been left out where a folder was passed on, and then a doubt says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import BenchError
from bench.metrics.accuracy import METRICS
from bench.metrics.box_scores import action_groups, labelled_boxes, score_boxes, unique_names
from bench.metrics.detection import CORNERS
from bench.metrics.recall_scores import BEST, HEADS, metric_name, scores_of_hits
from bench.metrics.score import Breakdown, Score
from bench.records.schema import Record
from bench.records.tables.answers import FILE_NAME as PREDICTIONS
from bench.records.tables.answers import (
    SAME,
    Answers,
    answers_as_written,
    compare_scores,
    contradiction,
    matrix,
    read_columns,
    refuse_twice,
    whole_numbers,
)

DETECTIONS, GROUND_TRUTH, TOP5, CONTROLS = (
    "detections.parquet",
    "ground_truth.parquet",
    "top5.parquet",
    "controls.parquet",
)
FRAME_MAP = "frame-mAP@0.5"


def check_tables(folder: Path, record: Record) -> tuple[Answers | None, list[str]]:
    """The answers of a run of one label a sample, in order of its list, and doubts.

    Raises BenchError that says what contradicts what, or that a table is missing or damaged.
    """
    metrics = [score.metric for score in record.scores]
    needed = _tables_of(metrics)
    for name in sorted({PREDICTIONS, TOP5, DETECTIONS, GROUND_TRUTH} - set(needed)):
        if needed and (folder / name).is_file():
            raise contradiction(folder / name, f"it is no table of {metrics[0]}")
    if needed == (PREDICTIONS,):
        answers = answers_as_written(folder, record)
        _refuse_failed(record, set(answers.samples), folder / PREDICTIONS)
        if record.breakdowns:
            raise contradiction(folder / PREDICTIONS, f"{record.breakdowns[0].metric} does not follow from it")
        _check_controls(folder, record, answers)
        return answers, []
    there = [name for name in needed if (folder / name).is_file()]
    if not there:
        what = f"no {' and no '.join(needed)} beside the record" if needed else f"no metric {metrics[0]} is known here"
        return None, [f"its score could not be made anew: {what}"]
    if needed == (TOP5,):
        _check_recall(folder, record)
    else:
        _check_boxes(folder, record)
    return None, []


def _tables_of(metrics: list[str]) -> tuple[str, ...]:
    """The tables that a run with these scores writes; nothing where its first metric is not known."""
    if metrics[0] in METRICS:
        return (PREDICTIONS,)
    if metrics[0] in {metric_name(head) for head in HEADS}:
        return (TOP5,)
    return (DETECTIONS, GROUND_TRUTH) if metrics[0] == FRAME_MAP else ()


def _refuse_failed(record: Record, samples: set[str], table: Path) -> None:
    """Raises BenchError where a sample that could not be read has an answer."""
    both = [failure.sample for failure in record.failures if failure.split == "test" and failure.sample in samples]
    if both:
        raise contradiction(table, f"it has an answer to {both[0]}, which the record lists under failures")


def _check_controls(folder: Path, record: Record, answers: Answers) -> None:
    """The scores of other frame orders, by the classes that were predicted for the samples of the usual one."""
    path = folder / CONTROLS
    if not record.controls:
        return
    names = [f"{control.frames}_by_{control.trained_on}" for control in record.controls]
    table = read_columns(path, ["sample", "label", *names])
    if table["sample"].to_pylist() != list(answers.samples) or table["label"].to_pylist() != answers.labels.tolist():
        raise contradiction(path, f"other samples or labels than in {PREDICTIONS}")
    hits: dict[str, dict[int, bool]] = {}
    for name, control in zip(names, record.controls, strict=True):
        said, score = table[name].to_pylist(), control.score
        hits[name] = {row: label == answers.labels[row] for row, label in enumerate(said) if label is not None}
        # A sample that only this order could read is counted, and has no row here.
        unseen, right = score.n - len(hits[name]), sum(hits[name].values())
        if not 0 <= unseen <= record.scores[0].failed or not right <= (score.correct or 0) <= right + unseen:
            there, here = f"{right} of {len(hits[name])} are right", f"{score.correct} of {score.n}"
            raise contradiction(path, f"{name}: {there}, and the record says {here}")
        if name == "ordered_by_ordered" and said != answers.predicted.tolist():
            raise contradiction(path, f"{name}: other predictions than in {PREDICTIONS}")
    _check_shares(path, record, hits, dict(enumerate(answers.hits.astype(bool).tolist())))


def _check_shares(path: Path, record: Record, hits: dict[str, dict[int, bool]], ordered: dict[int, bool]) -> None:
    """The shares without order and motion. Their intervals need the training labels, which no record has."""
    orders = {"order": "shuffled_by_shuffled", "motion": "static_by_static"}
    for share in record.motion_shares:
        other, what = hits.get(orders[share.without]), f"the share without {share.without}"
        if other is None or share.chance is None:
            raise contradiction(
                path, f"{what} has no {'control' if other is None else 'level of chance'} to be made of"
            )
        rows = ordered.keys() & other.keys()
        right = sum(ordered[row] for row in rows)
        above = right - len(rows) * share.chance / 100
        made = (right - sum(other[row] for row in rows)) / above if above else float("nan")
        if not abs(made - share.value) <= SAME:
            raise contradiction(path, f"{what} is {made:.6f} by it, and {share.value:.6f} in the record")


def _check_recall(folder: Path, record: Record) -> None:
    path = folder / TOP5
    columns = [f"{head}_{part}" for head in HEADS for part in ("label", "top5", "scores")]
    table = read_columns(path, ["sample", "video", *columns])
    names = [str(name) for name in table["sample"].to_pylist()]
    refuse_twice(names, path)
    _refuse_failed(record, set(names), path)
    heads = {}
    for head in HEADS:
        labels = whole_numbers(table, path, f"{head}_label")
        best = matrix(table, path, f"{head}_top5")
        _check_order(path, head, best, matrix(table, path, f"{head}_scores"))
        heads[head] = labels, (best == labels[:, None]).any(axis=1)
    made = scores_of_hits(heads, whole_numbers(table, path, "video").tolist(), record.scores[0].failed)
    _compare_all(path, record, made)


def _check_order(path: Path, head: str, best: Any, scores: Any) -> None:
    """Raises BenchError where the best answers of a head are not different classes in falling order of their scores."""
    size = best.shape[1]
    ordered = np.sort(best, axis=1)
    falling = bool(np.isfinite(scores).all()) and scores.shape == best.shape and bool((np.diff(scores) <= 0).all())
    if size > BEST or (np.diff(ordered) == 0).any() or not falling:
        raise contradiction(path, f"the answers of {head} are not the {BEST} classes of highest score, best first")


def _check_boxes(folder: Path, record: Record) -> None:
    truth_path, path = folder / GROUND_TRUTH, folder / DETECTIONS
    key = ["video", "timestamp", *CORNERS]
    annotated = read_columns(truth_path, [*key, "action"])
    whole_numbers(annotated, truth_path, "timestamp")
    truth = annotated.to_pandas()
    table = read_columns(path, [*key, "probabilities"], may_be_empty=True)
    boxes = table.select(key).to_pandas()
    actions, groups = _actions(record, path)
    said = matrix(table, path, "probabilities") if len(boxes) else np.zeros((0, len(actions)))
    probabilities = said.astype(np.float32)
    fitting = (probabilities >= 0) & (probabilities <= 1 + SAME)
    if not fitting.all() or probabilities.shape[1] != len(actions):
        raise contradiction(path, f"not one probability, 0 to 1, for each of {len(actions)} actions in each box")
    frames = set(zip(truth["video"], truth["timestamp"], strict=True))
    for file, rows, what in ((path, boxes, "a box"), (truth_path, truth, "an action of a box")):
        if rows.duplicated().any():
            raise contradiction(
                file, f"{what} is there twice, the second time in row {int(rows.duplicated().argmax())}"
            )
    if not set(zip(boxes["video"], boxes["timestamp"], strict=True)) <= frames:
        raise contradiction(path, f"it has boxes in key frames that are not in {GROUND_TRUTH}")
    _refuse_failed(record, {f"{video},{second:04d}" for video, second in frames}, truth_path)
    try:
        made = score_boxes(
            FRAME_MAP,
            truth,
            labelled_boxes(boxes, probabilities, actions),
            actions,
            groups,
            num_frames=len(frames),
            failed=record.scores[0].failed,
        )
    except BenchError as error:
        raise contradiction(path, f"no score can be made of it: {error.where}: {error.what}") from error
    _compare_all(path, record, [made.score], made.breakdowns)


def _actions(record: Record, path: Path) -> tuple[dict[int, str], dict[str, list[int]]]:
    """The evaluated actions by number, and those of each group, as the record's settings say."""
    try:
        actions = {int(number): str(name) for number, name in record.resolved["actions"].items()}
        card = (record.resolved["task"].get("boxes") or {}).get("groups") or {}
        groups = action_groups(actions, card)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise contradiction(path, "the record does not name the actions that it scores") from error
    if list(unique_names(actions)) != record.class_names:
        raise contradiction(path, "the record's class names are not those of the actions that it scores")
    return actions, groups


def _compare_all(path: Path, record: Record, made: list[Score], breakdowns: Sequence[Breakdown] = ()) -> None:
    if [score.metric for score in record.scores] != [score.metric for score in made]:
        here, there = (", ".join(score.metric for score in scores) for scores in (record.scores, made))
        raise contradiction(path, f"it gives the scores {there}, and the record has {here}")
    for said, score in zip(record.scores, made, strict=True):
        compare_scores(path, said, score)
    for said_part, made_part in zip_longest(record.breakdowns, breakdowns):
        if said_part is None or made_part is None or not _alike(made_part, said_part):
            what = made_part or said_part
            raise contradiction(path, f"{what.metric} by {what.by} is another than in the record")


def _alike(made: Breakdown, said: Breakdown) -> bool:
    """Whether two breakdowns have the same parts and values."""
    if (made.metric, made.by, made.values.keys()) != (said.metric, said.by, said.values.keys()):
        return False
    pairs: Iterator[tuple[float | None, float | None]] = (
        (made.values[name], said.values[name]) for name in made.values
    )
    return all(a == b if a is None or b is None else abs(a - b) <= SAME for a, b in pairs)
