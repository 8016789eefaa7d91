"""Task card + the user's options -> key frames with their boxes, and the files that they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.cards.load import AnnotationFiles, BoxAnnotations, BoxReading, TaskCard
from bench.core.errors import BenchError
from bench.data.formats.ava import (
    Key,
    KeyFrame,
    read_action_list,
    read_detections,
    read_excluded,
    read_ground_truth,
    read_included,
)
from bench.data.formats.choice import find_annotations, index_folder
from bench.data.formats.lists import resolve
from bench.data.sample import ListOptions, Sample, Split, Splits
from bench.metrics.box_scores import unique_names


@dataclass(frozen=True)
class BoxSample:
    """A key frame: where it is, what is true of it, and the boxes in which actions are looked for."""

    sample: Sample
    """Its id is `video,timestamp`; `start_s` is its second in the file."""
    truth: KeyFrame
    looked_at: tuple[tuple[float, float, float, float], ...]
    """Corners x1, y1, x2, y2, shares of the frame."""


@dataclass(frozen=True)
class BoxSplits(Splits):
    """The samples of a task of boxes: key frames, whose labels mean nothing; of the training split those with a box, of
    the test split all that are evaluated, also those in which nothing was found."""

    frames: Mapping[str, BoxSample] = field(default_factory=dict)
    """Sample id -> its boxes, of both splits."""
    actions: Mapping[int, str] = field(default_factory=dict)
    """Actions that are evaluated: number -> name, in label order."""


def read_box_splits(
    card: TaskCard, where: ListOptions, reading: BoxReading, starts_s: float, *, test_only: bool = False
) -> BoxSplits:
    """The key frames of both splits, of the test split alone where nothing is trained.

    Raises BenchError naming file and row for anything that would mislead a score.
    """
    boxes = card.boxes
    if boxes is None:
        raise ValueError(f"task {card.name} has no boxes")
    data = where.data
    if data is None or not data.is_dir():
        what = "no such data folder" if data else f"task {card.name} needs your data"
        raise BenchError(what, where=str(data) if data else None, fix="give --data FOLDER with videos and annotations")
    notes: list[str] = []
    paths: dict[Split, Path] = {
        "train": where.train or find_annotations(card, data, "train"),
        "test": where.val or find_annotations(card, data, "test"),
    }
    truth = {split: _counted(path, card, boxes, data, split, notes) for split, path in paths.items()}
    _check_overlap(truth["train"], truth["test"], paths)
    actions = _actions(card, boxes, data, notes)
    looked_at = {split: {key: tuple(frame.boxes) for key, frame in frames.items()} for split, frames in truth.items()}
    if reading.test_boxes == "detector":
        looked_at["test"] = _detected(card, boxes, data, reading, set(truth["test"]), notes)
    files = _Files(data, {video for frames in truth.values() for video, _ in frames}, boxes.frame_rate)
    made = {
        split: [
            BoxSample(files.sample(frame, starts_s, str(paths[split])), frame, looked_at[split].get(key, ()))
            for key, frame in frames.items()
        ]
        for split, frames in truth.items()
    }
    with_boxes = [sample for sample in made["train"] if sample.looked_at]
    for split, samples in (("train", with_boxes), ("test", made["test"])):
        if not samples:
            raise BenchError(f"no key frame with a box in the {split} split", where=str(paths[split]))  # type: ignore[index]
    used = [*([] if test_only else with_boxes), *made["test"]]
    early = next((one.sample.id for one in used if starts_s and (one.sample.start_s or 0) < 0), None)
    if early:
        what = f"key frame {early} lies before second {starts_s:g}"
        raise BenchError(what, where="--set clip.starts_s", fix="give the second at which the files begin")
    return BoxSplits(
        train=[] if test_only else [one.sample for one in with_boxes],
        test=[one.sample for one in made["test"]],
        class_names=unique_names(actions),
        notes=tuple(notes),
        frames={one.sample.id: one for one in used},
        actions=actions,
    )


def _counted(
    path: Path, card: TaskCard, boxes: BoxAnnotations, data: Path, split: Split, notes: list[str]
) -> dict[Key, KeyFrame]:
    """The annotated key frames of a split without those that do not count."""
    frames = read_ground_truth(path, boxes.last_action_id)
    excluded_file = _find(data, _patterns(boxes.excluded, split))
    excluded = read_excluded(excluded_file) if excluded_file else set()
    included_file = _find(data, _patterns(boxes.included, split))
    included = read_included(included_file) if included_file else None
    if not excluded_file:
        notes.append(f"no file of excluded {split} timestamps of task {card.name}: every annotated key frame counts")
    kept = {
        key: frame for key, frame in frames.items() if key not in excluded and (included is None or key[1] in included)
    }
    if len(kept) < len(frames):
        notes.append(f"{len(frames) - len(kept)} of {len(frames)} {split} key frames are excluded by the annotations")
    return kept


def _actions(card: TaskCard, boxes: BoxAnnotations, data: Path, notes: list[str]) -> dict[int, str]:
    """The evaluated actions: of the official list in the data folder, else the card's."""
    names = card.classes if isinstance(card.classes, tuple) else ()
    of_card = dict(zip(boxes.action_ids, names, strict=True))
    found = _find(data, boxes.action_list)
    if not found:
        return of_card
    actions = read_action_list(found)
    beyond = [action for action in actions if not 1 <= action <= boxes.last_action_id]
    if beyond:
        raise BenchError(f"action {beyond[0]} is beyond {boxes.last_action_id}", where=str(found), fix="mend the list")
    if list(actions) != list(of_card):
        notes.append(f"{len(actions)} actions are evaluated, by {found.name}; the card has {len(of_card)}")
    return actions


