"""Batches depend on seed and draw alone; files that give no clip are replaced, reported once, and not too many."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from standins import standin
from support import write_video

from bench.cards.load import TaskCard, load_task, task_names
from bench.core.errors import BenchError
from bench.data.dataset import read
from bench.pretrain.stream import Batch, VideoFile, VideoStream, check_first, find_videos
from bench.video import loader
from bench.video.decode import open_video
from bench.video.pretrain_views import Augmentation, TrainingPlan


def is_official(card: TaskCard) -> bool:
    return card.format != "list" and card.media == "video"


WHOLE = Augmentation(scale=(1, 1), aspect=(1, 1), flip=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoFile]:
    """Seven videos of 14 frames; each has its own level of grey, the left half black, and brightens over time."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(7):
        frames = (
            np.full((14, 16, 16, 3), 60 + 20 * number, np.uint8) + np.arange(14, dtype=np.uint8)[:, None, None, None]
        )
        frames[:, :, :8] = 0
        write_video(folder / f"{number}.mp4", frames)
    return find_videos(folder)


@pytest.fixture
def with_bad(videos: list[VideoFile], tmp_path: Path) -> list[VideoFile]:
    """The seven videos, a text and a video of 9 frames between them."""
    (tmp_path / "text.mp4").write_text("not a video")
    write_video(tmp_path / "short.mp4", np.zeros((9, 16, 16, 3), np.uint8))
    text, short = (VideoFile(name, str(tmp_path / f"{name}.mp4")) for name in ("text", "short"))
    return [*videos[:3], text, *videos[3:], short]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


PLAN = TrainingPlan(
    num_clips=1, num_frames=5, frame_step=2, size=8, augmentation=Augmentation(), seed=0, decoder="auto"
)


def stream(videos: list[VideoFile], **how: Any) -> VideoStream:
    """`how` may change the plan, too."""
    of_plan = {name: how.pop(name) for name in list(how) if hasattr(PLAN, name)}
    return VideoStream(videos, replace(PLAN, **of_plan), **{"num_workers": 0, **how})


def numbered(first: int, last: int, size: int) -> Iterator[list[int]]:
    return (list(range(start, start + size)) for start in range(first, last, size))


def take(videos: list[VideoFile], first: int = 0, last: int = 20, size: int = 5, **how: Any) -> list[Batch]:
    return list(stream(videos, **how).batches(numbered(first, last, size)))


def same(some: list[Batch], others: list[Batch]) -> bool:
    pairs = list(zip(some, others, strict=True))
    return all(a.ids == b.ids and torch.equal(a.pixels, b.pixels) for a, b in pairs)


def test_every_pass_takes_each_video_once_in_an_order_of_its_own(videos: list[VideoFile]) -> None:
    passes = [batch.ids for batch in take(videos, last=21, size=7)]
    assert all(sorted(ids) == sorted(video.id for video in videos) for ids in passes)
    assert passes[0] != passes[1] != passes[2]
    assert passes != [batch.ids for batch in take(videos, last=21, size=7, seed=1)]


