"""A file that is cut off is told from a whole one wherever its format can tell; bytes behind its end are no cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from bench.video.decode import DecodeError, probe_video, read_frames
from bench.video.endings import is_cut_off

FRAMES = 24
REALTIME = {"deadline": "realtime", "cpu-used": "8"}
FORMATS: dict[str, dict[str, Any]] = {
    "a.mp4": {"codec": "libx264", "options": {"bf": "2"}},
    "index_first.mp4": {"codec": "libx264", "container": {"movflags": "faststart"}},
    "sound.mov": {"codec": "mpeg4", "sound": "aac"},
    "a.webm": {"codec": "libvpx-vp9", "options": REALTIME},
    "a.mkv": {"codec": "libx264"},
    "sound.mkv": {"codec": "mpeg4", "sound": "aac"},
    "a.wmv": {"codec": "wmv2"},
    "a.gif": {"codec": "gif", "pixels": "rgb8"},
    "a.avi": {"codec": "mpeg4"},
    "sound.avi": {"codec": "mpeg4", "sound": "mp2"},
    "a.flv": {"codec": "flv"},
    "sound.flv": {"codec": "libx264", "sound": "aac"},
    "a.apng": {"codec": "apng", "pixels": "rgb24"},
}
"""Formats that say how long they are, or how they end."""
TAILS = {
    "a text": b"<!-- added by a proxy -->",
    "a date": b"2024-05-17 added by a proxy",
    "an ID3 tag": b"TAG" + b"Title".ljust(125),
    "a trailer": b"\x01\x02" * 40 + b"8db42d694ccc418790edff439fe026bf",
    "little padding": bytes(64),
    "much padding": bytes(9000),
}


def write(path: Any, *, codec: str, pixels: str = "yuv420p", sound: str = "", **how: Any) -> Any:
    """A video of noise in a file or a pipe, and sound beside every frame where `sound` names a codec."""
    noise = np.random.RandomState(0).randint(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8)
    target = str(path) if isinstance(path, Path) else path
    with av.open(target, "w", format=how.get("format"), options=how.get("container", {})) as file:
        stream = file.add_stream(codec, rate=25, options=how.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        voice = file.add_stream(sound, rate=16000, layout="mono") if sound else None
        for number, picture in enumerate(noise):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if voice:
                kind, dtype = ("fltp", np.float32) if sound == "aac" else ("s16", np.int16)
                part = av.AudioFrame.from_ndarray(np.ones((1, 640), dtype), format=kind, layout="mono")
                part.sample_rate, part.pts = 16000, 640 * number
                file.mux(voice.encode(part))
        file.mux(stream.encode())
        if voice:
            file.mux(voice.encode())
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A whole file of a format, by its name."""
    folder = tmp_path_factory.mktemp("whole")
    return lambda name: folder / name if (folder / name).exists() else write(folder / name, **FORMATS[name])


def packet_starts(path: Path) -> list[int]:
    with av.open(str(path)) as file:
        return [packet.pos for packet in file.demux(video=0) if packet.size and packet.pos]