def _detected(
    card: TaskCard, boxes: BoxAnnotations, data: Path, reading: BoxReading, wanted: set[Key], notes: list[str]
) -> dict[Key, tuple[tuple[float, float, float, float], ...]]:
    """The detector's boxes in the evaluated test frames."""
    path = _find(data, boxes.detections)
    if path is None:
        raise BenchError(
            f"no detected boxes of the test split: no {', '.join(boxes.detections)} here or one folder down",
            where=str(data),
            fix="get the file (docs/ava.md), or look in annotated boxes with --set probe.test_boxes=ground-truth",
        )
    found = {key: tuple(frame.boxes) for key, frame in read_detections(path, reading.min_box_score).items()}
    here = {key: found[key] for key in found if key in wanted and found[key]}
    if not here:
        raise BenchError(
            f"no box of score {reading.min_box_score:g} or more in any of {len(wanted)} test key frames",
            where=str(path),
            fix="check that the file is of this split, or lower --set probe.min_box_score",
        )
    notes.append(
        f"{sum(map(len, here.values()))} detected boxes of score {reading.min_box_score:g} or more, in {len(here)} of "
        f"{len(wanted)} test key frames"
    )
    return here


def _patterns(files: AnnotationFiles, split: Split) -> tuple[str, ...]:
    return files.train if split == "train" else files.test


def _find(data: Path, patterns: tuple[str, ...]) -> Path | None:
    """The first file of these names in the data folder or a folder directly below it."""
    for pattern in patterns:
        for place in (pattern, f"*/{pattern}"):
            found = next(iter(sorted(path for path in data.glob(place) if path.is_file())), None)
            if found is not None:
                return found
    return None


class _Files:
    """Where the videos of a data folder are, listed once."""

    def __init__(self, data: Path, videos: set[str], frame_rate: float) -> None:
        self._data = data
        self._index = index_folder(data, videos)
        self._frame_rate = frame_rate
        self._found: dict[str, Sample] = {}

    def sample(self, frame: KeyFrame, starts_s: float, annotations: str) -> Sample:
        """A key frame in its file, or where that is expected if it is not there."""
        if frame.video not in self._found:
            relative = next(iter(self._index.get(frame.video, ())), f"trainval/{frame.video}.mp4")
            path = resolve(relative, self._data, absolute_allowed=False, where=f"{annotations}, video {frame.video}")
            fps = self._frame_rate if Path(path).is_dir() else None
            self._found[frame.video] = Sample(frame.video, path, 0, fps=fps)
        return replace(self._found[frame.video], id=frame.id, start_s=frame.timestamp - starts_s)


def _check_overlap(train: Mapping[Key, KeyFrame], test: Mapping[Key, KeyFrame], paths: Mapping[Split, Path]) -> None:
    shared = {video for video, _ in train} & {video for video, _ in test}
    if shared:
        raise BenchError(
            f"{len(shared)} video(s) are in both splits, first '{min(shared)}'",
            where=f"{paths['train']} and {paths['test']}",
            fix="a test video must not be trained on: remove it from one file",
        )
