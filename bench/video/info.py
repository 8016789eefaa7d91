"""What is known of anything that gives frames, before a frame is decoded, and the error of what cannot be read.

Seconds become frame numbers here and nowhere else. A second of a video is a presentation time, counted from where its
file's clock begins: a frame that is shown late, or longer than others, is asked for by when it is shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from bench.core.errors import BenchError
from bench.core.inputs import VIDEO, open_input

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Frames = npt.NDArray[np.uint8]
Seconds = npt.NDArray[np.float64]

_TINY_S = 1e-6
"""What sums of seconds may lose."""


class DecodeError(BenchError):
    """A video, an image or a folder of frames, or one of its frames, that cannot be read."""


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A file of pixels, open for reading. Raises DecodeError for what is no regular file, OSError where there is
    none."""
    try:
        return open_input(path, VIDEO)
    except BenchError as error:
        raise DecodeError(error.what, where=os.fspath(path), fix=error.fix) from error


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video as it is displayed, with its rotation applied."""

    num_frames: int
    """Frames that can be asked for, counted from the packets or the files."""
    fps: float
    """Average frames per second; 0.0 where it is not known."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    shown_s: Seconds | None = field(default=None, compare=False, repr=False)
    """When each frame is shown, rising [num_frames]; None where frame i is shown at i / fps seconds."""

    @property
    def lasts_s(self) -> float:
        """Second at which the last frame has been shown. 0.0 where the rate is not known."""
        if self.shown_s is None:
            return self.num_frames / self.fps if self.fps else 0.0
        last_s = self.shown_s[-1] - self.shown_s[-2] if self.num_frames > 1 else 1 / self.fps if self.fps else 0.0
        return float(self.shown_s[-1] + last_s)

    def frames_between(self, start_s: float | None, end_s: float | None, *, where: str) -> tuple[int, int]:
        """First frame of those between two times, and the one after the last.

        Where frames follow each other evenly, times are rounded to the nearest frame. Elsewhere the frames are those
        whose presentation times lie in [start_s, end_s).
        Raises DecodeError naming the file `where` there is none, or the video's rate is not known.
        """
        if start_s is None and end_s is None:
            return 0, self.num_frames
        self.check_times(where)
        if self.shown_s is not None:
            times = (0.0 if start_s is None else start_s, np.inf if end_s is None else end_s)
            first, stop = (int(place) for place in np.searchsorted(self.shown_s, times))
        else:
            first = max(0, round((start_s or 0.0) * self.fps))
            stop = self.num_frames if end_s is None else min(self.num_frames, round(end_s * self.fps))
        if first >= stop:
            lasts = f"the video lasts {self.lasts_s:.2f} s"
            raise DecodeError(f"no frame between {start_s} s and {end_s} s, {lasts}", where=where)
        return first, stop

    def nearest(self, times_s: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """The frames nearest to these times; outside of the video, numbers outside of [0, num_frames)."""
        if self.shown_s is None:
            return np.asarray(np.rint(times_s * self.fps), np.int64)
        halfway = (self.shown_s[1:] + self.shown_s[:-1]) / 2
        frames = np.searchsorted(halfway, times_s)
        half_s = (self.lasts_s - self.shown_s[-1]) / 2
        frames[times_s > self.shown_s[-1] + half_s] = self.num_frames
        frames[times_s < self.shown_s[0] - half_s] = -1
        return frames

    def on_screen(self, times_s: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """The frames that a player shows at these times: -1 before the first, `num_frames` after the last."""
        shown_s = np.arange(self.num_frames) / self.fps if self.shown_s is None else self.shown_s
        frames = np.searchsorted(shown_s, times_s + _TINY_S, side="right") - 1
        frames[times_s >= self.lasts_s] = self.num_frames
        return frames

    def check_times(self, where: str) -> None:
        """Raise DecodeError naming the file `where` its frames have no times."""
        if self.fps <= 0:
            raise DecodeError(
                "its frame rate is unknown, so times have no meaning",
                where=where,
                fix="give the rate of its frames, or leave start and end out",
            )


@dataclass(frozen=True)
class Orientation:
    """From a decoded picture to the one that is shown: rows and columns change places, then each may be reversed.

    Cameras note quarter turns in the display matrix of a video, and mirrors of any of them, as of selfies. Angles
    between are taken for the nearest of these eight.
    """

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
"""Orientations, by the number of quarter turns to the left."""


def orientation_of(frame: VideoFrame) -> Orientation:
    """What the display matrix of a decoded frame asks for; nothing where it has none, or one that shows nothing.

    A pixel at (x, y) is shown at (a x + c y, b x + d y), where the matrix is (a b u, c d v, x y w).
    """
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
