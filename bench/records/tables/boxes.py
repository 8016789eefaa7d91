"""The tables of answers for actions in boxes: what was found in each box, and the truth of the same key frames.

    detections.parquet      video, timestamp, x1, y1, x2, y2, probabilities (of all classes, in the record's order)
    ground_truth.parquet    video, timestamp, x1, y1, x2, y2, action

With both, `bench.frame_map` gives the record's score again, without videos and annotations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.box_scores import BoxAnswers, action_groups, unique_names
from bench.metrics.detection import CORNERS
from bench.records.tables import FILES
from bench.records.tables.reading import SAME, contradiction, matrix, read_columns, refuse_failed, whole_numbers

if TYPE_CHECKING:
    from bench.records.schema import Record

DETECTIONS, GROUND_TRUTH = FILES["boxes"]


def write(folder: Path, answers: BoxAnswers) -> None:
    """Write both tables of these answers."""
    boxes = answers.boxes.copy()
    boxes["probabilities"] = list(answers.probabilities)
    boxes.to_parquet(folder / DETECTIONS, index=False)
    answers.truth.to_parquet(folder / GROUND_TRUTH, index=False)


def read(folder: Path, record: Record) -> BoxAnswers:
    """The answers of the run in `folder`.

    Raises BenchError where a table is missing, damaged, or contradicts itself or the record.
    """
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
    refuse_failed(record, {f"{video},{second:04d}" for video, second in frames}, truth_path)
    return BoxAnswers(truth, boxes, probabilities, actions, groups)


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
