"""Videos that are fine and unusual: uneven frame times, one frame, very many frames, names in any script."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.decode import open_video, probe_video, read_frames
from bench.video.loader import load_clips

MakeVideo = Callable[..., Path]
PLAN = ClipPlan(
    frames_per_clip=4, frame_step=2, num_segments=2, views=3, size=16, sampling="center", seed=0, short_side=None,
    decoder="auto",
)  # fmt: skip


def write_uneven(path: Path, times_ms: list[int]) -> list[np.ndarray]:
    """A video whose frames are shown at these times; returns its frames in order."""
    noise = np.random.RandomState(0).randint(0, 256, (64 + len(times_ms), 96, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"bf": "2", "g": "6"}
        for number, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[number : number + 64]), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_index_counts_frames_however_long_each_is_shown(tmp_path: Path, suffix: str) -> None:
    times_ms = np.cumsum(np.random.RandomState(1).choice([10, 33, 40, 500], 30)).tolist()
    frames = write_uneven(tmp_path / f"uneven{suffix}", times_ms)
    assert len(frames) == 30
    with open_video(tmp_path / f"uneven{suffix}") as video:
        assert video.info.num_frames == 30
        for index in (29, 0, 17, 5, 18):
            assert np.array_equal(video.read([index])[0], frames[index])


def test_a_video_of_one_frame_is_repeated(make_video: MakeVideo) -> None:
    path = make_video("one.mp4", frames=1)
    for plan in (PLAN, replace(PLAN, sampling="random"), replace(PLAN, fps=4.0), replace(PLAN, duration_s=9.0)):
        (clips,) = load_clips([VideoItem("one", str(path))], plan, num_workers=0)
        assert clips.indices == [[0] * 4] * 2 and clips.pixels is not None
        assert np.array_equal(clips.pixels[:, 0, 0], clips.pixels[:, 1, 3])


@pytest.mark.parametrize("name", ["two words.mp4", "überraschung – 手势.mp4", "50% of #1 & 'it' %03d?.mp4"])
def test_names_in_any_script(tmp_path: Path, make_video: MakeVideo, name: str) -> None:
    folder = tmp_path / f"folder of {name}"
    folder.mkdir()
    video = make_video("plain.mp4")
    (folder / name).write_bytes(video.read_bytes())
    assert np.array_equal(read_frames(folder / name, [3]), read_frames(video, [3]))
    picture = read_frames(video, [3])[0]
    Image.fromarray(picture).save(folder / f"{name}.png")
    assert np.array_equal(read_frames(folder / f"{name}.png", [0])[0], picture)
    assert np.array_equal(read_frames(folder, [0])[0], picture), "as a folder of frames"


def write_long(path: Path, source: Path, times: int) -> int:
    """The packets of a video again and again, without encoding them; returns the number of frames."""
    with av.open(str(source)) as file, av.open(str(path), "w") as long:
        stream = file.streams.video[0]
        output = long.add_stream_from_template(stream)
        packets = [packet for packet in file.demux(stream) if packet.size]
        length = sum(packet.duration or 0 for packet in packets)
        starts = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        for repeat in range(times):
            for packet, (pts, dts) in zip(packets, starts, strict=True):
                packet.pts, packet.dts, packet.stream = pts + repeat * length, dts + repeat * length, output
                long.mux(packet)
    return times * len(packets)


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    try:
        (clips,) = load_clips([VideoItem("long", str(path))], PLAN, num_workers=0)
        assert clips.error is None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, make_video: MakeVideo) -> None:
    short = make_video("tiny.mp4", frames=50, width=16, height=16, options={"g": "10", "bf": "2"})
    num_frames = write_long(tmp_path / "long.mp4", short, times=600)
    assert probe_video(tmp_path / "long.mp4").num_frames == num_frames == 30_000
    peak_bytes(short)  # what is imported and set up once
    assert peak_bytes(tmp_path / "long.mp4") - peak_bytes(short) < 64 * num_frames
    last = read_frames(tmp_path / "long.mp4", [num_frames - 1, num_frames - 50])
    assert np.array_equal(last, read_frames(short, [49, 0])), "and the last frame is found"


def test_segments_of_a_long_video_reach_its_end() -> None:
    ten_hours = 10 * 3600 * 30
    clips = segment_indices(ten_hours, 16, 4, 8, rng=np.random.RandomState(0))
    assert clips[7][0] >= ten_hours // 8 * 7 and clips[7][-1] < ten_hours
