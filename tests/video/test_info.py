"""Seconds are presentation times, in files of any rate and beginning; pictures are turned as a player turns them."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from containers import NUM_FRAMES, decode_in_order, write

from bench.core.errors import BenchError
from bench.video.decode import DecodeError, probe_video, read_frames
from bench.video.info import Frames, VideoInfo, orientation_of

EVEN = [number / 25 for number in range(NUM_FRAMES)]
SLOWER = [time if time < 0.64 else 0.64 + 4 * (time - 0.64) for time in EVEN]
LATE = [time + 2 for time in EVEN]
CASES = {"slower": SLOWER, "late": LATE}
CONTAINERS = [("mp4", "h264-b"), ("mov", "h264-b"), ("mkv", "h264-b"), ("webm", "vp9"), ("avi", "mpeg4")]


def rounded(info: VideoInfo) -> list[float] | None:
    return None if info.shown_s is None else np.round(info.shown_s, 3).tolist()


@pytest.mark.parametrize(
    ("container", "codec"), [*CONTAINERS[:4], ("flv", "h264-b"), ("ts", "h264-b"), ("wmv", "h264-b")]
)
def test_evenly_spaced_frames_need_no_times(container: str, codec: str, tmp_path: Path) -> None:
    info = probe_video(write(tmp_path, container, codec))
    assert info.shown_s is None and info.fps == 25 and info.lasts_s == pytest.approx(NUM_FRAMES / 25)


@pytest.mark.parametrize(("container", "codec"), [*CONTAINERS, ("wmv", "h264"), ("wmv", "wmv2"), ("ts", "h264-b")])
def test_frames_that_last_longer_are_shown_later(container: str, codec: str, tmp_path: Path) -> None:
    info = probe_video(write(tmp_path, container, codec, times_s=SLOWER))
    assert rounded(info) == pytest.approx(SLOWER, abs=0.002)
    assert info.fps == pytest.approx((NUM_FRAMES - 1) / SLOWER[-1], rel=0.12), "whatever the header guesses"


@pytest.mark.parametrize("sound", [False, True], ids=["silent", "sound-first"])
@pytest.mark.parametrize(("container", "codec"), CONTAINERS[:4])
def test_a_stream_that_starts_late_keeps_its_times(container: str, codec: str, sound: bool, tmp_path: Path) -> None:
    info = probe_video(write(tmp_path, container, codec, times_s=LATE, sound=sound))
    assert rounded(info) == pytest.approx(LATE, abs=0.002) and info.fps == 25


def test_the_clock_of_a_transport_stream_begins_with_its_sound(tmp_path: Path) -> None:
    info = probe_video(write(tmp_path, "ts", "mpeg2-b", sound=True))
    assert info.shown_s is not None and 0.005 < info.shown_s[0] < 0.1


@pytest.mark.parametrize("times_s", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("start_s", "end_s"), [(0.0, 2.7), (1.0, 2.5), (2.0, 3.0), (2.01, 2.6), (None, 2.5), (2.3, None)]
)
def test_a_span_holds_the_frames_shown_in_it(times_s: list[float], start_s: float | None, end_s: float | None) -> None:
    info = VideoInfo(NUM_FRAMES, 25, 48, 64, np.array(times_s))
    first, stop = info.frames_between(start_s, end_s, where="a.mp4")
    inside = [frame for frame, time in enumerate(times_s) if (start_s or 0) <= time < (end_s or np.inf)]
    assert list(range(first, stop)) == inside


def test_spans_of_evenly_spaced_frames_are_rounded_to_the_nearest() -> None:
    info = VideoInfo(250, 25.0, 48, 64)
    assert info.frames_between(1.01, 2.03, where="a.mp4") == (25, 51)
    assert info.frames_between(None, None, where="a.mp4") == (0, 250)
    assert info.nearest(np.array([1.01, 1.03])).tolist() == [25, 26]
    assert info.on_screen(np.array([-0.1, 1.0, 1.03, 9.99, 10.0])).tolist() == [-1, 25, 25, 249, 250]


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.9), (9.0, 11.0), (2.5, 2.5)])
def test_a_span_without_a_frame_is_an_error(start_s: float, end_s: float) -> None:
    info = VideoInfo(NUM_FRAMES, 25.0, 48, 64, np.array(LATE))
    with pytest.raises(BenchError, match=r"no frame between .*, the video lasts 3\.28 s"):
        info.frames_between(start_s, end_s, where="a.mp4")


def test_without_a_rate_times_have_no_meaning() -> None:
    for times in ((1.0, 2.0), (None, 2.0)):
        with pytest.raises(BenchError, match="frame rate is unknown"):
            VideoInfo(8, 0.0, 48, 64).frames_between(*times, where="a")


def test_the_nearest_frame_and_the_one_on_screen_follow_presentation_times() -> None:
    info = VideoInfo(4, 25.0, 48, 64, np.array([2.0, 2.04, 2.2, 3.0]))
    times = np.array([1.0, 1.99, 2.03, 2.1, 2.13, 2.5, 2.7, 3.3, 3.9])
    assert info.nearest(times).tolist() == [-1, 0, 1, 1, 2, 2, 3, 3, 4]
    assert info.on_screen(times).tolist() == [-1, -1, 0, 1, 1, 2, 2, 3, 4]


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
MATRICES = {**TURNS, **MIRRORS, "nothing": ((0, 0, 0, 0), lambda frames: frames)}


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


@pytest.mark.parametrize("name", MATRICES)
def test_a_video_is_shown_as_a_player_shows_it(name: str, tmp_path: Path) -> None:
    matrix, shown = MATRICES[name]
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
