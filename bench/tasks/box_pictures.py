"""A few test key frames of a run, chosen and drawn to be looked at: who was annotated, who was found, and doing what.

They differ in how they came out, and are of as many videos as possible. The same run chooses the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from bench.data.formats.ava import Corners
from bench.data.key_frames import BoxSample
from bench.records.key_frames import Guess, Person, ShownFrame
from bench.tasks.box_drawing import RIGHT, TRUTH, WRONG, DrawnBox, draw_boxes
from bench.video.clip_views import VideoItem
from bench.video.frame_views import KeyFramePlan
from bench.video.loader import load_clips

MOST_FRAMES = 12
_MOST_GUESSES = 3
_LEAST_LIKELY = 0.01
"""Of the second guess and the third; the first is shown whatever it is."""
_CANDIDATES = 1000
"""Key frames that a choice is made of."""
_SAME_PLACE = 0.5
"""Overlap (IoU) from which a box that was looked into is of an annotated person, as in the score."""
_SHORT_SIDE = 288
"""Pixels of a picture: enough to see, and little to pass on."""


@dataclass(frozen=True)
class DrawnFrames:
    """Key frames to keep with a record."""

    frames: list[tuple[ShownFrame, bytes]]
    """Each with its JPEG."""
    notes: list[str]
    """What could not be drawn."""


@dataclass(frozen=True)
class _Person:
    """A person of a key frame, in words and in place."""

    words: Person
    annotated: Corners | None
    looked_at: Corners | None

    @property
    def right(self) -> bool:
        """Whether the likeliest action is true."""
        return bool(self.words.predicted and self.words.predicted[0].right)


@dataclass(frozen=True)
class _Frame:
    """A key frame and the people in it, from left to right."""

    sample: BoxSample
    people: list[_Person]

    @property
    def outcome(self) -> str:
        """What is worst about it."""
        if any(person.looked_at is None for person in self.people):
            return "somebody was not looked for"
        if any(person.annotated is None for person in self.people):
            return "nobody was there"
        return "right" if all(person.right for person in self.people) else "wrong"


def draw_key_frames(
    samples: Sequence[BoxSample],
    probabilities: NDArray[np.float32],
    actions: Mapping[int, str],
    clips: KeyFramePlan,
    *,
    num_workers: int,
    timeout_s: float,
) -> DrawnFrames:
    """A few of the test key frames with their boxes; one that cannot be read again is left out and noted.

    `probabilities` [boxes, C] are of the boxes of all samples one after another, `actions` names them: number -> name.
    """
    chosen = _choose(_candidates(samples, probabilities, actions))
    places = [frame.sample.sample for frame in chosen]
    items = [VideoItem(id=place.id, path=place.path, start_s=place.start_s, fps=place.fps) for place in places]
    plan = replace(clips, frames_per_clip=1, short_side=_SHORT_SIDE, patch_size=1, square=False)
    frames: list[tuple[ShownFrame, bytes]] = []
    failures: list[str] = []
    loaded = load_clips(items, plan, num_workers=num_workers, timeout_s=timeout_s)
    for frame, clip in zip(chosen, loaded, strict=True):
        if clip.pixels is None:
            failures.append(f"{clip.id}: {clip.error}")
            continue
        key, people = frame.sample.truth, [person.words for person in frame.people]
        pixels: NDArray[np.uint8] = plan.unpack(clip.pixels)[0, 0].numpy()
        shown = ShownFrame(video=key.video, timestamp=key.timestamp, people=people)
        frames.append((shown, draw_boxes(pixels, _drawn(frame.people))))
    notes = [f"{len(failures)} of {len(chosen)} key frames could not be drawn, first {failures[0]}"] if failures else []
    return DrawnFrames(frames, notes)


def _drawn(people: Sequence[_Person]) -> list[DrawnBox]:
    boxes = []
    for number, person in enumerate(people, start=1):
        boxes += [DrawnBox(person.annotated, TRUTH, number)] if person.annotated else []
        line = RIGHT if person.right else WRONG
        boxes += [DrawnBox(person.looked_at, line, number)] if person.looked_at else []
    return boxes


def _choose(candidates: Iterator[_Frame]) -> list[_Frame]:
    """Of every outcome in turn, a key frame of a video that was taken least often so far."""
    by_outcome: dict[str, list[_Frame]] = {}
    for frame in candidates:
        by_outcome.setdefault(frame.outcome, []).append(frame)
    taken: Counter[str] = Counter()
    chosen: list[_Frame] = []
    while len(chosen) < MOST_FRAMES and any(by_outcome.values()):
        for outcome in sorted(by_outcome, reverse=True):
            left = by_outcome[outcome]
            if left and len(chosen) < MOST_FRAMES:
                best = min(range(len(left)), key=lambda place: taken[left[place].sample.truth.video])
                chosen.append(left.pop(best))
                taken[chosen[-1].sample.truth.video] += 1
    return chosen


def _candidates(
    samples: Sequence[BoxSample], probabilities: NDArray[np.float32], actions: Mapping[int, str]
) -> Iterator[_Frame]:
    """Key frames with a box: of every video one, then of every video another, drawn at random."""
    starts = np.cumsum([0, *(len(sample.looked_at) for sample in samples)])
    per_video: Counter[str] = Counter()
    turns = []
    for place in np.random.RandomState(0).permutation(len(samples)):
        sample = samples[place]
        if sample.looked_at or sample.truth.boxes:
            turns.append((per_video[sample.truth.video], int(place)))
            per_video[sample.truth.video] += 1
    for _, place in sorted(turns, key=lambda turn: turn[0])[:_CANDIDATES]:
        rows = probabilities[starts[place] : starts[place + 1]]
        yield _Frame(samples[place], _people(samples[place], rows, actions))


def _people(sample: BoxSample, probabilities: NDArray[np.float32], names: Mapping[int, str]) -> list[_Person]:
    """Everybody who is annotated or was looked for, from left to right; `probabilities` [boxes, C]."""
    annotated = list(sample.truth.boxes)
    partners = _partners(annotated, sample.looked_at)
    people = []
    for place, row in enumerate(probabilities):
        box = annotated[partners[place]] if place in partners else None
        true = sample.truth.boxes[box] if box else frozenset()
        words = Person(annotated=_actions(true, names) if box else None, predicted=_guesses(row, true, names))
        people.append(_Person(words, box, sample.looked_at[place]))
    for place, box in enumerate(annotated):
        if place not in partners.values():
            words = Person(annotated=_actions(sample.truth.boxes[box], names), predicted=None)
            people.append(_Person(words, box, None))
    return sorted(people, key=lambda person: person.looked_at or person.annotated or ())


def _partners(annotated: Sequence[Corners], looked_at: Sequence[Corners]) -> dict[int, int]:
    """Place of a box that was looked into -> place of the annotated box it is of, each once, best overlaps first."""
    if not annotated or not looked_at:
        return {}
    shared = box_iou(torch.tensor(looked_at), torch.tensor(annotated)).numpy()
    partners: dict[int, int] = {}
    for place in np.argsort(-shared, axis=None, kind="stable"):
        found, true = divmod(int(place), len(annotated))
        if shared[found, true] >= _SAME_PLACE and found not in partners and true not in partners.values():
            partners[found] = true
    return partners


def _guesses(row: NDArray[np.float32], true: frozenset[int], names: Mapping[int, str]) -> list[Guess]:
    actions = list(names)
    first, *others = np.argsort(-row, kind="stable")[:_MOST_GUESSES]
    return [
        Guess(action=names[actions[place]], percent=100 * float(row[place]), right=actions[place] in true)
        for place in (first, *(place for place in others if row[place] >= _LEAST_LIKELY))
    ]


def _actions(numbers: frozenset[int], names: Mapping[int, str]) -> list[str]:
    return [names[number] for number in sorted(numbers) if number in names]
