"""Drawings show a box where its object is, and tell the kinds of box apart without their colours."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from bench.tasks.box_pictures import RIGHT, TRUTH, WRONG, DrawnBox, Line, draw_boxes

BOX = (0.5, 0.25, 0.9, 0.6)


def drawn(frame: np.ndarray, *boxes: DrawnBox) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(draw_boxes(frame, boxes)))).astype(int)


def extent(changed: np.ndarray) -> tuple[float, ...]:
    """x1, y1, x2, y2 of what is true, as shares of the picture."""
    rows, columns = np.nonzero(changed)
    height, width = changed.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


@pytest.mark.parametrize("line", [TRUTH, RIGHT, WRONG])
def test_a_box_is_drawn_around_what_it_names(line: Line) -> None:
    frame = np.full((300, 600, 3), 90, np.uint8)
    frame[75:180, 300:540] = 255
    picture = drawn(frame, DrawnBox(BOX, line, 1))
    assert picture.shape == frame.shape
    assert extent(np.abs(picture - frame).max(axis=-1) > 60) == pytest.approx(BOX, abs=0.01)
    inside = picture[75 + 30 : 180 - 20, 300 + 30 : 540 - 20]  # beside the number and within the lines
    assert inside.min() > 240


def test_an_unbroken_line_dashes_and_dots_differ_without_colour() -> None:
    frame = np.full((300, 600, 3), 255, np.uint8)
    changes = {}
    for line in (TRUTH, RIGHT, WRONG):
        lower_edge = drawn(frame, DrawnBox(BOX, line, 1))[180 - 5, 305:535].mean(axis=-1)
        changes[line] = int(np.abs(np.diff(lower_edge > 60)).sum())
    assert changes[TRUTH] == 0
    assert 10 < changes[RIGHT] < changes[WRONG] / 2


def test_of_two_boxes_in_one_place_both_are_seen() -> None:
    frame = np.full((300, 600, 3), 255, np.uint8)
    picture = drawn(frame, DrawnBox(BOX, WRONG, 1), DrawnBox(BOX, TRUTH, 1))
    alone = drawn(frame, DrawnBox(BOX, TRUTH, 1))
    edge = slice(180 - TRUTH.width, 180)
    assert np.abs(picture[edge, 320:520] - alone[edge, 320:520]).max() > 100
    assert np.abs(picture[edge, 320:520] - TRUTH.colour).sum(axis=-1).min() < 60


def test_numbers_of_boxes_do_not_hide_each_other() -> None:
    frame = np.full((100, 200, 3), 128, np.uint8)
    corner = (0.0, 0.0, 1.0, 1.0)
    fields = []
    for number in range(1, 13):
        picture = drawn(frame, *(DrawnBox(corner, TRUTH, n) for n in range(1, number + 1)))
        fields.append((picture.max(axis=-1) < 50).sum())
    assert all(after > before for before, after in itertools.pairwise(fields))


@pytest.mark.parametrize("box", [(0.999, 0.999, 1.0, 1.0), (0.0, 0.0, 0.001, 1.0), (0.3, 0.3, 0.301, 0.301)])
def test_a_box_of_hardly_a_pixel_is_numbered_and_breaks_nothing(box: tuple[float, float, float, float]) -> None:
    frame = np.full((100, 200, 3), 128, np.uint8)
    for line in (TRUTH, RIGHT, WRONG):
        assert (drawn(frame, DrawnBox(box, line, 7)).max(axis=-1) < 50).sum() > 100
