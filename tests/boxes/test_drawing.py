"""Drawings show a box where its object is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from ava_standin import ava_standin, box_of
from PIL import Image

from bench.boxes.drawing import FOUND, TRUTH, DrawnBox, draw_boxes, draw_sample, key_frame
from bench.boxes.plan import BoxPlan
from bench.plan import make_options, make_plan


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def drawn_in(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, ...]:
    """x1, y1, x2, y2 of all pixels of a colour, as shares of the picture."""
    rows, columns = np.nonzero((np.abs(picture - colour).sum(axis=-1)) < 30)
    height, width = picture.shape[:2]
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def test_a_box_is_drawn_around_what_it_names() -> None:
    frame = np.zeros((60, 120, 3), np.uint8)
    frame[15:30, 60:108] = 255
    box = (0.5, 0.25, 0.9, 0.5)
    picture = opened(draw_boxes(frame, [DrawnBox(box, (), TRUTH)], width=480))
    assert picture.shape == (240, 480, 3)
    assert drawn_in(picture, TRUTH) == pytest.approx(box, abs=0.01)
    inside = picture[int(240 * 0.28) : int(240 * 0.47), int(480 * 0.52) : int(480 * 0.88)]
    assert inside.min() > 240


def test_labels_are_written_in_the_colour_of_their_box() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    without = opened(draw_boxes(frame, [DrawnBox((0.1, 0.1, 0.9, 0.9), (), FOUND, below=True)]))
    written = opened(draw_boxes(frame, [DrawnBox((0.1, 0.1, 0.9, 0.9), ("walk 90", "<b>"), FOUND, below=True)]))
    changed = np.nonzero((without != written).any(axis=-1))
    assert len(changed[0]) > 200 and changed[0].min() > 240


def test_a_key_frame_is_drawn_with_its_digits_in_their_boxes(tmp_path: Path) -> None:
    data = ava_standin(tmp_path / "data", train=2, test=2)
    settings = {"clip.starts_s": 900, "clip.resolution": 32}
    options = {"task": "ava", "model": "random", "data": data, "settings": settings, "cache": tmp_path / "cache"}
    plan = make_plan(make_options(options))
    assert isinstance(plan, BoxPlan)
    sample = plan.boxes.test[0]
    frame = key_frame(sample, plan.key_frames).astype(int)
    ink = {
        place: frame[16 * place[0] : 16 * place[0] + 16, 16 * place[1] : 16 * place[1] + 16].max()
        for place in ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert {box_of(place) for place, most in ink.items() if most > 120} == set(sample.truth.boxes)
    picture = opened(draw_sample(plan, sample, np.full((2, 60), 0.5, np.float32)))
    assert drawn_in(picture, TRUTH) == pytest.approx((0, 0, 1, 1), abs=0.02)  # both boxes together
    assert np.abs(picture[:230, :230] - TRUTH).sum(axis=-1).min() > 30  # the empty quarter has neither
