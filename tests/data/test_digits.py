"""The embedded dataset: what is in the files, and what networks can and cannot read from it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.data import digits
from bench.data.digits import DEFAULT, FILE_FRAMES, MOTIONS, NUM_FRAMES, DigitsConfig
from bench.video.decode import read_frames

pytestmark = pytest.mark.slow

SMALL = DigitsConfig(train_clips=80, test_clips=80)


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames of a file: [F, H, W, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sample(seed: int, count: int, split: digits.Split = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Freshly rendered clips [B, NUM_FRAMES, H, W] and their motions [B]."""
    rng = np.random.RandomState(seed)
    pool = digits.image_pool(split)
    motions = rng.randint(0, len(MOTIONS), count)
    images = pool.images[rng.randint(0, len(pool.images), count)]
    return digits.render_clips(rng, images, motions)[:, :NUM_FRAMES], motions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.ensure_digits(tmp_path_factory.mktemp("cache"))


# ------------------------------------------------------------------------------------------------- the lists


def test_counts_and_header(folder: Path) -> None:
    for split, count in (("train", DEFAULT.train_clips), ("test", DEFAULT.test_clips)):
        clips = digits.read_digits(folder, split)
        assert len(clips) == len({clip.id for clip in clips}) == count
        assert all((folder / clip.path).is_file() for clip in clips)
        assert (folder / f"{split}.csv").read_text().startswith("path,motion,digit,image\n")


def test_train_and_test_share_no_image(folder: Path) -> None:
    used = {split: {clip.image for clip in digits.read_digits(folder, split)} for split in digits.SPLITS}
    assert not used["train"] & used["test"]
    assert len(used["train"] | used["test"]) == 1797  # and every image is used


def test_images_carry_the_digit_of_the_list(folder: Path) -> None:
    from sklearn.datasets import load_digits

    target = load_digits().target
    for split in digits.SPLITS:
        assert all(target[clip.image] == clip.digit for clip in digits.read_digits(folder, split))


def test_labels_are_balanced_and_independent(folder: Path) -> None:
    for split in digits.SPLITS:
        clips = digits.read_digits(folder, split)
        pairs = Counter((clip.motion, clip.digit) for clip in clips)
        assert len(pairs) == 80
        assert set(pairs.values()) == {len(clips) // 80}


def test_lists_never_change(folder: Path) -> None:
    lists = b"".join((folder / f"{split}.csv").read_bytes() for split in digits.SPLITS)
    assert hashlib.sha256(lists).hexdigest()[:16] == "2f00ac2ffe11debb", "raise digits._FORMAT with new lists"


def test_unknown_split_and_missing_list(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="did you mean 'test'"):
        digits.read_digits(folder, "tests")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=r"train\.csv"):
        digits.read_digits(tmp_path, "train")


# ------------------------------------------------------------------------------------------------- the files


def test_two_generations_are_equal(tmp_path: Path) -> None:
    first, second = (digits.ensure_digits(tmp_path / name, SMALL) for name in "ab")
    for split in digits.SPLITS:
        clips = digits.read_digits(first, split)
        assert clips == digits.read_digits(second, split)
        for clip in clips:
            assert np.array_equal(decoded(first / clip.path), decoded(second / clip.path))


def test_files_hold_what_was_rendered(tmp_path: Path) -> None:
    clip = sample(0, 1)[0][0]
    path = tmp_path / "clip.mp4"
    digits.write_clip(path, clip, quantiser=DEFAULT.quantiser)
    frames = decoded(path)
    assert frames.shape == (*clip.shape, 3)
    assert np.array_equal(frames[..., 0], frames[..., 1])
    assert np.array_equal(frames[..., 0], frames[..., 2])
    assert np.abs(frames[..., 0].astype(int) - clip).max() <= 3


def test_file_length(folder: Path) -> None:
    assert decoded(folder / "test/0000.mp4").shape == (FILE_FRAMES, DEFAULT.size, DEFAULT.size, 3)


def test_read_like_any_other_video(folder: Path) -> None:
    path = folder / "test/0000.mp4"
    assert np.array_equal(read_frames(path, list(range(NUM_FRAMES))), decoded(path)[:NUM_FRAMES])


