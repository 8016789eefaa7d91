"""The embedded dataset: small clips of moving hand-written digits, labelled by motion and by digit.

One frame says nothing about the motion. Position, log-scale and angle of every clip start uniformly and run
cyclically inside fixed ranges: a moving coordinate `(u + v t) mod 1` has the same distribution at every frame
as one that stands still, and a clip and its time reversal hold the same set of frames. The video codec keeps
this, because each frame is coded alone at one fixed quantiser. `docs/digits.md` has the measurements.

    folder = ensure_digits(cache_folder())  # <cache>/digits/<key>/ with {train,test}.csv and their clips
    clips = read_digits(folder, "test")     # list of DigitClip

Shapes: B clips, F frames, P = size * size pixels of a frame, N images.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BenchError, nearest
from bench.core.files import atomic_folder, writable_folder
from bench.core.hashing import digest, file_digest

_NAMES = "left right up down zoom_in zoom_out rotate_clockwise rotate_counter_clockwise"
MOTIONS: tuple[str, ...] = tuple(_NAMES.split())
# Motion class -> coordinate that it moves (0 x, 1 y, 2 log-scale, 3 angle) and direction (y grows downwards).
_COORDINATE = np.array([0, 0, 1, 1, 2, 2, 3, 3])
_DIRECTION = np.array([-1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0])

NUM_DIGITS = 10
NUM_FRAMES = 8  # frames of a clip that an encoder sees: 0 to 7
FILE_FRAMES = 9  # frames in a file: the official sampler never reaches the last one of exactly T frames
FRAME_RATE = 8  # per second; only players use it

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
Progress = Callable[[int, int], None]

_FORMAT = 1  # raise when the same parameters give other files
_CLIP = "{split}/{item:04d}.mp4"
_DIGESTS = "digests.json"
_COLUMNS = ("path", "motion", "digit", "image")
_CHUNK = 200  # clips rendered at once while files are made


@dataclass(frozen=True)
class DigitsConfig:
    """Everything that decides the content of the files. Lengths in half-frames: a frame spans -1 to 1."""

    seed: int = 0
    """Seed of the image split, of the labels and of the clips."""
    train_clips: int = 1600
    """Labelled training clips; a multiple of 80, so that each (motion, digit) pair comes equally often."""
    test_clips: int = 800
    """Test clips; a multiple of 80."""
    test_share: float = 1 / 3
    """Share of each digit's images kept for the test clips."""
    size: int = 16
    """Height and width of a frame in pixels; even."""
    position: float = 0.25
    """The digit's centre runs within plus and minus this, on both axes."""
    scale_low: float = 0.60
    """Smallest half-width of the digit's 8 x 8 box."""
    scale_high: float = 0.90
    """Largest half-width of the digit's 8 x 8 box."""
    angle: float = 30.0
    """The digit's angle runs within plus and minus this; degrees."""
    travel: float = 0.5
    """Part of its range that the moving coordinate covers from frame 0 to frame 7."""
    contrast: float = 0.40
    """Brightness of full ink over the ground; black is 0 and white is 1."""
    ground: float = 0.30
    """Mean brightness of the ground."""
    texture: float = 0.0
    """Standard deviation of the smooth ground of a clip (one random picture, still over time)."""
    noise: float = 0.09
    """Standard deviation of the pixel noise, drawn afresh for each pixel of each frame."""
    quantiser: int = 4
    """H.264 quantiser of every frame: 0 is lossless, 51 the coarsest."""

    def __post_init__(self) -> None:
        pairs = len(MOTIONS) * NUM_DIGITS
        if self.train_clips % pairs or self.test_clips % pairs:
            raise ValueError(f"train_clips and test_clips must be multiples of {pairs}")
        if self.size % 2 or self.size < 8:
            raise ValueError("size must be even and at least 8")

    @property
    def key(self) -> str:
        """Name of the folder that holds these clips: a hash of the parameters and of the file format."""
        return digest({**asdict(self), "frames": FILE_FRAMES, "format": _FORMAT})[:16]


