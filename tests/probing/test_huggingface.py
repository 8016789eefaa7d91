"""Probes of Hugging Face folders: the golden answers, only the probe's tensors read, and folders that hold none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import GOLDEN

from bench.core.errors import BenchError
from bench.probing import load_probe

FOLDER = GOLDEN / "hf-vjepa2-classifier"


def copy(folder: Path, **config: Any) -> Path:
    """The golden folder with changes to its config.json; a value of None removes the field."""
    shutil.copytree(FOLDER, folder)
    content = {**json.loads((FOLDER / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def test_golden_logits() -> None:
    golden = np.load(GOLDEN / "hf_vjepa2.npz")
    probe = load_probe(FOLDER)
    logits = probe(torch.from_numpy(golden["tokens"]))
    assert np.abs(logits.numpy() - golden["logits"]).max() < 1e-5
    assert (probe.layout, probe.num_classes, probe.embed_dim) == ("Hugging Face", 7, 48)
    assert probe.class_names == tuple(f"class {i}" for i in range(7))


def test_heads_and_epsilon_are_the_configs(tmp_path: Path) -> None:
    probe = load_probe(copy(tmp_path / "a", num_attention_heads=4, layer_norm_eps=1e-2))
    assert (probe.heads[0].num_heads, probe.heads[0].norm_eps) == (4, 1e-2)
    assert load_probe(tmp_path / "a", num_heads=3).heads[0].num_heads == 3


def test_placeholders_are_no_class_names(tmp_path: Path) -> None:
    assert load_probe(copy(tmp_path / "a", id2label={str(i): f"LABEL_{i}" for i in range(7)})).class_names is None
    assert load_probe(copy(tmp_path / "b", id2label=None)).class_names is None


def test_parts_of_a_large_folder_are_joined(tmp_path: Path) -> None:
    folder = copy(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts: dict[str, dict[str, torch.Tensor]] = {"model-1.safetensors": {}, "model-2.safetensors": {}}
    for index, name in enumerate(sorted(tensors)):
        parts[f"model-{1 + index % 2}.safetensors"][name] = tensors[name]
    for file, part in parts.items():
        save_file(part, folder / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load_probe(folder).digest == load_probe(FOLDER).digest
    weight_map["classifier.weight"] = "../a/model-1.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BenchError, match="outside the folder"):
        load_probe(folder)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "videomae"}, "model_type"),
        ({"hidden_act": "swish"}, "hidden_act"),
        ({"hidden_size": 64}, "hidden_size 64, the classifier has 48"),
        ({"num_pooler_layers": 2}, r"'pooler.self_attention_layers.2.\S+' is unexpected"),
        ({"num_pooler_layers": 4}, r"'pooler.self_attention_layers.3.\S+' is missing"),
        ({"num_attention_heads": 5}, "cannot have 5 heads"),
        ({"id2label": {"0": "a", "1": "b"}}, "names 2 classes, the classifier has 7"),
        ({"id2label": {"0": "a", "2": "b"}}, "does not name the labels 0 to 1"),
    ],
)
def test_a_config_that_does_not_fit(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        load_probe(copy(tmp_path / "a", **config))


def test_misshapen_tensors_are_named_as_in_the_folder(tmp_path: Path) -> None:
    folder = copy(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    name = "pooler.cross_attention_layer.cross_attn.k_proj.weight"
    save_file({**tensors, name: torch.zeros(4, 48)}, folder / "model.safetensors")
    with pytest.raises(BenchError, match=rf"'{name}' has shape \[4, 48\] instead of \[48, 48\]"):
        load_probe(folder)


def test_folders_without_a_probe(tmp_path: Path) -> None:
    encoder = copy(tmp_path / "encoder")
    tensors = load_file(encoder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n.startswith("vjepa2.")}, encoder / "model.safetensors")
    with pytest.raises(BenchError, match="an encoder without a classifier"):
        load_probe(encoder)
    (encoder / "model.safetensors").write_bytes(b"12345678" * 4)
    with pytest.raises(BenchError, match="cut off or not safetensors"):
        load_probe(encoder)
    (encoder / "model.safetensors").unlink()
    with pytest.raises(BenchError, match=r"model\.safetensors: missing"):
        load_probe(encoder)
    (encoder / "config.json").write_text("{")
    with pytest.raises(BenchError, match="not readable as JSON"):
        load_probe(encoder)
    (encoder / "config.json").unlink()
    with pytest.raises(BenchError, match=r"a folder without config\.json"):
        load_probe(encoder)


def test_the_weights_alone_are_sent_to_their_folder() -> None:
    with pytest.raises(BenchError, match="give the folder itself"):
        load_probe(FOLDER / "model.safetensors")
