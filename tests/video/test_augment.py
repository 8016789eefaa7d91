"""RandAugment: drawn as timm draws it, the bytes that timm gives frame by frame; AutoAugment for images likewise."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import LEVEL_TO_ARG, rand_augment_transform
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from video.timm_chain import WITHOUT_ARGUMENT, blurred_noise, changed_by_timm, timm_name

from bench.video import augment as autoaugment
from bench.video.augment import ARGUMENTS, draw_autoaugment, draw_randaugment
from bench.video.frame_ops import Op, Region, apply_ops
from bench.video.info import Frames

TIMM = rand_augment_transform("rand-m7-n4-mstd0.5-inc1", {"interpolation": Image.Resampling.BICUBIC})
SIZES = [(40, 56), (31, 17), (2, 9), (1, 1)]


def by_timm(frames: Frames, ops: list[Op]) -> Frames:
    return np.stack([np.asarray(changed_by_timm(Image.fromarray(frame), ops)) for frame in frames])


def cut(frames: Frames, region: Region) -> Frames:
    return frames[:, region.top : region.bottom, region.left : region.right]


def whole(frames: Frames) -> Region:
    return Region(0, 0, *frames.shape[1:3])


def a_region(height: int, width: int, rng: np.random.RandomState) -> Region:
    h, w = rng.randint(1, height + 1), rng.randint(1, width + 1)
    return Region(rng.randint(0, height - h + 1), rng.randint(0, width - w + 1), h, w)


def test_the_operations_and_their_numbers_are_those_of_timms_configuration() -> None:
    assert [timm_name(name) for name in ARGUMENTS] == [op.name for op in TIMM.ops]
    assert TIMM.num_layers == 4 and TIMM.choice_weights is None
    for op in TIMM.ops:
        assert (op.prob, op.magnitude, op.magnitude_std, op.magnitude_max) == (0.5, 7, 0.5, None)
        assert op.kwargs == {"fillcolor": (128, 128, 128), "resample": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_those_of_timms_level_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    level_map = LEVEL_TO_ARG[timm_name(name)]
    for magnitude in np.linspace(0, 10, 41):
        for sign, drawn in ((1, 0.2), (-1, 0.8)):
            monkeypatch.setattr(random, "random", lambda drawn=drawn: drawn)
            expected = level_map(magnitude, {})[0] if level_map else 0.0
            assert ARGUMENTS[name](magnitude / 10, sign) == pytest.approx(expected, rel=0, abs=1e-12)
    assert (level_map is None) == (name in WITHOUT_ARGUMENT)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_operation_gives_timms_bytes_whole_and_in_part(name: str) -> None:
    rng = np.random.RandomState(0)
    for height, width in SIZES:
        frames = blurred_noise(3, height, width, seed=height)
        frames[-1] = rng.randint(100, 180, frames[-1].shape)
        for magnitude in (0.0, 3.1, 6.4, 7.77, 9.9):
            for sign in (-1, 1):
                op = Op(name, ARGUMENTS[name](magnitude / 10, sign))
                expected = by_timm(frames, [op])
                region = a_region(height, width, rng)
                assert np.array_equal(apply_ops(frames, [op], whole(frames)), expected)
                assert np.array_equal(apply_ops(frames, [op], region), cut(expected, region))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"Posterize"}))
def test_the_highest_magnitude_gives_timms_bytes(name: str, sign: int) -> None:
    frames = blurred_noise(2, 40, 56)
    op = Op(name, ARGUMENTS[name](1.0, sign))
    assert np.array_equal(apply_ops(frames, [op], whole(frames)), by_timm(frames, [op]))


def test_posterize_to_no_bits_is_black() -> None:
    """Where Pillow refuses; the magnitude for it, 10, is six standard deviations away."""
    frames = blurred_noise(1, 8, 8)
    assert not apply_ops(frames, [Op("Posterize", ARGUMENTS["Posterize"](1.0, 1))], whole(frames)).any()


def test_chains_of_operations_give_timms_bytes_frame_by_frame() -> None:
    rng = np.random.RandomState(1)
    for number in range(80):
        frames = blurred_noise(2, rng.randint(1, 60), rng.randint(1, 60), seed=number)
        ops, region = draw_randaugment(rng), a_region(*frames.shape[1:3], rng)
        assert np.array_equal(apply_ops(frames, ops, region), cut(by_timm(frames, ops), region)), (ops, region)


def test_blocks_of_many_frames_give_the_same_bytes() -> None:
    frames = blurred_noise(16, 90, 120)
    ops = [Op("ShearX", 0.21), Op("TranslateY", -0.31), Op("ShearY", -0.2), Op("TranslateX", 0.3)]
    alone = np.concatenate([apply_ops(frame[None], ops, whole(frames)) for frame in frames])
    assert np.array_equal(apply_ops(frames, ops, whole(frames)), alone)
    assert np.array_equal(alone[:3], by_timm(frames[:3], ops))


def test_equal_frames_stay_equal_and_frames_are_left_as_they_were() -> None:
    rng = np.random.RandomState(2)
    frames = blurred_noise(1, 30, 40).repeat(4, axis=0)
    before = frames.copy()
    for _ in range(60):
        changed = apply_ops(frames, draw_randaugment(rng), whole(frames))
        assert (changed == changed[:1]).all()
    assert np.array_equal(frames, before)


def test_draws_have_the_frequencies_magnitudes_and_directions_of_the_configuration() -> None:
    rng = np.random.RandomState(0)
    num_clips = 6000
    clips = [draw_randaugment(rng) for _ in range(num_clips)]
    lengths = Counter(len(clip) for clip in clips)
    for length, share in enumerate(np.array([1, 4, 6, 4, 1]) / 16):  # binomial: four times one half
        assert abs(lengths[length] / num_clips - share) < 5 * np.sqrt(share * (1 - share) / num_clips)

    ops = [op for clip in clips for op in clip]
    frequencies = Counter(op.name for op in ops)
    assert set(frequencies) == set(ARGUMENTS)
    for count in frequencies.values():
        assert abs(count / len(ops) - 1 / 15) < 5 * np.sqrt(1 / 15 / len(ops))

    degrees = np.array([op.argument for op in ops if op.name == "Rotate"])
    magnitudes = np.abs(degrees) / 3
    error = 5 / np.sqrt(len(degrees))
    assert abs(magnitudes.mean() - 7) < 0.5 * error and abs(magnitudes.std() - 0.5) < 0.5 * error
    assert magnitudes.max() <= 10
    assert abs((degrees > 0).mean() - 0.5) < 0.5 * error


def test_operations_are_drawn_with_replacement() -> None:
    rng = np.random.RandomState(0)
    drawn = [draw_randaugment(rng) for _ in range(300)]
    assert any(len({op.name for op in clip}) < len(clip) for clip in drawn)


def test_magnitudes_are_clipped() -> None:
    class Extreme(np.random.RandomState):
        def normal(self, *_: object, size: int) -> np.ndarray:  # type: ignore[override]
            return np.array([-3.0, 25.0] * (size // 2))

    seen = [draw_randaugment(Extreme(seed)) for seed in range(400)]
    arguments = {abs(op.argument) for ops in seen for op in ops if op.name == "Rotate"}
    assert arguments == {0.0, 30.0}


def timms_image_transform() -> list[object]:
    """What the official image evaluation trains with."""
    transform = create_transform(
        64,
        is_training=True,
        auto_augment="original",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
    return list(transform.transforms)


def test_the_policy_for_images_is_timms_with_its_fill_and_interpolation() -> None:
    theirs = next(step for step in timms_image_transform() if hasattr(step, "policy"))
    ours = autoaugment._policy()
    assert len(ours) == 25
    for our_pair, their_pair in zip(ours, theirs.policy, strict=True):
        for op, expected in zip(our_pair, their_pair, strict=True):
            assert (op.name, op.prob, op.magnitude, op.kwargs, op.magnitude_std) == (
                expected.name,
                expected.prob,
                expected.magnitude,
                expected.kwargs,
                0,
            )


def test_the_policy_for_images_is_the_papers_as_torchvision_has_it() -> None:
    theirs = TorchvisionAutoAugment().policies
    ours = [
        tuple((op.name.replace("Original", ""), op.prob, op.magnitude) for op in pair) for pair in autoaugment._policy()
    ]
    expected = [tuple((name, share, 0 if level is None else level) for name, share, level in pair) for pair in theirs]
    without = ("Equalize", "AutoContrast", "Invert")
    strip = [[(n, p, 0 if n in without else m) for n, p, m in pair] for pair in ours]
    assert strip == [list(pair) for pair in expected]


def test_images_are_changed_as_timm_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(blurred_noise(1, 40, 40)[0])
    for pair in autoaugment._policy():
        for sign, drawn in ((1, 0.2), (-1, 0.8)):
            for op in pair:
                if not op.prob:
                    continue
                monkeypatch.setattr(random, "random", lambda drawn=drawn: drawn)
                monkeypatch.setattr(op, "prob", 1.0)
                ours = autoaugment._drawn(op, sign).apply(image)
                assert np.array_equal(np.asarray(ours), np.asarray(op(image)))


def test_pairs_and_probabilities_of_images_are_the_policys() -> None:
    rng = np.random.RandomState(0)
    drawn = [draw_autoaugment(rng) for _ in range(4000)]
    frequencies = Counter(op.name for ops in drawn for op in ops)
    expected: Counter[str] = Counter()
    for pair in autoaugment._policy():
        for op in pair:
            expected[op.name] += op.prob / 25
    assert set(frequencies) == {name for name, share in expected.items() if share}
    for name, mean in expected.items():
        assert abs(frequencies[name] / 4000 - mean) < 5 * np.sqrt(mean / 4000)
    angles = np.array([op.arguments[0] for ops in drawn for op in ops if op.name == "Rotate"])
    assert abs((angles > 0).mean() - 0.5) < 2.5 / np.sqrt(len(angles))
