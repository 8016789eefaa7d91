"""Configurations of transformers' models are checked before anything is made of their sizes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import GOLDEN

from bench.core.errors import BenchError
from bench.encoders.hf_config import ratio, read_configuration, whole
from bench.encoders.huggingface import describe_folder


@pytest.mark.parametrize("number", ["1000000000", "1e300", "-10000000", "NaN", "Infinity", "1" + "0" * 400])
@pytest.mark.parametrize("form", ['{"a": %s}', '{"b": {"a": [1, %s]}}'])
def test_no_number_is_absurd(tmp_path: Path, number: str, form: str) -> None:
    (tmp_path / "config.json").write_text(form % number)
    with pytest.raises(BenchError, match=r"config\.json: .*a is no number up to 1,000,000"):
        read_configuration(tmp_path / "config.json")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "16", None, [16]])
def test_sizes_are_whole_numbers(value: Any) -> None:
    with pytest.raises(BenchError, match=r"hidden_size is .*, not a whole number from 1"):
        whole(value, "hidden_size", "model hf:m")


@pytest.mark.parametrize("value", [0, -1.0, True, "4", None, float("nan"), 1e9])
def test_ratios_are_numbers(value: Any) -> None:
    with pytest.raises(BenchError, match=r"mlp_ratio is .*, not a number above 0"):
        ratio(value, "mlp_ratio", "model hf:m")


@pytest.mark.parametrize(
    "name",
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "crop_size", "frames_per_clip", "mlp_ratio"],
)
@pytest.mark.parametrize("value", [10**9, 10**400, 0, -1, True, float("nan"), "many", None])
def test_a_folder_of_vjepa_2(tmp_path: Path, name: str, value: Any) -> None:
    shutil.copytree(GOLDEN / "hf-vjepa2", tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: value}))
    with pytest.raises(BenchError, match=name):
        describe_folder(tmp_path / "m")
