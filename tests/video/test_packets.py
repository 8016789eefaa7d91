"""Frame i is the i-th frame of one decode from the beginning, in any container and codec, and in whichever order frames
are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from containers import CONTAINERS, NUM_FRAMES, decode_in_order, without_beginning, write

from bench.video import decode
from bench.video.decode import DecodeError, open_video, probe_video, read_frames

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
