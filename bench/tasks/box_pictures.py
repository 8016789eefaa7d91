"""A few test key frames of a run, chosen and drawn to be looked at: who was annotated, who was found, and doing what.

They differ in how they came out, and are of as many videos as possible. The same run chooses the same ones. Annotated
boxes are broad lines, boxes that were looked into thin ones upon them: of two with the same corners both are seen.
Colour and style of a line say the same thing.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torchvision.ops import box_iou

from bench.data.formats.ava import Corners
from bench.data.key_frames import BoxSample
from bench.records.key_frames import Guess, Person, ShownFrame
from bench.video.clip_views import VideoItem
from bench.video.frame_views import KeyFramePlan
from bench.video.loader import load_clips

MOST_FRAMES = 12
_MOST_GUESSES = 3
_LEAST_LIKELY = 0.01
"""Least probability of a second or third guess that is shown; the first is shown whatever it is."""
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
    """The key frames, each with its JPEG."""
    notes: list[str]
    """Notes on what could not be drawn."""


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
        """`right`, or in words the worst error in the key frame."""
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
    """Choose from every outcome in turn a key frame of a video that was taken least often so far."""
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


Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""
_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)
_NUMBER_PX = 17
_QUALITY = 85


@dataclass(frozen=True)
class Line:
    """How the edge of a box is drawn."""

    colour: Colour
    width: int
    """Pixels."""
    dash: tuple[int, int] | None = None
    """Pixels of colour and of black, in turn; None for an unbroken line."""


TRUTH = Line((0, 158, 115), 7)
RIGHT = Line((86, 180, 233), 3, (14, 7))
WRONG = Line((230, 159, 0), 3, (3, 5))
"""Colours of the Okabe-Ito palette, distinct for readers with any colour vision."""


@dataclass(frozen=True)
class DrawnBox:
    """A box and the number that is written at its upper left corner, once for boxes of the same number."""

    corners: tuple[float, float, float, float]
    """x1, y1, x2, y2, shares of the frame."""
    line: Line
    number: int


def draw_boxes(frame: NDArray[np.uint8], boxes: Sequence[DrawnBox]) -> bytes:
    """The frame, uint8 [H, W, 3], with its boxes: a JPEG of the same size."""
    picture = Image.fromarray(frame)
    canvas = ImageDraw.Draw(picture)
    places = [_pixels(box.corners, picture.size) for box in boxes]
    for box, place in sorted(zip(boxes, places, strict=True), key=lambda pair: -pair[0].line.width):
        _outline(canvas, place, box.line)
    numbered = {box.number: place for box, place in zip(boxes, places, strict=True)}
    _write_numbers(canvas, numbered, picture.size)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


def _pixels(corners: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(share * (side - 1)) for share, side in zip(corners, (*size, *size), strict=True))
    return x1, y1, x2, y2


def _outline(canvas: ImageDraw.ImageDraw, place: tuple[int, int, int, int], line: Line) -> None:
    """Centred where a broad line would lie that touches the edge of the box from inside."""
    inset = (TRUTH.width - line.width) // 2
    x1, y1, x2, y2 = place
    x1, y1, x2, y2 = x1 + inset, y1 + inset, max(x1, x2 - inset), max(y1, y2 - inset)
    if x2 <= x1 or y2 <= y1:
        return  # smaller than its edge: the number marks it
    canvas.rectangle((x1, y1, x2, y2), outline=_BLACK if line.dash else line.colour, width=line.width)
    if line.dash is None:
        return
    edge = line.width - 1
    for start, stop in _dashes(x2 - x1, line.dash):
        for y in (y1, y2 - edge):
            canvas.rectangle((x1 + start, y, x1 + stop, y + edge), fill=line.colour)
    for start, stop in _dashes(y2 - y1, line.dash):
        for x in (x1, x2 - edge):
            canvas.rectangle((x, y1 + start, x + edge, y1 + stop), fill=line.colour)


def _dashes(length: int, dash: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """First and last pixel of every dash."""
    return ((start, min(start + dash[0] - 1, length)) for start in range(0, length + 1, sum(dash)))


def _write_numbers(
    canvas: ImageDraw.ImageDraw, places: dict[int, tuple[int, int, int, int]], size: tuple[int, int]
) -> None:
    """Each number in a field of its own: right of another that is in its way, or below where the picture ends."""
    font = ImageFont.load_default(_NUMBER_PX)
    height = _NUMBER_PX + 4
    taken: list[tuple[int, int, int, int]] = []
    for number, (x1, y1, *_) in places.items():
        width = round(canvas.textlength(str(number), font=font)) + 8
        x, y = min(x1, size[0] - width), min(y1, size[1] - height)
        while any(x < right and left < x + width and y < low and up < y + height for left, up, right, low in taken):
            x, y = (x + 2, y) if x + 2 + width <= size[0] else (min(x1, size[0] - width), y + height)
        taken.append((x, y, x + width, y + height))
        canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=_BLACK, outline=_WHITE)
        canvas.text((x + width / 2, y + height / 2), str(number), fill=_WHITE, font=font, anchor="mm")
