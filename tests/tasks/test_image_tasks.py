"""Image tasks from start to end: real photos where they are there, written ones everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import SHARED_DATA
from torchvision import transforms

import bench
from bench.encoders import load_encoder
from bench.pipeline.plan import make_plan
from bench.records.schema import Record
from bench.tasks.options import make_options
from bench.video.clip_views import VideoItem
from bench.video.loader import load_clips
from bench.video.views import normalise

pytestmark = pytest.mark.slow

SHORT = {"probe.epochs": 1, "probe.min_steps": 60, "probe.lr": [1e-2, 1e-3], "probe.weight_decay": 0.01}


def evaluate(data: Path | None, folder: Path, **options: Any) -> Record:
    given = {"task": "custom", "axis": "appearance", "workers": 0, "settings": SHORT, "data": data}
    given |= {"cache": folder / "cache", "results": folder / "results"}
    return bench.evaluate(**(given | options))


def write_lists(folder: Path, rows: dict[str, list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in rows.items():
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A task of dark (0) and bright (1) images of many sizes and modes."""
    rng = np.random.RandomState(0)
    folder = tmp_path / "photos"
    rows: dict[str, list[str]] = {"train": [], "val": []}
    for split, count in (("train", 24), ("val", 12)):
        for i in range(count):
            level = 60 if i % 2 == 0 else 190
            height, width = rng.randint(18, 60, 2)
            pixels = np.clip(rng.normal(level, 20, (height, width, 3)), 0, 255).astype(np.uint8)
            name = f"{split}_{i}.{('jpg', 'png')[i // 2 % 2]}"
            folder.mkdir(exist_ok=True)
            Image.fromarray(pixels).convert("L" if i % 5 == 0 else "RGB").save(folder / name)
            rows[split].append(f"{name} {i % 2}")
    return write_lists(folder, rows)


def test_a_list_of_images_is_an_image_task(photos: Path, tmp_path: Path) -> None:
    record = evaluate(photos, tmp_path)
    assert (record.scores[0].value, record.scores[0].n) == (100, 12)
    assert (record.input, record.protocol.split(" lr=")[0]) == ("16px image", "attentive/3 image epochs=1 min_steps=60")
    assert record.cost.encoder_clips == 36


def test_images_reach_the_encoder_as_torchvision_prepares_them(photos: Path, tmp_path: Path) -> None:
    """protocol.md 3.4: Resize(int(res * 256 / 224)), CenterCrop(res), repeated as the weights want it."""
    plan = make_plan(make_options({"task": "custom", "data": photos, "cache": tmp_path / "cache"}))
    encoder = load_encoder("random")
    official = transforms.Compose(
        [
            transforms.Resize(int(16 * 256 / 224)),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(encoder.input_spec.mean, encoder.input_spec.std),
        ]
    )
    for sample in plan.splits.test:
        (clips,) = load_clips([VideoItem(sample.id, sample.path)], plan.test_clips, num_workers=0)
        assert clips.pixels is not None
        seen = normalise(clips.pixels.flatten(0, 1))
        expected = official(Image.open(sample.path).convert("RGB"))[None, :, None]
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-6)
        repeated = expected.repeat(1, 1, encoder.input_spec.num_frames, 1, 1)
        assert torch.equal(encoder(expected), encoder(repeated)), "the encoder repeats the image to its frames"


def test_images_and_folders_of_frames_are_rows_among_videos(bright_and_dark: Path, tmp_path: Path) -> None:
    """V-JEPA 2 takes images among videos, repeated; Jester comes as folders of frames."""
    clips = bright_and_dark / "clips"
    Image.new("RGB", (20, 24), (190, 190, 190)).save(clips / "bright.jpg")
    (clips / "dark frames").mkdir()
    for number in range(9):
        Image.new("RGB", (16, 16), (60, 60, 60)).save(clips / "dark frames" / f"{number}.png")
    with (bright_and_dark / "val.csv").open("a") as file:
        file.write("clips/bright.jpg 1\nclips/dark frames 0\n")
    record = evaluate(bright_and_dark, tmp_path)
    assert (record.input, record.scores[0].n, record.scores[0].failed) == ("8x16px step 1", 14, 0)
    assert record.scores[0].value == 100


def test_a_dry_run_counts_folders_of_frames_as_present(bright_and_dark: Path, tmp_path: Path) -> None:
    from bench.pipeline.estimate.rough import forecast

    for name, frames in (("full", 3), ("empty", 0)):
        (bright_and_dark / "clips" / name).mkdir()
        for number in range(frames):
            Image.new("RGB", (16, 16)).save(bright_and_dark / "clips" / name / f"{number}.png")
    with (bright_and_dark / "val.csv").open("a") as file:
        file.write("clips/full 1\nclips/empty 0\n")
    options = {"task": "custom", "data": bright_and_dark, "cache": tmp_path / "cache", "max_failed": 0.1, "workers": 0}
    prediction = forecast(make_plan(make_options(options)))
    assert (prediction.missing_files, prediction.empty_files) == (0, 1)


def real_images(folder: str, pattern: str, count: int) -> list[Path]:
    """A few images of a shared folder, spread over it; the test is skipped without them."""
    found = sorted((SHARED_DATA / folder).glob(pattern))
    if not found:
        pytest.skip(f"shared/data/{folder} is absent")
    return found[:: max(1, len(found) // count)][:count]


def test_photos_of_hands_run_end_to_end(tmp_path: Path) -> None:
    rows = {
        split: [f"{path} {path.parent.name}" for path in real_images("sign_digits", f"{name}/*/*.*", 60)]
        for split, name in (("train", "train"), ("val", "val"))
    }
    lists = write_lists(tmp_path / "lists", rows)
    places = {"train": lists / "train.csv", "val": lists / "val.csv"}
    record = evaluate(None, tmp_path, **places, settings={"clip.resolution": 32, **SHORT})
    assert (record.scores[0].n, record.scores[0].failed, record.num_classes) == (60, 0, 10)
    assert record.input == "32px image"


def test_photos_of_imagenet_run_end_to_end(tmp_path: Path) -> None:
    images = real_images("imagenet_sample", "n*/*.*", 40)
    labels = sorted(path.parent.name for path in images)
    rows = [f"{path} {labels.index(path.parent.name) // 10}" for path in images]
    lists = write_lists(tmp_path / "lists", {"train": rows[::2], "val": rows[1::2]})
    places = {"train": lists / "train.csv", "val": lists / "val.csv"}
    record = evaluate(
        None, tmp_path, **places, model="timm:test_vit+untrained", probe="knn", settings={"probe.neighbours": [1, 3]}
    )
    assert (record.scores[0].n, record.scores[0].failed) == (20, 0)
    assert record.input == "160px image, bicubic, short side 168px"
