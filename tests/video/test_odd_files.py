"""Files that FFmpeg opens and that are no videos, and damage that the libraries do not document."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support import write_video

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.contents import content_ids
from bench.video.decode import DecodeError, read_frames
from bench.video.loader import load_clips

PLAN = ClipPlan(
    frames_per_clip=2, frame_step=1, num_segments=1, views=1, size=16, sampling="center", seed=0, short_side=16,
    decoder="auto",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "a text that could be drawn\n" * 200),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nvideo.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile video.ts\n"),
    ],
)
def test_texts_and_playlists_are_no_videos(tmp_path: Path, name: str, content: str) -> None:
    write_video(tmp_path / "video.ts", np.zeros((9, 64, 64, 3), np.uint8))
    (tmp_path / name).write_text(content)
    with pytest.raises(DecodeError, match="not a video"):
        read_frames(tmp_path / name, [0])


@pytest.mark.parametrize(
    "content",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npipe.ts\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile pipe.ts\n"],
)
def test_a_playlist_is_not_followed_to_a_pipe(tmp_path: Path, content: str) -> None:
    os.mkfifo(tmp_path / "pipe.ts")
    (tmp_path / "list.m3u8").write_text(content)
    with pytest.raises(DecodeError, match="not a video"):
        read_frames(tmp_path / "list.m3u8", [0])


@pytest.mark.parametrize("name", ["video.mp4", "picture.jpg", "animation.webp", "frames/1.jpg"])
def test_a_pipe_is_a_failed_sample_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    sample = path if path.parent == tmp_path else path.parent
    loaded = list(load_clips([VideoItem(id="a", path=str(sample))], PLAN, num_workers=0))
    assert loaded[0].pixels is None and loaded[0].error
    assert content_ids(tmp_path, [str(sample)]) == {}


def test_damaged_headers_are_failed_samples_never_a_dead_run(tmp_path: Path) -> None:
    content = write_video(tmp_path / "good.mp4", np.full((9, 32, 32, 3), 90, np.uint8)).read_bytes()
    start = content.index(b"moov")
    rng = np.random.RandomState(0)
    items = []
    for number in range(120):
        damaged = bytearray(content)
        for place in rng.randint(start, len(content), rng.randint(1, 12)):
            damaged[place] = rng.randint(256)
        (tmp_path / f"{number}.mp4").write_bytes(damaged)
        items.append(VideoItem(id=str(number), path=str(tmp_path / f"{number}.mp4")))
    items.append(VideoItem(id="long", path=str(tmp_path / ("x" * 300))))
    loaded = list(load_clips(items, PLAN, num_workers=1, timeout_s=20))
    assert [clips.id for clips in loaded] == [item.id for item in items]
    failed = [clips for clips in loaded if clips.pixels is None]
    assert failed and all(clips.error for clips in failed) and loaded[-1].error
