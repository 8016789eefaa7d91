"""The display matrix of a video: how a player turns and mirrors its pictures before it shows them.

A pixel at (x, y) is shown at (a x + c y, b x + d y), where the matrix is (a b u, c d v, x y w). Cameras note quarter
turns in it, and mirrors of any of them, as of selfies. Angles between are taken for the nearest of these eight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.video.info import Frames

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class Orientation:
    """From a decoded picture to the one that is shown: rows and columns change places, then each may be reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @property
    def is_mirror(self) -> bool:
        """Whether no rotation gives the same."""
        return self.transposed ^ self.rows_reversed ^ self.columns_reversed

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is shown of a picture."""
        return (width, height) if self.transposed else (height, width)

    def shown(self, picture: Frames) -> Frames:
        """A picture [H, W, 3] as it is shown; no copy."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


_TURNS = (
    Orientation(),
    Orientation(transposed=True, rows_reversed=True),
    Orientation(rows_reversed=True, columns_reversed=True),
    Orientation(transposed=True, columns_reversed=True),
)
"""By quarter turns to the left."""


def orientation_of(frame: VideoFrame) -> Orientation:
    """What the display matrix of a decoded frame asks for; nothing where it has none, or one that shows nothing."""
    from av.sidedata.sidedata import SideData

    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV lists none where one is of a kind that it does not know, such as a camera's EXIF
        return _TURNS[round(frame.rotation / 90) % 4]
    if not isinstance(matrix, SideData):
        return Orientation()
    numbers = np.frombuffer(bytes(matrix), dtype=np.int32)  # in the byte order of the machine
    a, b, c, d = (float(numbers[place]) for place in (0, 1, 3, 4))
    if a * d - b * c == 0:
        return Orientation()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(rows_reversed=d < 0, columns_reversed=a < 0)
    return Orientation(transposed=True, rows_reversed=b < 0, columns_reversed=c < 0)
