"""The test views hold the bytes that the official OpenCV code gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.video import views as v
from bench.video.views import _resize, taps

SHAPES = ["landscape", "portrait", "square"]


@pytest.fixture(scope="module")
def golden() -> dict[str, npt.NDArray[np.uint8]]:
    with np.load(Path(__file__).parents[1] / "golden" / "eval_views.npz") as file:
        return dict(file)


def noise(frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("views", "kind"), [(3, "three_views"), (1, "center_crop")])
def test_equals_the_official_views(golden: dict[str, npt.NDArray[np.uint8]], shape: str, views: int, kind: str) -> None:
    ours = v.test_views(torch.from_numpy(golden[f"{shape}_video"]), 32, views)
    official = torch.from_numpy(golden[f"{shape}_{kind}"])
    assert ours.shape == official.shape and ours.dtype == torch.float32
    # The bytes before normalisation are equal; what is left is the rounding of float32.
    torch.testing.assert_close(ours, official, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_close_to_the_float_resize_of_torch(golden: dict[str, npt.NDArray[np.uint8]], shape: str) -> None:
    video = torch.from_numpy(golden[f"{shape}_video"])
    height, width = video.shape[1:3]
    short = min(height, width)
    new = (int(36 * height / short), int(36 * width / short))
    resized = torch.nn.functional.interpolate(video.movedim(-1, 1).float(), new, mode="bilinear").movedim(1, -1)
    top, left = round((new[0] - 32) / 2), round((new[1] - 32) / 2)
    expected = resized[:, top : top + 32, left : left + 32]
    assert (v.crop_views(video, 32, 1)[0].float() - expected).abs().max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48)])
def test_three_views_are_the_two_ends_and_the_middle_of_the_long_side(height: int, width: int) -> None:
    video = noise(2, height, width)
    first, middle, last = v.crop_views(video, 48, 3)
    long_side = 1 if height > width else 2
    assert torch.equal(first, video.narrow(long_side, 0, 48))
    assert torch.equal(middle, video.narrow(long_side, 24, 48))
    assert torch.equal(last, video.narrow(long_side, 48, 48))


def test_a_square_video_gives_equal_views() -> None:
    first, middle, last = v.crop_views(noise(2, 40, 40), 32, 3)
    assert torch.equal(first, middle) and torch.equal(first, last)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_any_size_gives_full_views_within_the_range_of_the_video(
    height: int, width: int, size: int, views: int
) -> None:
    video = noise(2, height, width).clamp(30, 200)
    crops = v.crop_views(video, size, views)
    assert crops.shape == (views, 2, size, size, 3) and crops.dtype == torch.uint8
    assert int(crops.min()) >= int(video.min()) and int(crops.max()) <= int(video.max())


def test_resampling_to_the_same_size_would_change_nothing() -> None:
    frames = noise(2, 20, 20).numpy()
    rows = taps(20, 20, flat_border=False)
    assert np.array_equal(_resize(frames, (20, 20), np.arange(20), np.arange(20)), frames)
    assert np.array_equal(rows[0], np.arange(20)) and set(rows[2]) == {2048} and set(rows[3]) == {0}


def test_a_tiny_video_is_zoomed_as_the_protocol_says() -> None:
    assert v.crop_views(noise(9, 16, 16), 16, 1).shape == (1, 9, 16, 16, 3)


@pytest.mark.parametrize("views", [1, 3])
def test_short_side_keeps_a_video_that_is_at_the_size_already(views: int) -> None:
    video = noise(2, 32, 32)
    for view in v.crop_views(video, 32, views, short_side=32):
        assert torch.equal(view, video)


def test_short_side_above_the_crop_keeps_the_middle_of_the_short_side() -> None:
    video = noise(1, 40, 80)
    left, _, right = v.crop_views(video, 32, 3, short_side=40)
    assert torch.equal(left, video[:, 4:36, :32]) and torch.equal(right, video[:, 4:36, 48:])


def test_an_array_and_a_tensor_give_the_same_views() -> None:
    video = noise(2, 30, 44)
    assert torch.equal(v.crop_views(video.numpy(), 16, 3), v.crop_views(video, 16, 3))


def test_normalise_moves_channels_and_scales() -> None:
    clips = noise(2, 4, 5).expand(2, 3, 2, 4, 5, 3)
    values = v.normalise(clips, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
    assert values.shape == (2, 3, 3, 2, 4, 5)
    expected = (clips[1, 2, 0, 3, 4, 2].item() / 255 - 0.3) / 0.4
    assert values[1, 2, 2, 0, 3, 4].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("interpolation", "share", "mode"),
    [("bicubic", 0.9, "center"), ("bilinear", 1.0, "squash"), ("bicubic", 0.8, "squash")],
)
def test_equals_the_views_of_timm(
    golden: dict[str, npt.NDArray[np.uint8]], shape: str, interpolation: v.Interpolation, share: float, mode: str
) -> None:
    from PIL import Image
    from timm.data.transforms_factory import transforms_imagenet_eval

    video = golden[f"{shape}_video"]
    transform = transforms_imagenet_eval(32, crop_pct=share, crop_mode=mode, interpolation=interpolation)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in video], dim=1)
    short_side, squash = math.floor(32 / share), mode == "squash"
    ours = v.crop_views(video, 32, 1, short_side=short_side, interpolation=interpolation, squash=squash)
    torch.testing.assert_close(v.normalise(ours)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (131, 57), (57, 131), (33, 33), (300, 31), (31, 32)])
@pytest.mark.parametrize("size", [28, 31])
def test_images_have_the_bytes_of_torchvision(height: int, width: int, size: int) -> None:
    """protocol.md 3.4: Resize(int(size * 256 / 224)), which is Pillow's and antialiased, then CenterCrop(size)."""
    from PIL import Image
    from torchvision import transforms

    image = noise(1, height, width)
    official = transforms.Compose([transforms.Resize(int(size * 256 / 224)), transforms.CenterCrop(size)])
    expected = np.asarray(official(Image.fromarray(image[0].numpy())))
    assert np.array_equal(v.crop_views(image, size, 1, interpolation="bilinear")[0, 0], expected)


