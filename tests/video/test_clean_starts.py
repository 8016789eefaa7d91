"""A flag makes no key frame: decoding begins where all that came before is forgotten, or at the beginning."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
from containers import NUM_FRAMES, decode_in_order, write

from bench.video.clean_starts import CleanStarts
from bench.video.decode import DecodeError, read_frames

needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")


def clean_starts(path: Path) -> tuple[list[int], list[int]]:
    """Numbers of the packets that are flagged, and of those that are clean."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        starts = CleanStarts(stream)
        packets = [(packet.is_keyframe, starts.has(packet)) for packet in file.demux(stream) if packet.size]
    flagged, clean = ([number for number, pair in enumerate(packets) if pair[kind]] for kind in (0, 1))
    return flagged, clean


def without_list_of_key_frames(path: Path) -> Path:
    content = path.read_bytes()
    assert content.count(b"stss") == 1
    path.write_bytes(content.replace(b"stss", b"free"))
    return path


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv"])
def test_idr_pictures_and_exact_recovery_points_are_clean(container: str, tmp_path: Path) -> None:
    for codec in ("h264-b", "h264-open"):
        flagged, clean = clean_starts(write(tmp_path, container, codec))
        assert len(clean) == 3 and clean == flagged


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv"])
def test_the_beginning_of_a_refresh_is_flagged_and_not_clean(container: str, tmp_path: Path) -> None:
    flagged, clean = clean_starts(write(tmp_path, container, "h264-refresh"))
    assert len(flagged) > 1 and clean == [0]


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg4-b", "h264", "h264-b", "h264-refresh", "mpeg2-b", "hevc-b"])
def test_frames_of_a_file_that_flags_every_frame_are_those_of_a_plain_decode(codec: str, tmp_path: Path) -> None:
    path = without_list_of_key_frames(write(tmp_path, "mp4", codec))
    truth = decode_in_order(path)
    assert len(truth) == NUM_FRAMES
    for index in (NUM_FRAMES - 1, *range(0, NUM_FRAMES, 3)):
        assert np.array_equal(read_frames(path, [index])[0], truth[index]), index


@needs_decord
@pytest.mark.parametrize(("codec", "listed"), [("h264-refresh", True), ("mpeg4", False), ("h264-refresh", False)])
def test_decord_is_kept_from_files_with_flags_that_lie(codec: str, listed: bool, tmp_path: Path) -> None:
    path = write(tmp_path, "mp4", codec)
    if not listed:
        without_list_of_key_frames(path)
    with pytest.raises(DecodeError, match="flagged as key frames and are none"):
        read_frames(path, [20], "decord")
