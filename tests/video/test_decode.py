"""An index names the same frame, bit for bit, whichever library decodes it; a missing frame is an error."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from bench.core.errors import BenchError
from bench.video import decode
from bench.video.decode import DecodeError, open_video, probe_video, read_frames

MakeVideo = Callable[..., Path]

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
REAL_CLIPS = [
    "S001C001P001R001A001_rgb.avi",
    "demo.mp4",
    "demo_skeleton.mp4",
    "part_0.mp4",
    "test.avi",
    "test.mp4",
    "test_video_structuralize.mp4",
]
needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")
DECODERS = [pytest.param("decord", marks=needs_decord), "pyav", "auto"]

B_FRAMES = {"options": {"bf": "2", "g": "10"}}
READ_BY_BOTH: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b_frames.mp4": B_FRAMES,
    "many_b_frames.mov": {"options": {"bf": "5", "g": "7"}},
    "only_key_frames.mp4": {"options": {"g": "1"}},
    "b_frames.mkv": B_FRAMES,
    "width_not_of_16.mp4": {"width": 70, "height": 50, **B_FRAMES},
    "slow.mp4": {"fps": 7, **B_FRAMES},
    "yuv444_odd.mp4": {"pixels": "yuv444p", "width": 71, "height": 49},
    "yuv422.mp4": {"pixels": "yuv422p"},
    "full_range.mp4": {"pixels": "yuvj420p"},
    "mpeg4.mp4": {"codec": "mpeg4"},
}
READ_BY_PYAV_ONLY: dict[str, dict[str, Any]] = {
    "narrow.mp4": {"width": 16, "height": 16},
    "open_gop.mp4": {"frames": 60, "options": {"bf": "3", "g": "10", "x264-params": "open-gop=1:scenecut=0"}},
    "b_frames.avi": B_FRAMES,
    "b_frames.ts": B_FRAMES,
}


def decode_in_order(path: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


@pytest.fixture(scope="module", params=[*READ_BY_BOTH, *READ_BY_PYAV_ONLY])
def video(request: pytest.FixtureRequest, make_video: MakeVideo) -> Path:
    return make_video(request.param, **{**READ_BY_BOTH, **READ_BY_PYAV_ONLY}[request.param])


@needs_decord
@pytest.mark.parametrize("name", REAL_CLIPS)
def test_decoders_agree_on_real_clips(name: str) -> None:
    path = REAL / name
    if not path.exists():
        pytest.skip("shared/data is absent")
    count = probe_video(path).num_frames
    indices = sorted(np.random.RandomState(1).choice(count, 6, replace=False).tolist())
    indices += [count - 1, 0]
    if path.suffix == ".avi":
        with pytest.raises(DecodeError, match="misplaces frames of avi"):
            read_frames(path, indices, "decord")
    else:
        assert np.array_equal(read_frames(path, indices, "decord"), read_frames(path, indices, "pyav"))


@needs_decord
@pytest.mark.parametrize("name", READ_BY_BOTH)
def test_decoders_agree_on_every_frame(name: str, make_video: MakeVideo) -> None:
    path = make_video(name, **READ_BY_BOTH[name])
    indices = range(probe_video(path).num_frames)
    assert np.array_equal(read_frames(path, indices, "decord"), read_frames(path, indices, "pyav"))


@needs_decord
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("odd.mp4", {"codec": "mpeg4", "width": 71, "height": 49}),
        ("ten_bit.mp4", {"pixels": "yuv420p10le"}),
    ],
)
def test_colours_differ_where_the_ffmpeg_inside_decord_scales(
    name: str, how: dict[str, Any], make_video: MakeVideo
) -> None:
    # Odd 4:2:0 and 10-bit pictures go through FFmpeg's general scaler, which changed between the FFmpeg in
    # decord and today's: no choice of its flags gives equal bytes. Frames are the same, colours are not.
    path = make_video(name, frames=8, **{"options": {"g": "99"}, **how})
    theirs = read_frames(path, range(8), "decord").astype(int)
    ours = read_frames(path, range(8), "pyav").astype(int)
    to_own_frame = [np.abs(theirs[i] - ours[i]).mean() for i in range(8)]
    to_other_frames = [np.abs(theirs[i] - ours[j]).mean() for i in range(8) for j in range(8) if i != j]
    assert 0 < max(to_own_frame) < 12
    assert max(to_own_frame) < min(to_other_frames) / 2


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_any_frame_alone_is_the_frame_of_a_full_decode(video: Path, decoder: Any) -> None:
    frames = decode_in_order(video)
    assert probe_video(video, decoder).num_frames == len(frames)
    for index in range(0, len(frames), 1 if decoder == "pyav" else 4):
        assert np.array_equal(read_frames(video, [index], decoder)[0], frames[index]), index


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_reads_in_any_order_from_one_open_file(video: Path, decoder: Any) -> None:
    frames = decode_in_order(video)
    random = np.random.RandomState(2)
    with open_video(video, decoder) as opened:
        for _ in range(12):
            indices = random.randint(0, len(frames), 3).tolist()
            assert np.array_equal(opened.read(indices), frames[indices]), indices


@needs_decord
@pytest.mark.parametrize("name", READ_BY_PYAV_ONLY)
def test_decord_is_kept_from_files_that_it_misreads(name: str, make_video: MakeVideo) -> None:
    with pytest.raises(DecodeError, match="decord cannot read this file"):
        read_frames(make_video(name, **READ_BY_PYAV_ONLY[name]), [0], "decord")


@pytest.mark.parametrize("decoder", DECODERS)
def test_information_is_that_of_the_displayed_video(decoder: Any, make_video: MakeVideo) -> None:
    info = probe_video(make_video("slow.mp4", **READ_BY_BOTH["slow.mp4"]), decoder)
    assert (info.num_frames, info.fps, info.height, info.width) == (30, 7.0, 64, 96)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_rotated_videos_are_upright(
    decoder: Any, matrix: tuple[int, int, int, int], turns: int, make_video: MakeVideo, tmp_path: Path
) -> None:
    plain = make_video("b_frames.mp4", **B_FRAMES)
    content = bytearray(plain.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times and ids, reserved, layer to volume
    a, b, c, d = (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    rotated = tmp_path / "rotated.mp4"
    rotated.write_bytes(content)
    expected = np.rot90(decode_in_order(plain)[[3, 20]], turns, axes=(1, 2))
    assert np.array_equal(read_frames(rotated, [3, 20], decoder), expected)
    info = probe_video(rotated, decoder)
    assert (info.height, info.width) == expected.shape[1:3]


@pytest.mark.parametrize("decoder", DECODERS)
def test_repeated_and_no_indices(decoder: Any, make_video: MakeVideo) -> None:
    path = make_video("plain.mp4")
    frames = read_frames(path, [5, 2, 5], decoder)
    assert frames.dtype == np.uint8 and np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])
    assert read_frames(path, [], decoder).shape == (0, 64, 96, 3)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        file.mux(stream.encode(sound))
        file.mux(stream.encode())


@pytest.fixture(scope="module")
def bad(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that cannot be read."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 500)
    (folder / "folder.mp4").mkdir()
    audio_only(folder / "audio.mp4")

    whole = make_video("b_frames.mp4", **B_FRAMES).read_bytes()
    (folder / "no_index.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    quick = make_video("quick.mp4", container={"movflags": "faststart"}, **B_FRAMES)
    whole = quick.read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    with av.open(str(quick)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    (folder / "cut_between_frames.mp4").write_bytes(whole[: packets[17][0]])
    position, size = packets[13]
    (folder / "hole.mp4").write_bytes(whole[:position] + bytes(size) + whole[position + size :])
    whole = make_video("mpeg4.avi", codec="mpeg4").read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    return folder


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.mp4", "no such file"),
        ("folder.mp4", "holds no frames"),
        ("empty.mp4", "empty"),
        ("text.mp4", "not a video"),
        ("audio.mp4", "no video stream"),
        ("no_index.mp4", "cut off"),
        ("cut.mp4", "cut off"),
        ("cut_between_frames.mp4", "cut off"),
        ("cut.avi", "cut off"),
    ],
)
def test_unreadable_files_say_why(
    bad: Path, name: str, reason: str, decoder: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        read_frames(bad / name, [0], decoder)
    assert str(bad / name) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_frame_that_cannot_be_decoded_is_an_error_not_another_frame(
    bad: Path, decoder: Any, make_video: MakeVideo, capfd: pytest.CaptureFixture[str]
) -> None:
    intact = decode_in_order(make_video("quick.mp4"))
    with pytest.raises(DecodeError, match="damaged"):
        read_frames(bad / "hole.mp4", range(30), decoder)
    try:
        before_the_hole = read_frames(bad / "hole.mp4", [3], decoder)[0]
    except DecodeError:
        assert decoder == "decord"  # its thread reads ahead and may meet the hole first
    else:
        assert np.array_equal(before_the_hole, intact[3])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("index", [30, -1])
def test_an_index_outside_the_video_is_an_error(decoder: Any, index: int, make_video: MakeVideo) -> None:
    with pytest.raises(DecodeError, match="there are 30"):
        read_frames(make_video("plain.mp4"), [0, index], decoder)


def test_auto_works_without_decord(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_has_decord", lambda: False)
    path = make_video("plain.mp4")
    assert np.array_equal(read_frames(path, [4]), read_frames(path, [4], "pyav"))
    with pytest.raises(BenchError, match="not installed"):
        read_frames(path, [4], "decord")


def test_an_unknown_decoder_is_refused(make_video: MakeVideo) -> None:
    with pytest.raises(BenchError, match="known: auto, decord, pyav"):
        read_frames(make_video("plain.mp4"), [0], "opencv")  # type: ignore[arg-type]