@pytest.mark.parametrize("name", FORMATS)
def test_a_part_of_a_file_is_refused_wherever_it_ends(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    content = whole(name).read_bytes()
    assert not is_cut_off(whole(name)) and probe_video(whole(name)).num_frames == FRAMES
    starts = packet_starts(whole(name))
    for length in (*(len(content) * part // 10 for part in range(2, 10)), starts[8], starts[-1], starts[-1] + 3):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(DecodeError):
            read_frames(tmp_path / name, [0])


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", FORMATS)
def test_bytes_behind_the_end_are_no_cut(name: str, tail: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(whole(name).read_bytes() + TAILS[tail])
    assert not is_cut_off(tmp_path / name)
    assert np.array_equal(read_frames(tmp_path / name, range(FRAMES)), read_frames(whole(name), range(FRAMES)))


@pytest.mark.parametrize("name", ["a.webm", "sound.mkv", "a.wmv", "a.gif", "a.avi", "sound.avi", "a.flv"])
def test_space_that_a_download_has_reserved_holds_no_frames(
    name: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    content = whole(name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    with pytest.raises(DecodeError):
        read_frames(tmp_path / name, [0])


def test_a_list_of_fragments_tells_that_the_last_ones_are_missing(tmp_path: Path) -> None:
    how = {"movflags": "frag_keyframe+empty_moov+default_base_moof+dash+global_sidx"}
    path = write(tmp_path / "a.mp4", codec="libx264", options={"g": "6"}, container=how)
    content = path.read_bytes()
    assert not is_cut_off(path) and content.count(b"moof") > 2
    path.write_bytes(content[: content.rindex(b"moof") - 4])  # between two fragments
    assert is_cut_off(path)


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("live.webm", "libvpx-vp9", {"live": "1"}),
        ("a.mpg", "mpeg1video", {}),
        ("a.vob", "mpeg2video", {}),
        ("vcd.mpg", "mpeg1video", {"muxrate": "1400000"}),
        ("a.ogv", "libvpx", {}),
    ],
)
def test_where_no_length_is_stated_a_cut_inside_a_part_is_told(
    name: str, codec: str, container: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / name, codec=codec, container=container, options=REALTIME if "vp" in codec else {})
    content = path.read_bytes()
    assert not is_cut_off(path)
    path.write_bytes(content + TAILS["a text"])
    assert not is_cut_off(path)
    path.write_bytes(content[: len(content) // 2 + 7])
    assert is_cut_off(path)


class Pipe:
    """What cannot be gone back in, to write a length at the beginning."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece: bytes) -> int:
        self.content += bytes(piece)
        return len(piece)


@pytest.mark.parametrize(("kind", "codec"), [("avi", "mpeg4"), ("flv", "flv"), ("matroska", "mpeg4")])
def test_what_was_written_to_a_pipe_tells_a_cut_inside_a_part(kind: str, codec: str, tmp_path: Path) -> None:
    pipe = Pipe()
    write(pipe, codec=codec, format=kind)
    path = tmp_path / "live"
    for tail in (b"", *TAILS.values()):
        path.write_bytes(pipe.content + tail)
        assert not is_cut_off(path)
    path.write_bytes(pipe.content[: len(pipe.content) // 2])
    assert is_cut_off(path)


def test_a_transport_stream_cannot_tell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", codec="libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_cut_off(path) and 0 < probe_video(path).num_frames < FRAMES


@pytest.mark.parametrize("name", ["a.mjpg", "a.jfif"])
def test_a_picture_of_which_half_is_there_is_not_half_grey(name: str, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (48, 64, 3), dtype=np.uint8)).save(picture, "JPEG")
    path = tmp_path / name
    path.write_bytes(picture.getvalue() + TAILS["a text"])
    assert read_frames(path, [0]).shape == (1, 48, 64, 3)
    path.write_bytes(picture.getvalue()[:-900])
    with pytest.raises(DecodeError, match="cut off"):
        read_frames(path, [0])


def test_a_still_gif_without_its_trailer_is_whole_and_an_animation_is_not(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((8, 8), 40 * number, np.uint8)) for number in range(3)]
    path = tmp_path / "a.gif"
    for number, others in ((1, []), (3, pictures[1:])):
        pictures[0].save(path, save_all=True, append_images=others)
        path.write_bytes(path.read_bytes()[:-1])
        assert is_cut_off(path) == (number > 1)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_lengths_end_in_an_answer(name: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    content = whole(name).read_bytes()
    random = np.random.RandomState(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.randint(0, min(len(content), 2000), 8):
            damaged[place] = random.choice([0, 1, 127, 255, random.randint(256)])
        (tmp_path / name).write_bytes(damaged)
        assert is_cut_off(tmp_path / name) in (True, False)
