"""Frame i is the i-th frame of one decode from the beginning, in any container and codec, and in whichever order frames
are asked for; decoding begins at clean starts alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
from containers import CONTAINERS, NUM_FRAMES, decode_in_order, without_beginning, write

from bench.video import decode
from bench.video.decode import DecodeError, open_video, probe_video, read_frames
from bench.video.packets import CleanStarts

PAIRS = [
    pytest.param(container, codec, id=f"{codec}.{container}")
    for container, codecs in CONTAINERS.items()
    for codec in codecs
]


def check_every_frame(path: Path) -> None:
    truth = decode_in_order(path)
    assert probe_video(path).num_frames == len(truth)
    for index in range(len(truth)):
        assert np.array_equal(read_frames(path, [index])[0], truth[index]), f"frame {index} alone"
    random = np.random.RandomState(0)
    with open_video(path) as video:
        for _ in range(8):
            wanted = random.randint(0, len(truth), 2).tolist()
            assert np.array_equal(video.read(wanted), truth[wanted]), f"frames {wanted} from an open file"


@pytest.mark.parametrize(("container", "codec"), PAIRS)
def test_a_frame_alone_is_that_of_a_plain_decode(container: str, codec: str, tmp_path: Path) -> None:
    check_every_frame(write(tmp_path, container, codec))


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mpg", "mpeg2-b"), ("vob", "mpeg2-b"), ("ts", "h264-b"), ("mp4", "h264-b"), ("wmv", "h264-b"), ("flv", "h264-b")],
)
def test_sound_beside_the_pictures_changes_no_frame(container: str, codec: str, tmp_path: Path) -> None:
    check_every_frame(write(tmp_path, container, codec, sound=True))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *((container, codec) for container in ("ts", "mkv", "mp4") for codec in ("h264-b", "mpeg2-b", "hevc-b")),
        *(("mkv", "h264-open"), ("mp4", "h264-open"), ("flv", "h264-b"), ("avi", "h264-b"), ("wmv", "h264-b")),
    ],
)
def test_a_stream_that_begins_between_key_frames_has_the_frames_that_can_be_shown(
    container: str, codec: str, tmp_path: Path
) -> None:
    whole = write(tmp_path, "ts" if container == "avi" else "mp4", codec)  # as AVI wants it, with start codes
    late = without_beginning(whole, tmp_path / f"late.{container}", packets=5)
    assert 0 < probe_video(late).num_frames < NUM_FRAMES - 5
    check_every_frame(late)


def test_a_stream_without_a_key_frame_says_so(tmp_path: Path) -> None:
    late = without_beginning(write(tmp_path, "mp4", "h264-b"), tmp_path / "late.mkv", packets=30)
    with pytest.raises(DecodeError, match="no frame of it can be decoded, it begins between key frames"):
        probe_video(late)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *((container, "h264-b") for container in ("mp4", "mkv", "ts", "flv")),
        *(("mp4", "h264-open"), ("mp4", "mpeg4-b"), ("mkv", "hevc-b"), ("ts", "mpeg2-b")),
        *(("webm", "vp8-hidden"), ("webm", "vp9"), ("mov", "mjpeg")),
    ],
)
def test_frames_are_reached_from_the_key_frame_before_them(
    container: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, container, codec)
    opened = []
    monkeypatch.setattr(
        decode, "open_container", lambda path, plain=decode.open_container: opened.append(path) or plain(path)
    )
    with open_video(path) as video:
        for index in (NUM_FRAMES - 1, 14, 25):
            video.read([index])
    assert len(opened) == 1, "never decoded from the beginning"


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
