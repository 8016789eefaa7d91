"""A video is shown as a player shows it: turned, and mirrored, as its display matrix says."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from containers import decode_in_order, write

from bench.video.decode import DecodeError, probe_video, read_frames
from bench.video.info import Frames
from bench.video.upright import orientation_of

needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")
Shown = Callable[[Frames], Frames]

# (x, y) is shown at (a x + c y, b x + d y); frames are [T, H, W, 3].
TURNS: dict[str, tuple[tuple[float, float, float, float], Shown]] = {
    "none": ((1, 0, 0, 1), lambda frames: frames),
    "quarter": ((0, 1, -1, 0), lambda frames: np.rot90(frames, -1, (1, 2))),
    "half": ((-1, 0, 0, -1), lambda frames: frames[:, ::-1, ::-1]),
    "three-quarters": ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, (1, 2))),
    "nearly-quarter": ((0.02, 1, -1, 0.02), lambda frames: np.rot90(frames, -1, (1, 2))),
}
MIRRORS: dict[str, tuple[tuple[float, float, float, float], Shown]] = {
    "left-right": ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
    "upside-down": ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda frames: frames.swapaxes(1, 2)),
    "other-diagonal": ((0, -1, -1, 0), lambda frames: frames.swapaxes(1, 2)[:, ::-1, ::-1]),
    "enlarged": ((-2, 0, 0, 2), lambda frames: frames[:, :, ::-1]),
    "nearly-left-right": ((-1, 0.02, 0.02, 1), lambda frames: frames[:, :, ::-1]),
}
CASES = {**TURNS, **MIRRORS, "nothing": ((0, 0, 0, 0), lambda frames: frames)}


def with_matrix(folder: Path, matrix: tuple[float, float, float, float]) -> tuple[Path, Frames]:
    """A video with this display matrix, and its frames as they are stored."""
    path = write(folder, "mp4", "h264-b")
    stored = decode_in_order(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44  # after version, times, ids, duration, layer and volume
    a, b, c, d = (round(value * 65536) for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path, stored


@pytest.mark.parametrize("name", CASES)
def test_a_video_is_shown_as_a_player_shows_it(name: str, tmp_path: Path) -> None:
    matrix, shown = CASES[name]
    path, stored = with_matrix(tmp_path, matrix)
    expected = shown(stored)
    info = probe_video(path)
    assert (info.height, info.width) == expected.shape[1:3]
    assert np.array_equal(read_frames(path, [17, 3]), expected[[17, 3]])


@needs_decord
@pytest.mark.parametrize("name", MIRRORS)
def test_decord_is_kept_from_mirrored_videos(name: str, tmp_path: Path) -> None:
    path, _ = with_matrix(tmp_path, MIRRORS[name][0])
    with pytest.raises(DecodeError, match="does not mirror"):
        read_frames(path, [3], "decord")


@pytest.mark.parametrize("quarters", range(4))
def test_a_frame_whose_side_data_cannot_be_listed_is_turned_all_the_same(quarters: int) -> None:
    """PyAV lists nothing of a frame with side data of a kind that it does not know, but tells the rotation."""

    class Frame:
        rotation = (90 * quarters + 180) % 360 - 180

        @property
        def side_data(self) -> dict[str, object]:
            raise ValueError("31 is not a valid Type")

    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    shown = orientation_of(Frame()).shown(picture)  # type: ignore[arg-type]
    assert np.array_equal(shown, np.rot90(picture, quarters))
