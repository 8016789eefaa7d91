"""Clips that were decoded before: the same pixels without decoding, and never those of another plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import write_video

from bench.video import loader as memory
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.loader import forget_clips, load_clips, remembered_clips

PLAN = ClipPlan(
    frames_per_clip=4,
    frame_step=1,
    num_segments=1,
    views=1,
    size=16,
    sampling="center",
    seed=0,
    short_side=16,
    decoder="auto",
)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    forget_clips()
    yield
    forget_clips()


@pytest.fixture
def items(tmp_path: Path) -> dict[str, VideoItem]:
    rng = np.random.default_rng(0)
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", rng.integers(0, 255, (6, 16, 16, 3)).astype(np.uint8))
    return {f"{name}/0": VideoItem(id=name, path=str(tmp_path / f"{name}.mp4")) for name in "abc"}


def pixels(items: dict[str, VideoItem], plan: ClipPlan = PLAN) -> torch.Tensor:
    found = [clips.pixels for clips in remembered_clips(items, plan, num_workers=0, timeout_s=60)]
    return torch.stack([clip for clip in found if clip is not None])


def test_what_was_decoded_is_given_again_without_its_file(items: dict[str, VideoItem]) -> None:
    expected = torch.stack(
        [c.pixels for c in load_clips(list(items.values()), PLAN, num_workers=0) if c.pixels is not None]
    )
    assert torch.equal(pixels(dict(list(items.items())[1:])), expected[1:])
    for item in list(items.values())[1:]:
        Path(item.path).unlink()
    assert torch.equal(pixels(items), expected)


def test_another_plan_decodes_again(items: dict[str, VideoItem]) -> None:
    assert pixels(items).shape[-2] == 16
    assert pixels(items, replace(PLAN, size=8, short_side=8)).shape[-2] == 8


def test_failures_are_not_remembered(items: dict[str, VideoItem], tmp_path: Path) -> None:
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(b"")
    assert len(pixels(items)) == 2
    (tmp_path / "a.mp4").write_bytes(content)
    assert len(pixels(items)) == 3


def test_large_sets_are_not_kept(items: dict[str, VideoItem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_BYTES", 2 * 4 * 16 * 16 * 3)
    pixels(items)
    assert not memory._decoded