DEFAULT = DigitsConfig()


@dataclass(frozen=True)
class DigitClip:
    """One labelled clip of a list."""

    id: str
    """Unique and stable: `train/0000`."""
    path: str
    """File, relative to the folder of the dataset, with forward slashes."""
    motion: int
    """Index into MOTIONS."""
    digit: int
    """0 to 9."""
    split: Split
    image: int
    """Index of the source image in `sklearn.datasets.load_digits()`."""


# ---------------------------------------------------------------------------------------------------- images


@functools.cache
def _all_images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # takes most of a second to import

    data: Any = load_digits()
    return (data.images / 16).astype(np.float32), data.target.astype(np.int64)


@dataclass(frozen=True)
class ImagePool:
    """The digit images of one split."""

    images: NDArray[np.float32]
    """[N, 8, 8], ink from 0 to 1."""
    digits: NDArray[np.int64]
    """[N]"""
    indices: NDArray[np.int64]
    """[N], positions in `load_digits()`."""


def image_pool(split: Split, config: DigitsConfig = DEFAULT) -> ImagePool:
    """The images of a split. Train and test share none, and hold all ten digits in the same proportions."""
    images, digits = _all_images()
    rng = np.random.RandomState(config.seed)
    chosen = []
    for digit in range(NUM_DIGITS):
        order = rng.permutation(np.flatnonzero(digits == digit))
        cut = round(len(order) * config.test_share)
        chosen.append(order[:cut] if split == "test" else order[cut:])
    indices = np.sort(np.concatenate(chosen))
    return ImagePool(images[indices], digits[indices], indices)


# ---------------------------------------------------------------------------------------------------- pixels


def render_clips(
    rng: np.random.RandomState,
    digit_images: NDArray[np.float32],
    motion_labels: NDArray[np.int64],
    config: DigitsConfig = DEFAULT,
    num_frames: int = FILE_FRAMES,
    frame_step: int = 1,
) -> NDArray[np.uint8]:
    """Clips of the images [B, 8, 8] with the motions [B]: grey uint8 [B, num_frames, size, size].

    With a `frame_step` above 1 they show every frame_step-th frame of longer clips.
    """
    count, size = len(digit_images), config.size
    ink = _ink(digit_images, _states(rng, motion_labels, config, num_frames, frame_step), size)  # [B, F, P]
    ink *= np.float32(config.contrast)
    ink += np.float32(config.ground)
    if config.texture:
        ink += _smooth_ground(rng, count, size, config.texture)[:, None]
    if config.noise:
        ink += rng.standard_normal(ink.shape).astype(np.float32) * np.float32(config.noise)
    ink *= 255
    np.rint(ink, out=ink)
    np.clip(ink, 0, 255, out=ink)
    return ink.astype(np.uint8).reshape(count, num_frames, size, size)


def _states(
    rng: np.random.RandomState,
    motion_labels: NDArray[np.int64],
    config: DigitsConfig,
    num_frames: int = FILE_FRAMES,
    frame_step: int = 1,
) -> NDArray[np.float32]:
    """Centre x, centre y, log-scale and angle (radians) of every frame: [B, F, 4]."""
    count = len(motion_labels)
    velocity = np.zeros((count, 4))
    velocity[np.arange(count), _COORDINATE[motion_labels]] = _DIRECTION[motion_labels]
    velocity *= config.travel / (NUM_FRAMES - 1)
    start = rng.random_sample((count, 4))
    times = frame_step * np.arange(num_frames)[:, None]
    phase = (start[:, None] + velocity[:, None] * times) % 1.0
    turn = np.deg2rad(config.angle)
    low = np.array([-config.position, -config.position, np.log(config.scale_low), -turn])
    high = np.array([config.position, config.position, np.log(config.scale_high), turn])
    return np.asarray(low + phase * (high - low), dtype=np.float32)