def test_a_decoded_frame_knows_nothing_of_its_neighbours(tmp_path: Path) -> None:
    order = [5, 2, 7, 0, 1, 4, 6, 3]
    for number, clip in enumerate(sample(1, 5)[0]):
        plain, mixed = tmp_path / f"{number}.mp4", tmp_path / f"{number}m.mp4"
        digits.write_clip(plain, clip, quantiser=DEFAULT.quantiser)
        digits.write_clip(mixed, clip[order], quantiser=DEFAULT.quantiser)
        assert np.array_equal(decoded(plain)[order], decoded(mixed))


def test_parameters_name_the_folder(tmp_path: Path) -> None:
    assert DigitsConfig(seed=1).key != DEFAULT.key
    assert digits.ensure_digits(tmp_path, SMALL).name == SMALL.key
    with pytest.raises(ValueError, match="multiples of 80"):
        DigitsConfig(train_clips=100)


# ------------------------------------------------------------------------------------- what a frame may tell


def test_every_frame_has_one_distribution() -> None:
    count = 4000
    for motion in range(len(MOTIONS)):
        states = digits._states(np.random.RandomState(motion), np.full(count, motion), DEFAULT)
        turn = math.radians(DEFAULT.angle)
        limits = [
            (-DEFAULT.position, DEFAULT.position),
            (-DEFAULT.position, DEFAULT.position),
            (math.log(DEFAULT.scale_low), math.log(DEFAULT.scale_high)),
            (-turn, turn),
        ]
        for frame in range(FILE_FRAMES):
            for coordinate, (low, high) in enumerate(limits):
                uniform = stats.uniform(low, high - low)
                assert stats.kstest(states[:, frame, coordinate], uniform.cdf).pvalue > 1e-5


