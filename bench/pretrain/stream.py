"""Where training clips come from: numbered draws in, batches of pixels out; from the embedded digits, without end (see
`bench.data.digits`), or from video files.

A draw is a number that counts the videos a run has seen. Its clip depends on the seed and on this number alone, so
that batches are the same whatever the number of processes, and a resumed run continues where it stopped.

Shapes: V videos of a batch, C clips, T frames, S pixels.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.cards.load import load_task, task_names
from bench.core.errors import BenchError
from bench.data.dataset import read
from bench.data.digits import MOTIONS, NUM_FRAMES, image_pool, render_clips
from bench.data.formats.lists import has_labels, read_rows, resolve, unquoted
from bench.data.formats.tables import VIDEO_SUFFIXES, read_lines
from bench.video.clip_views import VideoItem, random_state
from bench.video.decode import check_decoder
from bench.video.loader import LoadedClips, load_clips
from bench.video.pretrain_views import Augmentation, TrainingPlan


@dataclass(frozen=True)
class DataFailure:
    """A video that gave no clip and was passed over."""

    id: str
    error: str
    """Why, in one line that names the file."""


@dataclass(frozen=True)
class Batch:
    """The clips of a sequence of draws."""

    pixels: Tensor
    """uint8 RGB [C, T, S, S, 3]: one clip for each draw; where two clips of a video are wanted, all first clips come
    first and then all second ones, C = 2 V."""
    ids: list[str]
    """The video of each draw, V of them."""
    failures: tuple[DataFailure, ...] = ()
    """Videos that were passed over to fill this batch."""


class ClipStream(Protocol):
    """An endless, repeatable source of training clips."""

    num_videos: int | None
    """Videos of one pass over the data; None where they are generated without end."""

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """One batch for each sequence of draw numbers, in order; clips may be prepared ahead of need."""
        ...


_BLOCK = 32
"""Draws that are rendered together: one after another takes four times as long."""
_VIDEO_FRAMES = 16
"""Shown frames of the video that two clips of 8 are cut from: they may lie apart."""
_CLIPS = 0
"""Ends the seeds of the clips: other random choices of a run, which count from the same seed, have other streams."""


class DigitStream:
    """Digits that nobody has seen before: motion, place, size, angle and noise of every draw are new. A ClipStream."""

    num_videos: int | None = None

    def __init__(self, *, two_clips: bool, seed: int, frame_step: int = 1) -> None:
        self._pool = image_pool("train")
        self._two_clips, self._seed, self._frame_step = two_clips, seed, frame_step

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """Batches of clips uint8 [C, 8, 16, 16, 3]."""
        rendered: dict[int, NDArray[np.uint8]] = {}
        for draws in wanted:
            needed = {draw // _BLOCK for draw in draws}
            rendered = {number: rendered[number] if number in rendered else self._block(number) for number in needed}
            videos = np.stack([rendered[draw // _BLOCK][draw % _BLOCK] for draw in draws])  # [V, 1 or 2, T, S, S]
            clips = np.concatenate(list(videos.swapaxes(0, 1)))  # all first clips, then all second ones
            pixels = torch.from_numpy(clips)[..., None].expand(-1, -1, -1, -1, 3)
            yield Batch(pixels, [f"digits/{draw}" for draw in draws])

    def _block(self, number: int) -> NDArray[np.uint8]:
        """The clips of _BLOCK draws, which are rendered together: [_BLOCK, 1 or 2, T, S, S]."""
        rng = np.random.RandomState([self._seed, number & 0xFFFFFFFF, number >> 32, _CLIPS])
        images = self._pool.images[rng.randint(len(self._pool.images), size=_BLOCK)]
        motions = rng.randint(len(MOTIONS), size=_BLOCK)
        if not self._two_clips:
            return self._render(rng, images, motions, NUM_FRAMES)[:, None]
        videos = self._render(rng, images, motions, _VIDEO_FRAMES)
        starts = rng.randint(_VIDEO_FRAMES - NUM_FRAMES + 1, size=(_BLOCK, 2))
        frames = starts[..., None] + np.arange(NUM_FRAMES)  # [_BLOCK, 2, T]
        return np.asarray(videos[np.arange(_BLOCK)[:, None, None], frames])

    def _render(
        self, rng: np.random.RandomState, images: NDArray[np.float32], motions: NDArray[np.int64], num_frames: int
    ) -> NDArray[np.uint8]:
        return render_clips(rng, images, motions, num_frames=num_frames, frame_step=self._frame_step)


_CHECKED_FIRST = 4
_CHECKED_SIZE = 16


@dataclass(frozen=True)
class VideoFile:
    """A video to train on."""

    id: str
    """Its path as the list gives it, or below the folder; unique."""
    path: str


def find_videos(data: Path, root: Path | None = None) -> list[VideoFile]:
    """The videos that `data` names, at least one, in a fixed order; labels are not looked at.

    - A folder: every file below it with a suffix of VIDEO_SUFFIXES, sorted by path. Hidden files are left out, and so
      are links that lead out of the folder; a file with several names counts once.
    - A list: rows of `path label` (bench.data.formats.lists), or of a path alone. Relative paths are below `root`, else
      below the list's folder.
    - A dataset card, by its path (.yaml) or its name: the videos of its training split, whole, below `root`. A folder
      or list of that name goes first where no `root` is given.

    Raises BenchError that names --data where there is nothing of the kind, or no video in it.
    """
    if root is not None and not root.is_dir():
        raise BenchError(
            "no such folder", where=str(root), fix="give --root the folder that the paths of --data start from"
        )
    is_card_name = str(data) in task_names() and (root is not None or not data.exists())
    if is_card_name or data.suffix in (".yaml", ".yml"):
        return _from_card(str(data), root)
    if data.is_dir():
        return _in_folder(data)
    if not data.exists():
        cards = ", ".join(task_names())
        raise BenchError("no such file or folder", where=str(data), fix=f"check --data; dataset cards: {cards}")
    if data.suffix.lower() in VIDEO_SUFFIXES:
        raise BenchError("a video, not a list", where=str(data), fix="give --data its folder, or a list of paths")
    return _in_list(data, root)


class VideoStream:
    """Training clips of video files: an implementation of bench.pretrain.stream.ClipStream.

    Every pass takes each video once, in an order drawn from the seed and the number of the pass. All that is random
    depends on the seed and the draw, so batches are the same for any number of workers and wherever a run starts.

    A video that cannot be decoded, is shorter than a clip or hangs its decoder for `timeout_s` seconds is passed over:
    the draw takes another, chosen by the seed, the draw and the number of attempts. It is reported once, and not tried
    again.
    """

    num_videos: int | None

    def __init__(
        self,
        videos: Sequence[VideoFile],
        plan: TrainingPlan,
        *,
        num_workers: int,
        timeout_s: float = 60.0,
        max_failed: float = 0.01,
    ) -> None:
        """`plan`: the clips of a video. `max_failed`: share of the videos that may fail, 0 to 1.

        Raises BenchError where there are no videos, or the decoder is not there.
        """
        if not videos:
            raise BenchError("no videos", where="--data", fix="give a folder, a list or a dataset card")
        check_decoder(plan.decoder)
        self.num_videos = len(videos)
        self._videos, self._plan = videos, plan
        self._num_workers, self._timeout_s, self._max_failed = num_workers, timeout_s, max_failed
        self._failed: dict[str, DataFailure] = {}
        self._unreported: list[DataFailure] = []

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """One batch for each sequence of draw numbers, in order. `wanted` may be endless: it is read a little ahead.

        Workers decode ahead of need and end with the iterator. Raises BenchError where more than `max_failed` of the
        videos have failed.
        """
        ahead: deque[Sequence[int]] = deque()
        loaded = load_clips(
            self._items(wanted, ahead),
            self._plan,
            num_workers=self._num_workers,
            timeout_s=self._timeout_s,
            replacement=self._pass_over,
        )
        with closing(loaded):
            for first in loaded:
                yield self._batch(first, loaded, len(ahead.popleft()))

    def _items(self, wanted: Iterable[Sequence[int]], ahead: deque[Sequence[int]]) -> Iterator[VideoItem]:
        for draws in wanted:
            if not draws:
                raise ValueError("a batch of no draws")
            ahead.append(draws)
            for draw in draws:
                yield self._item(draw, attempt=0)

    def _item(self, draw: int, attempt: int) -> VideoItem:
        """The video of a draw after so many failures. Videos known to fail are skipped, which changes no choice."""
        while (video := self._choice(draw, attempt)).id in self._failed:
            attempt += 1
        return VideoItem(video.id, video.path, draw=draw, attempt=attempt)

    def _choice(self, draw: int, attempt: int) -> VideoFile:
        count = len(self._videos)
        if attempt:
            return self._videos[int(random_state(self._plan.seed, "instead", draw, attempt).randint(count))]
        return self._videos[int(_order(count, self._plan.seed, draw // count)[draw % count])]

    def _pass_over(self, item: VideoItem, error: str) -> VideoItem:
        if item.id not in self._failed:
            self._failed[item.id] = DataFailure(item.id, error)
            self._unreported.append(self._failed[item.id])
        count = len(self._videos)
        if len(self._failed) / count > self._max_failed or len(self._failed) == count:
            first = next(iter(self._failed.values()))
            raise BenchError(
                f"{len(self._failed)} of {count} videos give no clip, at most {self._max_failed:.1%} may; the first: "
                f"{first.error}",
                where="--data",
                fix="mend or remove the files, or --set data.max_failed",
            )
        return self._item(item.draw, item.attempt + 1)

    def _batch(self, first: LoadedClips, others: Iterator[LoadedClips], num_draws: int) -> Batch:
        num_clips, *shape = self._plan.shape
        pixels = torch.empty((num_clips, num_draws, *shape), dtype=torch.uint8)
        ids = []
        for place in range(num_draws):
            clips = next(others) if place else first
            assert clips.pixels is not None  # noqa: S101 - what fails is passed over or ends the run
            pixels[:, place] = clips.pixels
            ids.append(clips.id)
        failures, self._unreported = tuple(self._unreported), []
        return Batch(pixels.flatten(0, 1), ids, failures)


def check_first(videos: Sequence[VideoFile], plan: TrainingPlan, *, timeout_s: float = 60.0) -> None:
    """Decode a small clip, as long as those of the plan, of up to four videos, spread over all, until one succeeds;
    raise BenchError where none does."""
    check_decoder(plan.decoder)
    plan = replace(plan, num_clips=1, size=_CHECKED_SIZE, augmentation=Augmentation())
    places = sorted({place * len(videos) // _CHECKED_FIRST for place in range(_CHECKED_FIRST)})
    items = [VideoItem(videos[place].id, videos[place].path) for place in places]
    errors = []
    with closing(load_clips(items, plan, num_workers=1, timeout_s=timeout_s)) as loaded:
        for clips in loaded:
            if clips.error is None:
                return
            errors.append(clips.error)
    raise BenchError(
        f"none of {len(items)} videos looked at gives a clip; the first: {errors[0]}",
        where="--data",
        fix="give other videos, or shorter clips",
    )


@functools.lru_cache(maxsize=4)
def _order(num_videos: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return random_state(seed, "order", epoch).permutation(num_videos)


def _from_card(name: str, root: Path | None) -> list[VideoFile]:
    card = load_task(name)
    if card.data != "lists":
        fix = "give --data a folder, a list, or a card whose data are lists"
        raise BenchError(f"card {card.name} brings its own data, not video files", where=name, fix=fix)
    if root is None:
        fix = f"give --root the folder that holds {card.train}, or --data the list itself"
        raise BenchError(f"card {card.name} does not say where its videos are", where=name, fix=fix)
    if card.media == "image":
        raise BenchError(f"card {card.name} holds still images", where=name, fix="give --data videos")
    if card.format == "list":
        return _in_list(root / card.train, root)
    # Several samples may be parts of one video, of which the whole is taken.
    by_path = {sample.path: VideoFile(sample.id, sample.path) for sample in read(card, root, "train")}
    return list(by_path.values())


def _in_list(path: Path, root: Path | None) -> list[VideoFile]:
    lines = read_lines(path, "list", "give --data a list with a path on each line")
    if has_labels([text for _, text in lines]):
        samples = read_rows(path).samples(root, lambda name, where: 0)
        return [VideoFile(sample.id, sample.path) for sample in samples]
    videos: dict[str, VideoFile] = {}  # by path, so that a.mp4 and ./a.mp4 are one
    for number, text in lines:
        where, name = f"{path}:{number}", unquoted(text)
        found = resolve(name, root or path.parent, absolute_allowed=root is None, where=where)
        if found in videos:
            raise BenchError(f"'{name}' is listed twice", where=where, fix="remove one of the rows")
        videos[found] = VideoFile(name, found)
    return list(videos.values())


def _in_folder(folder: Path) -> list[VideoFile]:
    base = os.path.realpath(folder)
    found: dict[str, VideoFile] = {}  # by true path
    num_links = 0
    for name in sorted(_video_names(base)):
        path = os.path.join(base, name)  # noqa: PTH118 - a million of Path objects take seconds
        target = os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
        if os.path.commonpath([base, target]) == base:
            found.setdefault(target, VideoFile(Path(name).as_posix(), path))
        else:
            num_links += 1
    if not found:
        links = f" ({num_links} link(s) lead out of it and are not followed)" if num_links else ""
        raise BenchError(
            f"no videos in the folder{links}",
            where=str(folder),
            fix=f"check --data, or give it a list of paths; videos end in {' '.join(VIDEO_SUFFIXES)}",
        )
    return list(found.values())


def _video_names(base: str) -> Iterator[str]:
    """Paths below `base` of its video files, hidden ones left out."""

    def refuse(error: OSError) -> None:
        raise BenchError(f"cannot be read ({error.strerror})", where=error.filename, fix="check --data") from error

    for folder, subfolders, names in os.walk(base, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), base)  # noqa: PTH118
