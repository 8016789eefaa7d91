"""A batch that the device has no memory for, of clips or key frames: halved, with all that follow; and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ava_standin import ava_standin

from bench.core.progress import Silent
from bench.encoders import load_encoder
from bench.features.extract import ClipsAtOnce, ExtractOptions, extract, space_fields
from bench.features.spec import ClipTokens, item_key
from bench.features.store import Store
from bench.pipeline import run
from bench.pipeline.plan import make_plan
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.clip_views import ClipPlan, VideoItem

PLAN = ClipPlan(
    frames_per_clip=8, frame_step=1, num_segments=1, views=1, size=16, sampling="center", seed=0, short_side=16,
    decoder="auto",
)  # fmt: skip
SPEC = ClipTokens()


class Scarce:
    """An encoder that runs out of memory on more than three clips.

    It says that it is on a device that batches: on a CPU every clip is encoded alone.
    """

    device = torch.device("mps")

    def __init__(self) -> None:
        self.encoder = load_encoder("random")
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(clips))
        if len(clips) > 3:
            raise torch.cuda.OutOfMemoryError("planted")
        return self.encoder(clips)


def items(clips: Path) -> list[VideoItem]:
    return [VideoItem(id=path.stem, path=str(path)) for path in sorted(clips.glob("clips/*.mp4"))]


def test_batches_are_halved_until_they_fit_and_stay_small(clips: Path, tmp_path: Path) -> None:
    encoder: Any = Scarce()
    asked = [SPEC.request(item) for item in items(clips)]
    store = Store(tmp_path, space_fields(encoder, PLAN, SPEC))
    done = extract(encoder, asked, PLAN, SPEC, store, ExtractOptions(num_workers=0, batch_size=12))
    assert encoder.sizes == [12, 6] + [3] * 8
    assert (done.encoded_clips, done.halved_to) == (24, 3) and "out of memory" in done.notes[0]
    one_by_one = Store(tmp_path / "one", space_fields(encoder, PLAN, SPEC))
    extract(encoder, asked, PLAN, SPEC, one_by_one, ExtractOptions(num_workers=0, batch_size=1))
    for item in items(clips):
        assert np.allclose(store.item(item_key(item)), one_by_one.item(item_key(item)), atol=2e-3)


def test_a_single_clip_that_does_not_fit_ends_the_run() -> None:
    def never(size: int) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("planted")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        ClipsAtOnce(4).fitting(never)


def test_the_record_says_what_fitted(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"task": "custom", "data": clips, "model": "random", "probe": "knn", "workers": 0}
    options |= {"batch_size": 8, "settings": {"probe.neighbours": [1, 3]}}
    plan = make_plan(make_options({**options, "cache": tmp_path / "c", "results": tmp_path / "r"}))

    monkeypatch.setattr(run, "prepare_encoder", lambda plan, reporter: Scarce())
    record = run.run(plan, Silent())
    assert record.resolved["clips_at_once_after_out_of_memory"] == {"train": 2, "test": 2}


def test_key_frames_are_halved_too_and_keep_their_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"task": "ava", "data": ava_standin(tmp_path / "films", train=4, test=2)}
    options |= {"model": "random", "probe": "ava-attentive", "device": "cpu", "workers": 0}
    options |= {"settings": {"clip.starts_s": 900, "clip.resolution": 16, "probe.lr": [1e-3]}}
    options["settings"] |= {"probe.weight_decay": [0.1], "probe.epochs": 1, "probe.min_steps": 1}
    options |= {"batch_size": 8, "results": tmp_path / "results"}
    alone = run.run(make_plan(make_options({**options, "cache": tmp_path / "alone"})), Silent())
    scarce = Scarce()
    monkeypatch.setattr(RunPlan, "load_encoder", lambda plan: scarce)
    halved = run.run(make_plan(make_options({**options, "cache": tmp_path / "halved"})), Silent())
    assert scarce.sizes == [8, 4] + [2] * 8 + [8, 4] + [2] * 4
    assert halved.resolved["clips_at_once_after_out_of_memory"] == {"train": 2, "test": 2}
    assert "clips_at_once_after_out_of_memory" not in alone.resolved
    assert (halved.cost.encoder_clips, halved.failures, halved.digests) == (24, [], alone.digests)
    assert halved.scores[0].value == pytest.approx(alone.scores[0].value, abs=1e-6)
