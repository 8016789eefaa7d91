"""Boxes drawn into a frame, so that a wrong box convention is seen at once.

Annotated boxes are broad lines, boxes that were looked into thin ones upon them: of two with the same corners both are
seen. Colour and style of a line say the same thing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

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
"""Colours of the Okabe-Ito palette, told apart by readers with any colour vision."""


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
