"""A run with a probe that is given: its scores, its record, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import GOLDEN, Run, assert_refused

import bench
from bench import BenchError
from bench.pipeline.suite import open_features
from bench.probing import load_probe, predict
from bench.records.schema import Record
from bench.video.contents import content_ids

pytestmark = pytest.mark.slow

SHORT = {"probe.min_steps": 30, "probe.epochs": 2, "probe.lr": [1e-2], "probe.weight_decay": 0.01}
V1, V2 = GOLDEN / "vjepa1.pth.tar", GOLDEN / "vjepa2_probe.pt"
TWO_HEADS = {"encoder.num_heads": 2}


def evaluate(data: Path, folder: Path, **options: Any) -> Record:
    given = {"task": "custom", "data": data, "cache": folder / "cache", "results": folder / "results", "workers": 0}
    given["seeds"] = 1
    return bench.evaluate(**(given | options))


def probabilities(folder: Path, record: Record) -> np.ndarray:
    rows = pd.read_parquet(folder / "results" / record.run_id / "predictions.parquet")
    return np.stack(list(rows["probabilities"]))


def card(folder: Path, classes: Any, name: str = "brightness") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({"name": name, "title": "Dark or bright?", "axis": "appearance", "classes": classes}))
    return str(path)


@pytest.mark.parametrize("recipe", ["attentive", "linear", "vjepa2", "vjepa2-paper"])
def test_the_probe_of_a_run_gives_the_score_of_its_record(bright_and_dark: Path, tmp_path: Path, recipe: str) -> None:
    settings = {**SHORT, "probe.refit": False}
    if recipe == "vjepa2-paper":  # holds nothing out, and so trains nothing again
        del settings["probe.refit"]
    if recipe.startswith("vjepa2"):
        del settings["probe.min_steps"]
        settings["probe.epochs"] = 2
    trained = evaluate(bright_and_dark, tmp_path, probe=recipe, settings=settings)
    probe = tmp_path / "results" / trained.run_id / "probe.safetensors"
    assert json.loads(load_probe(probe).metadata["recipe"])["name"] == recipe
    (bright_and_dark / "train.csv").unlink()
    again = evaluate(bright_and_dark, tmp_path, probe_weights=probe)
    assert again.scores == trained.scores
    np.testing.assert_array_equal(probabilities(tmp_path, again), probabilities(tmp_path, trained))
    assert again.protocol != trained.protocol and again.digests["test_list"] == trained.digests["test_list"]


def test_the_record_says_what_was_scored(bright_and_dark: Path, tmp_path: Path) -> None:
    record = evaluate(
        bright_and_dark, tmp_path, task=card(tmp_path, 7), model=str(V1), probe_weights=V2, settings=TWO_HEADS
    )
    assert (record.num_train, record.num_classes, record.heads) == (0, 7, [])
    assert record.cost.encoder_clips == 12 and record.cost.probe_s == 0
    assert record.digests["probe"] == load_probe(V2, num_heads=2).digest
    assert not any(key.startswith("train") for key in record.digests)
    said = record.resolved["probe_weights"]
    assert (said["path"], said["head"], said["heads_in_file"]) == (str(V2), 0, 2)
    assert record.resolved["recipe"] is None
    assert any("given, not trained" in note for note in record.notes)
    assert record.probe == f"weights#{record.digests['probe'][:6]}" and record.protocol.startswith(record.probe)
    assert not (tmp_path / "results" / record.run_id / "probe.safetensors").exists()


def test_the_score_is_that_of_the_official_probe_on_the_tokens(bright_and_dark: Path, tmp_path: Path) -> None:
    record = evaluate(
        bright_and_dark, tmp_path, task=card(tmp_path, 7), model=str(V1), probe_weights=V2, settings=TWO_HEADS
    )
    paths = [str(bright_and_dark / "clips" / f"val_{i}.mp4") for i in range(12)]
    ids = content_ids(tmp_path / "cache", paths)
    tokens = open_features(tmp_path / "cache", record.digests["test_features"], [[f"{ids[path]}/0"] for path in paths])
    expected = predict(load_probe(V2, num_heads=2), tokens)
    np.testing.assert_allclose(probabilities(tmp_path, record), expected, atol=1e-6)
    assert record.scores[0].correct == int((expected.argmax(1) == np.arange(12) % 2).sum())


def test_classes_in_another_order_are_mapped_by_name(bright_and_dark: Path, tmp_path: Path) -> None:
    trained = evaluate(bright_and_dark, tmp_path, task=card(tmp_path, ["dark", "bright"]), settings=SHORT)
    probe = tmp_path / "results" / trained.run_id / "probe.safetensors"
    for split in ("train", "val"):
        rows = (bright_and_dark / f"{split}.csv").read_text().splitlines()
        turned = [f"{row[:-1]}{1 - int(row[-1])}" for row in rows]
        (bright_and_dark / f"{split}.csv").write_text("\n".join(turned))
    turned_card = card(tmp_path, ["Bright", "Dark"], "turned")
    again = evaluate(bright_and_dark, tmp_path, task=turned_card, probe_weights=probe)
    assert again.scores == trained.scores
    np.testing.assert_array_equal(probabilities(tmp_path, again), probabilities(tmp_path, trained)[:, ::-1])
    with pytest.raises(BenchError, match="does not know 'night' and 1 more"):
        evaluate(bright_and_dark, tmp_path, task=card(tmp_path, ["night", "day"], "day"), probe_weights=probe)


def test_a_probe_on_another_encoders_tokens_is_marked(bright_and_dark: Path, tmp_path: Path) -> None:
    trained = evaluate(bright_and_dark, tmp_path, settings=SHORT, model="vjepa-nano")
    probe = tmp_path / "results" / trained.run_id / "probe.safetensors"
    same = evaluate(bright_and_dark, tmp_path, probe_weights=probe, model="vjepa-nano")
    other = evaluate(bright_and_dark, tmp_path, probe_weights=probe, model="slow-nano")
    assert not any("another encoder" in note for note in same.notes)
    assert any("another encoder" in note for note in other.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probe_weights": V2}, "tells 7 classes apart, and task custom has 2"),
        (
            {"probe_weights": V2, "model": "vjepa-nano", "settings": {}},
            "reads tokens of 48 channels, and the encoder gives",
        ),
        ({"probe_weights": V2, "probe": "linear"}, "--probe linear means nothing with --probe-weights"),
        ({"probe_weights": V2, "settings": {"probe.lr": 1}}, "--set probe.lr means nothing"),
        ({"probe_weights": V2, "train": Path("train.csv")}, "--train means nothing"),
        ({"probe_classes": V2}, "--probe-classes is for --probe-weights"),
        ({"probe_weights": GOLDEN / "absent.pt"}, "no such probe file"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_encoded(
    bright_and_dark: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BenchError, match=words):
        evaluate(bright_and_dark, tmp_path, **({"model": str(V1), "settings": TWO_HEADS} | options))
    assert not (tmp_path / "cache" / "features").exists()


def test_the_command_line_refuses_in_one_line(bench_command: Run, bright_and_dark: Path, tmp_path: Path) -> None:
    named = card(tmp_path, [f"class {i}" for i in range(7)])
    arguments = [
        "run",
        "--task",
        named,
        "--data",
        bright_and_dark,
        "--model",
        V1,
        "--set",
        "encoder.num_heads=2",
        "--probe-weights",
        V2,
    ]
    assert_refused(bench_command(*arguments), "vjepa2_probe.pt", "no names", "--probe-classes FILE")