def opencv_resize(frame: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """OpenCV's arithmetic pixel by pixel, in plain integers."""
    rows = list(zip(*taps(frame.shape[0], height, flat_border=False), strict=True))
    columns = list(zip(*taps(frame.shape[1], width, flat_border=True), strict=True))
    output = np.empty((height, width, 3), np.uint8)
    for y, (above, below, up, down) in enumerate(rows):
        for x, (before, after, left, right) in enumerate(columns):
            for c in range(3):
                lines = [(int(frame[r, before, c] * left + frame[r, after, c] * right)) >> 4 for r in (above, below)]
                output[y, x, c] = (((lines[0] * int(up)) >> 16) + ((lines[1] * int(down)) >> 16) + 2) >> 2
    return output


@pytest.mark.parametrize(("height", "width"), [(20, 33), (33, 20), (12, 90), (90, 12), (15, 15), (44, 44)])
@pytest.mark.parametrize("views", [1, 2, 3, 4, 5, 8])
def test_views_are_crops_of_the_resized_frame(height: int, width: int, views: int) -> None:
    """Whether they overlap, are the same, or lie far apart (protocol.md 3.3)."""
    frame = noise(1, height, width).numpy()
    short = 16 if views > 1 else 18
    shape = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    whole = opencv_resize(frame[0], *shape)
    top, left = (round((side - 16) / 2) for side in shape)
    shown = v.crop_views(frame, 16, views)[:, 0].numpy()
    assert len(shown) == views
    for number, view in enumerate(shown):
        if views > 1:
            place = number * ((max(shape) - 16) // (views - 1))
            top, left = (place, left) if height > width else (top, place)
        assert np.array_equal(view, whole[top : top + 16, left : left + 16])


def test_two_views_are_the_two_ends_of_the_long_side() -> None:
    video = noise(2, 32, 75)
    first, last = v.crop_views(video, 32, 2)
    assert torch.equal(first, video[:, :, :32]) and torch.equal(last, video[:, :, -32:])


def test_an_interpolation_of_other_weights_gives_the_same_three_regions() -> None:
    video = torch.arange(96, dtype=torch.uint8).repeat(2, 48, 1)[..., None].expand(-1, -1, -1, 3)
    official, smooth = v.crop_views(video, 24, 3), v.crop_views(video, 24, 3, interpolation="bicubic")
    assert official.shape == smooth.shape and not torch.equal(official, smooth)
    assert (official.int() - smooth.int()).abs().max() <= 2


@pytest.mark.parametrize(
    ("video", "size", "views", "short_side"),
    [
        (noise(2, 8, 8).float(), 8, 1, None),
        (noise(2, 8, 8)[0], 8, 1, None),
        (noise(2, 8, 8)[..., :1], 8, 1, None),
        (noise(2, 8, 8), 0, 1, None),
        (noise(2, 8, 8), 8, 0, None),
        (noise(2, 8, 8), 8, 1, 7),
    ],
)
def test_bad_input_is_refused(video: torch.Tensor, size: int, views: int, short_side: int | None) -> None:
    with pytest.raises(BenchError):
        v.crop_views(video, size, views, short_side=short_side)