def _ink(images: NDArray[np.float32], states: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The digits [B, 8, 8] seen through the states [B, F, 4], bilinear, 0 outside of their box: [B, F, P]."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    side = padded.shape[1]
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.tile(axis, size), np.repeat(axis, size)  # [P]
    centre_x, centre_y, log_scale, angle = (states[..., i, None] for i in range(4))  # [B, F, 1]
    # From the frame to the image: shift, turn back, shrink; the box spans 8 image pixels, index 0 is padding.
    zoom = np.exp(-log_scale) * np.float32(4)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    middle = np.float32(4.5)
    column = cos * x + sin * y + (middle - cos * centre_x - sin * centre_y)
    row = cos * y - sin * x + (middle - cos * centre_y + sin * centre_x)
    top, down = _cell(row, side)
    left, right = _cell(column, side)
    index = top * side + left
    index += (np.arange(len(images), dtype=np.int32) * side * side)[:, None, None]
    flat = padded.reshape(-1)
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    index += side
    lower = flat[index] * (1 - right) + flat[index + 1] * right
    return cast("NDArray[np.float32]", upper + (lower - upper) * down)


def _cell(position: NDArray[np.float32], side: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Index of the pixel before `position` and the distance from it; outside moves onto the empty border."""
    position = np.clip(position, 0, side - 1)
    before = np.minimum(position.astype(np.int32), side - 2)
    return before, position - before


def _smooth_ground(
    rng: np.random.RandomState, count: int, size: int, deviation: float, knots: int = 4
) -> NDArray[np.float32]:
    """Smooth random pictures [B, P]: knots^2 values, blended linearly, of the given standard deviation."""
    at = np.linspace(0, knots - 1, size)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(knots)))  # [size, knots]
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    values = rng.standard_normal((count, knots, knots))
    pictures = weights @ values @ weights.T * deviation
    return cast("NDArray[np.float32]", pictures.astype(np.float32).reshape(count, size * size))


# ----------------------------------------------------------------------------------------------------- files


def ensure_digits(cache: Path, config: DigitsConfig = DEFAULT, progress: Progress | None = None) -> Path:
    """The folder of the dataset in `cache`, made first if missing, and mended where a file of it is gone or changed;
    `progress(done, total)` counts clips.

    All files are written to a temporary folder that takes its name at the end: the dataset is there whole or
    not at all, and of two processes that make it at once the first to finish wins. A folder that was there keeps its
    name, and its files are replaced one by one, so that who reads them meanwhile misses none.
    """
    parent = cache / "digits"
    folder = parent / config.key
    if _is_whole(folder, config):
        return folder
    writable_folder(parent, option="--cache")
    try:
        with atomic_folder(folder) as temporary:
            _write_dataset(temporary, config, progress)
            if folder.is_dir() and not _is_whole(folder, config):
                _replace_files(temporary, folder, config)
    except OSError as error:
        raise BenchError(
            f"cannot write the digit clips ({error.strerror or error})",
            where=str(parent),
            fix="free some space or choose another folder with --cache",
        ) from error
    return folder


def _names(config: DigitsConfig) -> list[str]:
    """The files of a dataset, besides that of their digests."""
    counts = {"train": config.train_clips, "test": config.test_clips}
    clips = [_CLIP.format(split=split, item=item) for split in SPLITS for item in range(counts[split])]
    return [*clips, *(f"{split}.csv" for split in SPLITS)]


def _digests(folder: Path, config: DigitsConfig) -> list[str]:
    return [file_digest(folder / name) for name in _names(config)]


def _is_whole(folder: Path, config: DigitsConfig) -> bool:
    """Whether every file is there with the content that it was written with."""
    try:
        noted = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
        return bool(noted == _digests(folder, config))
    except (OSError, ValueError, RecursionError):
        return False


def _replace_files(source: Path, folder: Path, config: DigitsConfig) -> None:
    """Bring the files of `source` to `folder`, the digests last."""
    for name in [*_names(config), _DIGESTS]:
        (folder / name).parent.mkdir(exist_ok=True)
        (source / name).replace(folder / name)


def read_digits(folder: Path, split: Split) -> list[DigitClip]:
    """The clips of a split, in the random order of its list: the first n are a fair sample."""
    if split not in SPLITS:
        raise BenchError(f"unknown split '{split}'", fix=nearest(split, SPLITS))
    path = folder / f"{split}.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise BenchError(f"cannot read the list ({error.strerror})", where=str(path)) from error
    return [
        DigitClip(
            id=row["path"].removesuffix(".mp4"),
            path=row["path"],
            motion=int(row["motion"]),
            digit=int(row["digit"]),
            split=split,
            image=int(row["image"]),
        )
        for row in rows
    ]


def _write_dataset(folder: Path, config: DigitsConfig, progress: Progress | None) -> None:
    total, done = config.train_clips + config.test_clips, 0
    for number, split in enumerate(SPLITS):
        rng = np.random.RandomState([config.seed, 1 + number])
        count = config.train_clips if split == "train" else config.test_clips
        pool = image_pool(split, config)
        motions, chosen = _labels(rng, pool, count)
        (folder / split).mkdir()
        rows = []
        for first in range(0, count, _CHUNK):
            part = slice(first, first + _CHUNK)
            clips = render_clips(rng, pool.images[chosen[part]], motions[part], config)
            for offset, clip in enumerate(clips):
                item = first + offset
                path = _CLIP.format(split=split, item=item)
                write_clip(folder / path, clip, quantiser=config.quantiser)
                image = chosen[item]
                rows.append((path, int(motions[item]), int(pool.digits[image]), int(pool.indices[image])))
                done += 1
                if progress:
                    progress(done, total)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(rows)
    (folder / _DIGESTS).write_text(json.dumps(_digests(folder, config)), encoding="utf-8")


def _labels(rng: np.random.RandomState, pool: ImagePool, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Motion [count] and position in the pool [count]: all (motion, digit) pairs equally often, shuffled.

    Each digit deals its images like a pack of cards, shuffled anew when it is used up.
    """
    pairs = rng.permutation(count) % (len(MOTIONS) * NUM_DIGITS)
    motions, digits = pairs // NUM_DIGITS, pairs % NUM_DIGITS
    chosen = np.empty(count, dtype=np.int64)
    for digit in range(NUM_DIGITS):
        places, pack = np.flatnonzero(digits == digit), np.flatnonzero(pool.digits == digit)
        rounds = -(-len(places) // len(pack))
        chosen[places] = np.concatenate([rng.permutation(pack) for _ in range(rounds)])[: len(places)]
    return motions.astype(np.int64), chosen


def write_clip(path: Path, clip: NDArray[np.uint8], *, quantiser: int) -> None:
    """Write grey frames [F, H, W] as H.264 in MP4, every frame coded alone at one quantiser.

    Prediction between frames and rate control would let a decoded frame know of its neighbours, and so of
    the motion.
    """
    import av

    frames, height, width = clip.shape
    luma = np.rint(16 + clip.astype(np.float32) * (219 / 255)).astype(np.uint8)  # the studio range of yuv420p
    planes = np.full((frames, height * 3 // 2, width), 128, np.uint8)  # colour planes at 128: grey
    planes[:, :height] = luma
    try:
        container = av.open(str(path), "w")
        stream = container.add_stream("libx264", rate=Fraction(FRAME_RATE))
    except ValueError as error:  # av.codec.codec.UnknownCodecError
        raise BenchError("this PyAV cannot write H.264 (libx264)", fix="pip install --upgrade av") from error
    with container:
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "fast", "qp": str(quantiser), "g": "1", "bf": "0", "rc-lookahead": "0"}
        for plane in planes:
            stream_frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            container.mux(stream.encode(stream_frame))
        container.mux(stream.encode())
