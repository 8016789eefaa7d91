"""Batches and workers decide how fast a run is, never what comes out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import write_video

import bench

pytestmark = pytest.mark.slow

SETTINGS = {
    "probe.min_steps": 20,
    "probe.lr": [1e-2],
    "probe.weight_decay": 0.01,
    "probe.held_out": 0.3,
    "clip.segments": 2,
    "clip.views": 3,
    "clip.sampling": "random",
    "clip.frames": 1,
    "clip.step": 4,
    "clip.resolution": 64,
}
MODEL = "timm:convnext_atto+untrained"
"""Its last bits depend on the clips that share a batch with one, which those of the smallest encoders may not."""


@pytest.fixture(scope="module")
def hard_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with random labels: probabilities are near each other, so that the last bit of a token can show."""
    folder = tmp_path_factory.mktemp("hard")
    rng = np.random.default_rng(0)
    for split, count in (("train", 21), ("val", 13)):
        rows = []
        for i in range(count):
            write_video(folder / f"{split} {i}.mp4", rng.integers(0, 256, (31, 24, 32, 3), np.uint8))
            rows.append(f"{split} {i}.mp4,{i % 3}")
        (folder / f"{split}.csv").write_text("\n".join(rows))
    (folder / "val 5.mp4").write_bytes(b"damaged")
    return folder


def predictions(data: Path, folder: Path, batch_size: int, workers: int) -> bytes:
    record = bench.evaluate(
        task="custom", model=MODEL, probe="linear", settings=SETTINGS, device="cpu", max_failed=0.1,
        data=data, cache=folder / "cache", results=folder / "results", batch_size=batch_size, workers=workers,
    )  # fmt: skip
    assert [failure.sample for failure in record.failures] == ["val 5.mp4"]
    assert record.scores[0].n + record.scores[0].failed == 13
    return (folder / "results" / record.run_id / "predictions.parquet").read_bytes()


def test_predictions_are_the_same_for_any_batch_and_workers(hard_task: Path, tmp_path: Path) -> None:
    choices = [(1, 0), (7, 2), (64, 4)]
    files = [
        predictions(hard_task, tmp_path / str(number), batch_size, workers)
        for number, (batch_size, workers) in enumerate(choices)
    ]
    assert len(set(files)) == 1
    rows = pd.read_parquet(next((tmp_path / "0" / "results").glob("*/predictions.parquet")))
    assert {"sample", "label", "prediction"} <= set(rows.columns) and len(rows) == rows["sample"].nunique() == 12