@pytest.mark.parametrize("num_clips", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(with_bad: list[VideoFile], num_clips: int) -> None:
    here, one, two = (take(with_bad, num_workers=n, num_clips=num_clips, max_failed=0.5) for n in (0, 1, 2))
    assert same(here, one) and same(here, two)
    assert [batch.failures for batch in here] == [batch.failures for batch in two]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_wherever_a_run_starts(with_bad: list[VideoFile], workers: int) -> None:
    how = {"num_workers": workers, "max_failed": 0.5}
    assert same(take(with_bad, last=40, **how)[2:], take(with_bad, first=10, last=40, **how))


def test_batches_do_not_depend_on_how_draws_are_shared_out(with_bad: list[VideoFile]) -> None:
    whole = take(with_bad, size=4, last=16, max_failed=0.5)
    for rank in range(2):
        shares = (draws[2 * rank : 2 * rank + 2] for draws in numbered(0, 16, 4))
        for share, batch in zip(stream(with_bad, max_failed=0.5).batches(shares), whole, strict=True):
            assert torch.equal(share.pixels, batch.pixels[2 * rank : 2 * rank + 2])


def test_two_clips_are_of_one_video_and_drawn_apart(videos: list[VideoFile]) -> None:
    # Brightness tells the video (steps of 20) and the window's start (steps of 1, up to 4).
    batches = take(videos, last=21, size=7, num_clips=2, augmentation=WHOLE)
    assert all(batch.pixels.shape == (14, 5, 8, 8, 3) and batch.pixels.dtype == torch.uint8 for batch in batches)
    levels = torch.cat([batch.pixels[:, 0, :, 5:].float().mean(dim=(1, 2, 3)).view(2, 7) for batch in batches], dim=1)
    ids = [int(id.removesuffix(".mp4")) for batch in batches for id in batch.ids]
    expected = torch.tensor([60.0 + 20 * id for id in ids])
    assert ((levels - expected).abs() < 8).all()
    apart = (levels[0] - levels[1]).abs() > 0.5
    assert 3 < int(apart.sum()) <= 21


def test_about_half_of_the_clips_are_flipped(videos: list[VideoFile]) -> None:
    (batch,) = take(videos, last=210, size=210, num_clips=2, augmentation=WHOLE.model_copy(update={"flip": 0.5}))
    dark_left = batch.pixels[:, :, :, :3].float().mean(dim=(1, 2, 3, 4)) < 30
    flips = ~dark_left
    assert 159 < int(flips.sum()) < 261  # of 420, five standard deviations
    first, second = flips.view(2, 210)
    assert 69 < int((first != second).sum()) < 141


def test_a_passed_over_video_is_reported_once_and_replaced(with_bad: list[VideoFile], tmp_path: Path) -> None:
    batches = take(with_bad, last=36, size=9, num_workers=2, max_failed=0.5)
    failures = {failure.id: failure.error for batch in batches for failure in batch.failures}
    assert failures.keys() == {"text", "short"}
    assert sum(len(batch.failures) for batch in batches) == 2
    assert failures["short"] == f"{tmp_path}/short.mp4: has 9 frames, a clip spans 10 (5 frames, step 2)"
    assert "text.mp4" in failures["text"]
    drawn = list(itertools.chain.from_iterable(batch.ids for batch in batches))
    assert len(drawn) == 36 and not {"text", "short"} & set(drawn)


def test_a_file_that_failed_is_not_tried_again(with_bad: list[VideoFile], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counting(path: str, decoder: Any, fps: float | None) -> Any:
        opened.append(Path(path).stem)
        return open_video(path, decoder, fps)

    monkeypatch.setattr(loader, "open_video", counting)
    clips = stream(with_bad, max_failed=0.5)
    first = list(clips.batches(numbered(0, 9, 9)))
    again = list(clips.batches(numbered(0, 9, 9)))
    assert opened.count("text") == opened.count("short") == 1
    assert same(first, again) and len(first[0].failures) == 2 and again[0].failures == ()


def test_a_video_that_hangs_its_decoder_is_passed_over(
    videos: list[VideoFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def hanging(path: str, decoder: Any, fps: float | None) -> Iterator[Any]:
        if path == videos[2].path:
            time.sleep(1000)
        with open_video(path, decoder, fps) as video:
            yield video

    monkeypatch.setattr(loader, "open_video", hanging)
    (batch,) = take(videos, last=7, size=7, num_workers=2, timeout_s=1.0, max_failed=0.2)
    (failure,) = batch.failures
    assert failure.id == videos[2].id and "hung for more than 1 s" in failure.error
    assert len(batch.ids) == 7 and videos[2].id not in batch.ids


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_failures_end_the_run(with_bad: list[VideoFile], workers: int) -> None:
    with pytest.raises(BenchError, match=r"1 of 9 videos give no clip, at most 1.0% may; the first: .*\.mp4: "):
        take(with_bad, num_workers=workers, max_failed=0.01)
    with pytest.raises(BenchError, match=r"2 of 9 videos .*data\.max_failed"):
        take(with_bad, num_workers=workers, max_failed=0.2)


def test_data_that_fails_altogether_ends_the_run_whatever_is_allowed(tmp_path: Path) -> None:
    bad = [VideoFile(str(n), str(tmp_path / f"{n}.mp4")) for n in range(3)]
    with pytest.raises(BenchError, match="3 of 3 videos"):
        take(bad, max_failed=1.0)


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_draws_are_read_a_little_ahead(videos: list[VideoFile], workers: int) -> None:
    asked = itertools.count()
    batches = stream(videos, num_workers=workers).batches([next(asked), next(asked)] for _ in itertools.repeat(None))
    assert next(batches).pixels.shape == (2, 5, 8, 8, 3)
    assert next(asked) <= 50
    assert len(multiprocessing.active_children()) == workers
    del batches
    assert multiprocessing.active_children() == []


def test_the_first_look_passes_if_any_video_is_good(with_bad: list[VideoFile]) -> None:
    bad = [video for video in with_bad if video.id in ("text", "short")]
    check_first([*bad, with_bad[0]], PLAN)
    with pytest.raises(BenchError, match=r"none of 2 videos looked at gives a clip; the first: .*text"):
        check_first(bad, PLAN)
    with pytest.raises(BenchError, match="has 14 frames, a clip spans 64"):
        check_first([video for video in with_bad if video.id != "text"], replace(PLAN, num_frames=16, frame_step=4))


def test_a_stream_of_nothing_is_refused() -> None:
    with pytest.raises(BenchError, match="no videos"):
        stream([])


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"video")


def test_a_folder_gives_the_videos_below_it_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.MP4", "a/z.webm", "a/y.mkv", "notes.txt", ".hidden.mp4", ".trash/c.mp4")
    found = find_videos(tmp_path)
    assert [video.id for video in found] == ["a/y.mkv", "a/z.webm", "b.MP4"]
    assert found[0].path == str(tmp_path / "a/y.mkv")


def test_links_are_followed_only_inside_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    touch(data, "blobs/1", "real.mp4")
    touch(tmp_path, "outside.mp4", "elsewhere/x.mp4")
    for link, target in (("in.mp4", "blobs/1"), ("same.mp4", "real.mp4"), ("out.mp4", "../outside.mp4")):
        (data / link).symlink_to(target)
    (data / "folder").symlink_to("../elsewhere")
    assert [video.id for video in find_videos(data)] == ["in.mp4", "real.mp4"]
    (tmp_path / "alias").symlink_to("data")
    assert [video.id for video in find_videos(tmp_path / "alias")] == ["in.mp4", "real.mp4"]
    touch(tmp_path, "empty/none.txt")
    (tmp_path / "empty/out.mp4").symlink_to("../outside.mp4")
    with pytest.raises(BenchError, match=r"no videos in the folder \(1 link\(s\) lead out of it"):
        find_videos(tmp_path / "empty")


@pytest.mark.parametrize("rows", ["a.mp4 0\nsub/b c.mp4 5\n", "a.mp4\n\nsub/b c.mp4\n", "a.mp4,0\nsub/b c.mp4,1\n"])
def test_a_list_gives_its_rows_with_or_without_labels(tmp_path: Path, rows: str) -> None:
    (tmp_path / "list.csv").write_text(rows)
    (tmp_path / "sub").mkdir()
    beside, below = find_videos(tmp_path / "list.csv"), find_videos(tmp_path / "list.csv", tmp_path / "sub")
    assert [video.id for video in beside] == ["a.mp4", "sub/b c.mp4"]
    assert [video.path for video in beside] == [str(tmp_path / "a.mp4"), str(tmp_path / "sub/b c.mp4")]
    assert below[0].path == str(tmp_path / "sub/a.mp4")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("", "the list is empty"),
        ("a.mp4\n./a.mp4\n", r"list\.csv:2: './a\.mp4' is listed twice"),
        ("a.mp4\n../b.mp4\n", r"list\.csv:2: '\.\./b\.mp4' leaves the data folder"),
        ("a.mp4 1\nb.mp4\n", r"list\.csv:2: not `path label`"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(tmp_path: Path, rows: str, problem: str) -> None:
    (tmp_path / "list.csv").write_text(rows)
    with pytest.raises(BenchError, match=problem):
        find_videos(tmp_path / "list.csv", tmp_path)


def test_a_card_gives_its_training_list_below_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "val.csv", "ssv2/only_here.mp4")
    (tmp_path / "train.csv").write_text("clips/a.mp4 3\n")
    (tmp_path / "own.yaml").write_text("{name: own, title: Own, train: train.csv}")
    expected = [VideoFile("clips/a.mp4", str(tmp_path / "clips/a.mp4"))]
    assert find_videos(Path("ssv2"), tmp_path) == expected
    assert find_videos(tmp_path / "own.yaml", tmp_path) == expected
    monkeypatch.chdir(tmp_path)
    assert [video.id for video in find_videos(Path("ssv2"))] == ["only_here.mp4"]
    assert find_videos(Path("ssv2"), tmp_path) == expected


@pytest.mark.parametrize("card", [name for name in task_names() if is_official(load_task(name))])
def test_a_card_gives_the_videos_of_its_official_annotations(tmp_path: Path, card: str) -> None:
    standin(card, tmp_path, train=4, test=2)
    found = find_videos(Path(card), tmp_path)
    assert sorted(video.path for video in found) == sorted(sample.path for sample in read(card, tmp_path, "train"))
    check_first(found, replace(PLAN, num_frames=2, frame_step=1))


def test_what_is_no_data_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    for data, root, problem in (
        (tmp_path / "gone", None, "gone: no such file or folder - check --data"),
        (tmp_path / "a.mp4", None, "a.mp4: a video, not a list - give --data"),
        (Path("ssv2"), None, "ssv2: card ssv2 does not say where its videos are"),
        (Path("ssv2"), tmp_path, "no annotations of the train split"),
        (Path("in1k"), tmp_path, "card in1k holds still images"),
        (Path("ssv2"), tmp_path / "gone", "gone: no such folder"),
        (Path("digits-motion"), tmp_path, "card digits-motion brings its own data"),
    ):
        with pytest.raises(BenchError) as refused:
            find_videos(data, root)
        assert problem in str(refused.value)


def test_short_videos_are_padded_where_the_preset_says_so(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(6, dtype=np.uint8)[:, None, None, None] * 40, 16, axis=1).repeat(16, 2).repeat(3, 3)
    short = [VideoFile("short", str(write_video(tmp_path / "short.mp4", frames)))]
    check_first(short, replace(PLAN, num_frames=4, frame_step=2, pad_short=True))
    with pytest.raises(BenchError, match="has 6 frames, a clip spans 8"):
        check_first(short, replace(PLAN, num_frames=4, frame_step=2))
    made = stream(short, pad_short=True, num_frames=4, size=16, augmentation=WHOLE)
    brightness = next(made.batches([[0]])).pixels[0].float().mean(dim=(1, 2, 3))
    # Frames 0, 3, 5 and 5: linspace(0, 6, 3), then the last.
    assert brightness.tolist() == pytest.approx([0, 120, 200, 200], abs=8)
