"""Runs on tokens of 8 bits: nearly the same answers, and never taken for those of 16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ava_standin import ava_standin
from kitchens import kitchen
from pipeline.test_torchrun import arguments, assert_same, run
from standins import standin

import bench
from bench import BenchError
from bench.analysis.leaderboard import build
from bench.core.progress import Silent
from bench.features.extract import space_fields
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.pipeline.run import extract_features, prepare_encoder
from bench.records.schema import Record
from bench.tasks.options import make_options

pytestmark = pytest.mark.slow

SHORT = {
    "probe.epochs": 1,
    "probe.min_steps": 20,
    "probe.lr": [1e-2],
    "probe.weight_decay": 0.01,
    "probe.held_out": 0.5,
}


def options_of(data: Path, folder: Path, **more: Any) -> dict[str, Any]:
    given = {"task": "custom", "model": "vjepa-nano", "probe": "linear", "workers": 0, "device": "cpu"}
    given |= {"settings": SHORT}
    given |= {"data": data, "cache": folder / "cache", "results": folder / "results"}
    return given | more


def probabilities(folder: Path, record: Record) -> np.ndarray:
    rows = pd.read_parquet(folder / "results" / record.run_id / "predictions.parquet")
    return np.stack(list(rows["probabilities"]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("token bits")
    standin("custom", folder / "data")
    return folder


@pytest.fixture(scope="module")
def both(home: Path) -> dict[int, Record]:
    """The same run on tokens of 16 and of 8 bits, with a control."""
    return {
        bits: bench.evaluate(**options_of(home / "data", home, token_bits=bits, controls=("shuffled",)))
        for bits in (16, 8)
    }


def test_scores_and_probabilities_are_the_same_within_rounding(both: dict[int, Record], home: Path) -> None:
    assert both[8].scores[0].correct == both[16].scores[0].correct == 8
    apart = np.abs(probabilities(home, both[8]) - probabilities(home, both[16]))
    assert 0 < apart.max() < 0.01
    assert [control.score.correct for control in both[8].controls] == [8] * 3  # brightness needs no order


def test_the_records_tell_them_apart_and_a_board_gives_each_a_row(both: dict[int, Record]) -> None:
    assert both[8].input == f"{both[16].input}, 8-bit tokens"
    assert (both[8].arguments["token_bits"], both[16].arguments["token_bits"]) == (8, 16)
    assert both[8].digests["train_features"] != both[16].digests["train_features"]
    assert both[8].digests["encoder"] == both[16].digests["encoder"] and both[8].protocol == both[16].protocol
    board = build(list(both.values()))
    assert sorted(row.label for row in board.rows) == sorted(f"vjepa-nano ({record.input})" for record in both.values())


def test_they_take_half_the_disk_as_forecast(both: dict[int, Record], home: Path) -> None:
    shares = {}
    for bits, record in both.items():
        expected = forecast(make_plan(make_options(options_of(home / "data", home, token_bits=bits))))
        assert 2 * expected.feature_bytes == record.cost.feature_bytes  # the control's clips are as many again
        shares[bits] = expected.feature_bytes
    assert shares[8] / shares[16] == (64 + 4) / (2 * 64)  # of 64 channels, four bytes weigh


def test_the_spaces_of_16_bits_have_the_key_they_had(home: Path) -> None:
    plan = make_plan(make_options(options_of(home / "data", home)))
    encoder = prepare_encoder(plan)
    fields = space_fields(encoder, plan.test_clips, plan.spec)
    assert fields["dtype"] == "fp16" and fields == space_fields(encoder, plan.test_clips, plan.spec, 16)
    assert space_fields(encoder, plan.test_clips, plan.spec, 8) == {**fields, "dtype": "int8"}


def test_a_second_run_reads_them_and_a_damaged_shard_is_encoded_again(both: dict[int, Record], home: Path) -> None:
    given = options_of(home / "data", home, token_bits=8)
    first, second = both[8], bench.evaluate(**given)
    assert (second.cost.encoder_clips, second.cost.cached_clips) == (0, 16)
    shard = next((home / "cache" / "features" / first.digests["test_features"]).glob("*.npy"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    third = bench.evaluate(**given)
    assert 0 < third.cost.encoder_clips < 16
    for other in (second, third):
        assert np.array_equal(probabilities(home, other), probabilities(home, first))


def test_the_number_of_processes_changes_nothing(bright_and_dark: Path, tmp_path: Path) -> None:
    given = arguments(bright_and_dark, "--model", "random", "--probe", "linear", "--token-bits", "8")
    given += ["--set", "probe.epochs=1", "--set", "probe.min_steps=20"]
    records = {size: run(tmp_path / str(size), size, given) for size in (1, 2)}
    assert_same(tmp_path / "1", records[1], tmp_path / "2", records[2])
    assert all(record.input.endswith("8-bit tokens") for record in records[2].values())


def test_a_recipe_that_stores_no_training_tokens_is_refused(home: Path) -> None:
    with pytest.raises(BenchError, match=r"--token-bits 8: recipe vjepa1-paper stores no training tokens.*reads the"):
        make_plan(make_options(options_of(home / "data", home, token_bits=8, probe="vjepa1-paper", settings={})))


def test_other_sizes_are_refused() -> None:
    with pytest.raises(BenchError, match=r"--token-bits.*8 or 16"):
        make_options({"token_bits": 4})


def test_boxes_are_kept_in_8_bits(tmp_path: Path) -> None:
    ava_standin(tmp_path / "ava", train=4, test=2)
    settings = {"clip.resolution": 32, "clip.starts_s": 900, "probe.lr": [3e-3], "probe.min_steps": 20}
    given = {"task": "ava", "probe": "attentive", "settings": settings, "token_bits": 8}
    plan = make_plan(make_options(options_of(tmp_path / "ava", tmp_path, **given)))
    record = bench.evaluate(**options_of(tmp_path / "ava", tmp_path, **given))
    assert record.input.endswith("8-bit tokens")
    assert record.cost.feature_bytes == forecast(plan).feature_bytes
    assert fields_of(tmp_path, record.digests["train_features"])["dtype"] == "int8"


def test_clips_before_actions_are_kept_in_8_bits(tmp_path: Path) -> None:
    data = kitchen(tmp_path / "epic", train=3, test=2)
    given = {"task": "ek100", "probe": "attentive", "settings": {"clip.frames": 8}, "token_bits": 8}
    plan = make_plan(make_options(options_of(data, tmp_path, **given)))
    train, _ = extract_features(plan, prepare_encoder(plan), Silent())
    assert plan.input_name.endswith("8-bit tokens")
    assert fields_of(tmp_path, train.space)["dtype"] == "int8"


def fields_of(folder: Path, space: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "cache" / "features" / space / "space.json").read_text())
    return fields
