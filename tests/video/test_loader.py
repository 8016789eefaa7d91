"""Every item comes out once and in order: its clips, the same for any number of workers, or why not."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.errors import BenchError
from bench.video import clip_views as plans
from bench.video import loader
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.decode import Video, open_video, read_frames
from bench.video.loader import LoadedClips, load_clips
from bench.video.views import crop_views

pytestmark = pytest.mark.slow

PLAN = ClipPlan(
    frames_per_clip=4,
    frame_step=2,
    num_segments=2,
    views=3,
    size=24,
    sampling="random",
    seed=0,
    short_side=None,
    decoder="auto",
)


@pytest.fixture(scope="module")
def items(make_video: Callable[..., Path]) -> list[VideoItem]:
    return [
        VideoItem(f"v{n}", str(make_video(f"load{n}.mp4", frames=40 + n, width=64 + 2 * n, height=48)))
        for n in range(6)
    ]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def load(items: list[VideoItem], plan: ClipPlan = PLAN, workers: int = 2, **how: Any) -> list[LoadedClips]:
    return list(load_clips(items, plan, num_workers=workers, **how))


def segfault() -> None:
    faulthandler.disable()  # a crash that is wanted needs no report
    os.kill(os.getpid(), signal.SIGSEGV)


def same(first: LoadedClips, second: LoadedClips) -> bool:
    assert first.pixels is not None and second.pixels is not None
    return first.indices == second.indices and torch.equal(first.pixels, second.pixels)


@contextmanager
def decoder_that(fails: Callable[[], object], path: str) -> Iterator[Callable[..., Any]]:
    """Stand-in for `open_video`: does `fails` on `path`, decodes the others."""

    @contextmanager
    def fake(name: str, decoder: Any, fps: float | None) -> Iterator[Video]:
        if name == path:
            fails()
        with open_video(name, decoder, fps) as video:
            yield video

    yield fake


def test_pixels_are_the_views_of_the_sampled_frames(items: list[VideoItem]) -> None:
    plan = replace(PLAN, sampling="center")
    for item, clips in zip(items, load(items, plan), strict=True):
        with open_video(item.path) as video:
            expected = segment_indices(video.info.num_frames, 4, 2, 2)
        assert clips.indices == expected and clips.error is None and clips.id == item.id
        assert clips.pixels is not None and clips.pixels.shape == (3, 2, 4, 24, 24, 3) == plan.shape
        for segment, indices in enumerate(expected):
            assert torch.equal(clips.pixels[:, segment], crop_views(read_frames(item.path, indices), 24, 3))


def test_clips_longer_than_one_batch_of_frames(items: list[VideoItem]) -> None:
    (clips,) = load(items[:1], replace(PLAN, frames_per_clip=40, frame_step=1, num_segments=1, views=1))
    assert clips.pixels is not None and clips.indices is not None
    expected = crop_views(read_frames(items[0].path, clips.indices[0]), 24, 1)
    assert torch.equal(clips.pixels[:, 0], expected)


def test_results_do_not_depend_on_workers_or_order(items: list[VideoItem]) -> None:
    here = load(items, workers=0)
    assert all(map(same, here, load(items, workers=2)))
    assert all(map(same, here, reversed(load(items[::-1], workers=1))))


def test_random_windows_depend_on_seed_id_and_draw(items: list[VideoItem]) -> None:
    item = items[0]
    windows = {
        str(load([one], replace(PLAN, seed=seed), workers=0)[0].indices)
        for seed in range(3)
        for one in (item, replace(item, draw=1), replace(item, draw=2), replace(item, id="other"))
    }
    assert len(windows) > 6
    assert same(*load([item, item], workers=0))


def test_steps_by_time_follow_each_videos_own_rate(make_video: Callable[..., Path]) -> None:
    """A set of mixed rates: the clips span the same time."""
    for fps, step in ((10, 2), (25, 5), (7, 1)):
        path = make_video(f"rate{fps}.mp4", frames=40, fps=fps)
        plan = replace(PLAN, sampling="center", views=1, num_segments=1)
        for by_time in (replace(plan, fps=5.0), replace(plan, duration_s=4 * step / fps)):
            (clips,) = load([VideoItem("a", str(path))], by_time, workers=0)
            assert clips.indices == segment_indices(40, 4, step, 1)


def test_frames_larger_than_a_group_are_read_one_by_one(make_video: Callable[..., Path]) -> None:
    path = make_video("large.mp4", frames=3, width=2048, height=1400)
    with open_video(path) as video:
        groups = list(plans.read_clips(video, [[0, 1, 2, 2]]))
    assert [len(frames) for frames, _ in groups] == [1, 1, 1]
    assert [places for _, places in groups] == [[(0, 0, 0)], [(0, 0, 1)], [(0, 0, 2), (0, 0, 3)]]


def test_times_restrict_the_frames(items: list[VideoItem]) -> None:
    # 25 frames per second: 0.4 s to 1.2 s are the frames 10 to 29.
    (clips,) = load([replace(items[0], start_s=0.4, end_s=1.2)], replace(PLAN, sampling="center"), workers=0)
    expected = [[10 + index for index in clip] for clip in segment_indices(20, 4, 2, 2)]
    assert clips.indices == expected
    (clips,) = load([replace(items[0], start_s=1.0)], replace(PLAN, num_segments=1), workers=0)
    assert clips.indices is not None and clips.indices[0][0] >= 25


@pytest.mark.parametrize("times", [(9.0, None), (0.5, 0.5), (1.0, 0.2)])
def test_times_without_a_frame_are_a_failure(items: list[VideoItem], times: tuple[float, float | None]) -> None:
    (clips,) = load([replace(items[0], start_s=times[0], end_s=times[1])], workers=0)
    assert clips.pixels is None and "no frame between" in str(clips.error)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_cannot_be_decoded_fails_with_its_reason(
    items: list[VideoItem], workers: int, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    broken = VideoItem("broken", str(tmp_path / "text.mp4"))
    missing = VideoItem("missing", str(tmp_path / "missing.mp4"), draw=3)
    outcome = load([items[0], broken, missing, items[1]], workers=workers)
    assert [clips.id for clips in outcome] == ["v0", "broken", "missing", "v1"]
    assert [clips.error is None for clips in outcome] == [True, False, False, True]
    assert outcome[2].draw == 3 and outcome[2].pixels is None and outcome[2].indices is None
    assert "no such file" in str(outcome[2].error) and "\n" not in str(outcome[1].error)


@pytest.mark.parametrize(
    ("fails", "reason", "timeout_s"),
    [
        (lambda: time.sleep(1000), "hung for more than 1.5 s", 1.5),
        (lambda: os._exit(0), "crashed", 60.0),
        (segfault, "crashed", 60.0),
    ],
    ids=["hangs", "exits", "segfaults"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_decoder_that_hangs_or_dies_costs_one_sample(
    items: list[VideoItem],
    fails: Callable[[], object],
    reason: str,
    timeout_s: float,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = load(items, workers=0)
    with decoder_that(fails, items[2].path) as fake:
        monkeypatch.setattr(loader, "open_video", fake)
        outcome = load(items, workers=workers, timeout_s=timeout_s)
    assert [clips.id for clips in outcome] == [item.id for item in items]
    assert outcome[2].pixels is None and reason in str(outcome[2].error)
    assert all(same(outcome[n], good[n]) for n in (0, 1, 3, 4, 5))


def test_every_file_may_kill_its_worker(items: list[VideoItem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "open_video", lambda *_: os._exit(1))
    outcome = load(items * 3)
    assert len(outcome) == 18 and all("crashed" in str(clips.error) for clips in outcome)


def test_a_slow_consumer_is_not_mistaken_for_a_hung_decoder(items: list[VideoItem]) -> None:
    outcome = []
    for clips in load_clips(items, PLAN, num_workers=2, timeout_s=0.5):
        time.sleep(0.7 if clips.id in ("v0", "v3") else 0)
        outcome.append(clips)
    assert [clips.error for clips in outcome] == [None] * 6


def test_an_error_that_nobody_documents_is_a_failed_sample_that_names_it(
    items: list[VideoItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = loader.open_video

    def broken(path: str, decoder: Any, fps: float | None) -> object:
        if path == items[1].path:
            raise TypeError("thread_count")
        return opened(path, decoder, fps)

    monkeypatch.setattr(loader, "open_video", broken)
    errors = [clips.error for clips in load(items)]
    assert [error is None for error in errors] == [number != 1 for number in range(6)]
    assert "TypeError: thread_count" in (errors[1] or "")


def test_workers_that_cannot_live_end_the_run(items: list[VideoItem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda count: os._exit(1))
    with pytest.raises(BenchError, match="processes die"):
        load(items)


def test_an_abandoned_iterator_takes_its_workers_with_it(items: list[VideoItem]) -> None:
    clips = load_clips(items * 20, PLAN, num_workers=2)
    next(clips)
    assert len(multiprocessing.active_children()) == 2
    del clips
    assert multiprocessing.active_children() == []


def test_samples_own_their_pixels(items: list[VideoItem]) -> None:
    many = load(items * 20, workers=1)
    assert all(same(many[n], many[n % 6]) for n in range(len(many)))


def test_workers_stay_on_one_thread(items: list[VideoItem], monkeypatch: pytest.MonkeyPatch) -> None:
    threads: Any = multiprocessing.get_context("fork").Value("i", 0)

    def count(*_: Any) -> str:
        threads.value = torch.get_num_threads()
        return "counted"

    monkeypatch.setattr(loader, "_load_or_explain", count)
    before = torch.get_num_threads()
    load(items, workers=1)
    assert threads.value == 1 and torch.get_num_threads() == before


def test_no_items_give_nothing() -> None:
    assert load([]) == [] and load([], workers=0) == []


@pytest.mark.parametrize("name", ["frames_per_clip", "frame_step", "num_segments", "views", "size"])
def test_a_plan_without_pixels_is_refused(name: str) -> None:
    with pytest.raises(BenchError, match=name):
        replace(PLAN, **{name: 0})


def test_a_negative_number_of_workers_is_refused(items: list[VideoItem]) -> None:
    with pytest.raises(BenchError, match="num_workers"):
        load(items, workers=-1)


def test_pixels_are_bytes(items: list[VideoItem]) -> None:
    (clips,) = load(items[:1], workers=1)
    assert clips.pixels is not None and clips.pixels.dtype == torch.uint8
    assert np.ptp(clips.pixels.numpy()) > 0