@pytest.mark.parametrize("motion", range(8))
def test_motions_go_where_their_names_say(motion: int) -> None:
    """Follow the ink of a bar on the digit's right edge, away from the ends of the ranges."""
    states = digits._states(np.random.RandomState(0), np.full(500, motion), DEFAULT)
    steps = np.median(np.diff(states, axis=1), axis=(0, 1))  # [4]; the median passes over the jumps
    assert np.count_nonzero(np.abs(steps) > 1e-4) == 1
    coordinate = np.argmax(np.abs(steps))
    bar = np.zeros((1, 8, 8), np.float32)
    bar[0, 3:5, 6:] = 1
    path = np.zeros((1, 2, 4), np.float32)
    path[0, :, 2] = math.log(0.7)
    path[0, 1, coordinate] += 8 * steps[coordinate]
    ink = digits._ink(bar, path, 64)[0].reshape(2, 64, 64)
    y, x = np.mgrid[:64, :64]
    shift_x, shift_y = ((ink[1] * axis).sum() / ink[1].sum() - (ink[0] * axis).sum() / ink[0].sum() for axis in (x, y))
    # Clockwise, as one sees it, the right edge goes down; y grows downwards.
    goes = {
        "left": shift_x < -1,
        "right": shift_x > 1,
        "up": shift_y < -1,
        "down": shift_y > 1,
        "zoom_in": shift_x > 1,
        "zoom_out": shift_x < -1,
        "rotate_clockwise": shift_y > 1,
        "rotate_counter_clockwise": shift_y < -1,
    }
    assert goes[MOTIONS[motion]]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SmallNet(nn.Module):
    """Three convolutions over [B, T, H, W] clips, then one score per motion. T may be 1."""

    def __init__(self, frames: int, width: int = 24) -> None:
        super().__init__()
        deep = 3 if frames > 1 else 1
        stride = 2 if frames > 1 else 1
        layers: list[nn.Module] = []
        for inside, outside, kernel, step in (
            (1, width, (deep, 5, 5), (1, 2, 2)),
            (width, 2 * width, (deep, 3, 3), (stride, 2, 2)),
            (2 * width, 2 * width, (deep, 3, 3), (1, 1, 1)),
        ):
            pad = tuple(k // 2 for k in kernel)
            layers += [nn.Conv3d(inside, outside, kernel, step, pad), nn.BatchNorm3d(outside), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * width * (DEFAULT.size // 4) ** 2, len(MOTIONS))

    def forward(self, clips: Tensor) -> Tensor:
        pixels = (clips[:, None].float() / 255 - 0.4) / 0.2
        hidden: Tensor = self.layers(pixels.contiguous(memory_format=torch.channels_last_3d))
        scores: Tensor = self.head(hidden.mean(2).flatten(1))
        return scores


View = Callable[[Tensor], Tensor]


def motion_accuracy(view: View, steps: int, batch: int = 64, test: int = 4000) -> float:
    """Percent right on new clips of test digits, after training on endless clips of training digits."""
    torch.manual_seed(0)
    clips, motions = sample(999, test, "test")
    held_out = view(torch.from_numpy(clips))
    net = SmallNet(held_out.shape[1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for step in range(steps):
        new, labels = sample(10_000 + step, batch)
        loss = F.cross_entropy(net(view(torch.from_numpy(new))), torch.from_numpy(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        chosen = torch.cat([net(part).argmax(1) for part in held_out.split(200)])
    return 100 * (chosen == torch.from_numpy(motions)).float().mean().item()


def bound(chance: float, test: int = 4000, errors: float = 4) -> float:
    """Four standard errors above `chance` (percent): passed by luck about once in 30,000 times."""
    return chance + errors * math.sqrt(chance * (100 - chance) / test)


def one_frame(index: int) -> View:
    return lambda clips: clips[:, index : index + 1]


def shuffled(clips: Tensor) -> Tensor:
    order = torch.rand(clips.shape[:2]).argsort(1)
    return clips.gather(1, order[..., None, None].expand_as(clips))


ONE_FRAME_STEPS = 250
ALL_FRAMES_STEPS = 200


@pytest.mark.parametrize("index", [0, NUM_FRAMES // 2, NUM_FRAMES - 1])
@pytest.mark.usefixtures("one_thread")
def test_one_frame_says_nothing_of_the_motion(index: int) -> None:
    assert motion_accuracy(one_frame(index), ONE_FRAME_STEPS) < bound(12.5)


@pytest.mark.usefixtures("one_thread")
def test_the_one_frame_test_catches_the_known_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Motion symmetric about the middle of the clip, the obvious construction, shows in the first frame."""
    cyclic = digits._states

    def symmetric(
        rng: np.random.RandomState, motions: NDArray[np.int64], config: DigitsConfig, *frames: int
    ) -> NDArray[np.float32]:
        still = DigitsConfig(position=0.1, scale_low=0.70, scale_high=0.80, angle=10, travel=0)
        states = cyclic(rng, motions, still, *frames)
        half_range = np.array([config.position, config.position, 0.2, math.radians(config.angle)])
        time = [*np.linspace(-1, 1, NUM_FRAMES), 1.3]
        for clip, motion in enumerate(motions):
            axis = digits._COORDINATE[motion]
            states[clip, :, axis] += digits._DIRECTION[motion] * half_range[axis] * np.array(time)
        return states

    monkeypatch.setattr(digits, "_states", symmetric)
    assert motion_accuracy(one_frame(0), ONE_FRAME_STEPS) > 40


@pytest.mark.usefixtures("one_thread")
def test_frames_in_order_tell_the_motion() -> None:
    """The control of the test below: the same network and budget do read ordered frames."""
    assert motion_accuracy(lambda clips: clips, ALL_FRAMES_STEPS) > 90


@pytest.mark.usefixtures("one_thread")
def test_shuffled_frames_leave_half() -> None:
    """A motion and its reverse hold the same frames, so the axis is all that remains."""
    assert motion_accuracy(shuffled, ALL_FRAMES_STEPS) < bound(50)


def test_a_frame_step_shows_some_frames_of_a_longer_clip() -> None:
    images = digits.image_pool("train").images[:8]
    still = replace(DEFAULT, noise=0.0)
    whole = digits.render_clips(np.random.RandomState(0), images, np.arange(8), still, num_frames=7)
    every_third = digits.render_clips(np.random.RandomState(0), images, np.arange(8), still, num_frames=3, frame_step=3)
    assert np.array_equal(every_third, whole[:, ::3])
