"""The key frames that a run keeps: chosen by how they came out, with the same people in words as in the picture."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ava_standin import ava_standin, box_of
from PIL import Image

from bench.data.formats.ava import Corners, KeyFrame
from bench.data.key_frames import BoxSample
from bench.data.sample import Sample
from bench.pipeline.plan import make_plan
from bench.tasks.box_pictures import DrawnFrames, draw_key_frames
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options

ACTIONS = {1: "sit", 2: "stand", 3: "walk"}
LEFT, MIDDLE, RIGHT = (0.0, 0.0, 0.3, 1.0), (0.35, 0.0, 0.65, 1.0), (0.7, 0.0, 1.0, 1.0)
SHIFTED = (0.05, 0.0, 0.3, 1.0)
WALKS = (0.004, 0.3, 0.9)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    folder = tmp_path_factory.mktemp("films")
    data = ava_standin(folder / "data", train=2, test=3)
    settings = {"clip.starts_s": 900, "clip.resolution": 32}
    options = {"task": "ava", "model": "random", "data": data, "settings": settings, "cache": folder / "cache"}
    return make_plan(make_options(options))


def shown(plan: RunPlan, samples: Sequence[BoxSample], rows: Sequence[Sequence[float]]) -> DrawnFrames:
    said = np.array(rows, np.float32).reshape(-1, len(ACTIONS))
    return draw_key_frames(samples, said, ACTIONS, plan.test_clips, num_workers=0, timeout_s=60)


def looked_at(plan: RunPlan) -> list[BoxSample]:
    """The test key frames."""
    return [plan.splits.frames[sample.id] for sample in plan.splits.test]


def frame(plan: RunPlan, truth: dict[Corners, set[int]], found: Sequence[Corners], number: int = 0) -> BoxSample:
    """A key frame of the stand-in with other people in it."""
    of = looked_at(plan)[number]
    boxes = {box: frozenset(actions) for box, actions in truth.items()}
    return BoxSample(of.sample, KeyFrame(of.truth.video, of.truth.timestamp, boxes), tuple(found))


def test_people_are_paired_with_what_was_found_in_their_place(plan: RunPlan) -> None:
    sample = frame(plan, {MIDDLE: {2}, LEFT: {1, 3, 77}}, [RIGHT, SHIFTED])
    ((kept, _),) = shown(plan, [sample], [(0.6, 0.5, 0.0), WALKS]).frames
    assert (kept.video, kept.timestamp) == ("val00", 902)
    left, middle, right = kept.people
    assert left.annotated == ["sit", "walk"]
    assert [(guess.action, round(guess.percent), guess.right) for guess in left.predicted or []] == [
        ("walk", 90, True),
        ("stand", 30, False),  # what is hardly likely is not shown
    ]
    assert (middle.annotated, middle.predicted) == (["stand"], None)
    assert right.annotated is None
    assert [(guess.action, guess.right) for guess in right.predicted or []] == [("sit", False), ("stand", False)]


def test_every_outcome_is_chosen_before_one_comes_twice(plan: RunPlan) -> None:
    place = len(looked_at(plan)) - 1
    samples = [frame(plan, {LEFT: {3}}, [LEFT], number) for number in range(place - 2)]
    samples.append(frame(plan, {LEFT: {1}}, [LEFT], place - 2))
    samples.append(frame(plan, {}, [LEFT], place - 1))
    samples.append(frame(plan, {LEFT: {3}}, [], place))
    kept = [one for one, _ in shown(plan, samples, [WALKS] * (len(samples) - 1)).frames]
    outcomes = [
        (one.people[0].annotated, bool(one.people[0].predicted and one.people[0].predicted[0].right)) for one in kept
    ]
    assert outcomes[:4] == [(["sit"], False), (["walk"], False), (["walk"], True), (None, False)]
    assert outcomes[4:] == [(["walk"], True)] * (len(kept) - 4)
    assert len(kept) == len({(one.video, one.timestamp) for one in kept}) == 12


def test_all_videos_are_shown_before_one_comes_twice(plan: RunPlan) -> None:
    rows = np.zeros((2 * len(looked_at(plan)), len(ACTIONS)))
    made = [shown(plan, looked_at(plan), rows) for _ in range(2)]
    videos = [one.video for one, _ in made[0].frames]
    assert all(set(videos[start : start + 3]) == {"val00", "val01", "val02"} for start in (0, 3, 6, 9))
    assert made[0] == made[1]


def test_an_empty_key_frame_is_not_shown(plan: RunPlan) -> None:
    assert shown(plan, [frame(plan, {}, [])], []) == DrawnFrames([], [])


def test_the_box_that_is_drawn_lies_where_the_digit_is(plan: RunPlan) -> None:
    sample = looked_at(plan)[0]
    ((_, jpeg),) = shown(plan, [sample], [WALKS] * 2).frames
    grey = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).astype(int)
    colours = np.asarray(Image.open(io.BytesIO(jpeg)).convert("HSV")).astype(int)
    side = grey.shape[0] // 2
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        quarter = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        with_box = box_of((row, column)) in sample.truth.boxes
        within = grey[quarter][30:-30, 30:-30]
        assert (within.max() > 120) == with_box, "the digit"
        rim = np.ones((side, side), bool)
        rim[10:-10, 10:-10] = False
        coloured = (colours[quarter][..., 1] > 100) & (colours[quarter][..., 2] > 100)
        assert (coloured[rim].mean() > 0.3) == with_box, "the line"


def test_a_film_that_cannot_be_read_again_is_noted(plan: RunPlan, tmp_path: Path) -> None:
    lost = looked_at(plan)[0]
    path = tmp_path / "lost.mp4"
    path.write_bytes(b"no film")
    gone = replace(lost, sample=Sample(lost.sample.id, str(path), 0, start_s=2.0))
    drawn = shown(plan, [gone, looked_at(plan)[4]], [WALKS] * 4)
    assert [one.video for one, _ in drawn.frames] == ["val01"]
    (note,) = drawn.notes
    assert note.startswith("1 of 2 key frames could not be drawn, first val00,0902: ")


def test_frames_of_folders_and_of_squeezed_encoders_keep_their_shape(plan: RunPlan, tmp_path: Path) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    for number in range(100):
        if number == 0:
            Image.new("RGB", (160, 90), (200, 200, 200)).save(folder / "img_00000.jpg")
        else:
            shutil.copy(folder / "img_00000.jpg", folder / f"img_{number:05d}.jpg")
    sample = replace(looked_at(plan)[0], sample=Sample("film", str(folder), 0, start_s=2.0, fps=30.0))
    clips, said = replace(plan.test_clips, square=True), np.zeros((2, len(ACTIONS)), np.float32)
    ((_, jpeg),) = draw_key_frames([sample], said, ACTIONS, clips, num_workers=0, timeout_s=60).frames
    assert Image.open(io.BytesIO(jpeg)).size == (512, 288)
