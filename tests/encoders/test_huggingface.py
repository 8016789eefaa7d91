"""Hugging Face folders are read without transformers, strictly, and give what transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import GOLDEN

from bench import BenchError
from bench.encoders import describe_encoder, huggingface, load_encoder, vjepa

BASE = GOLDEN / "hf-vjepa2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden base model."""
    return Path(shutil.copytree(BASE, tmp_path / "vjepa2-tiny"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")


def state(folder: Path, **fields: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **fields}))


def split(folder: Path) -> dict[str, str]:
    """The model in two shards, queries apart from keys; returns the index's map."""
    tensors = load_file(folder / "model.safetensors")
    shards = {name: f"model-0000{1 + ('query' in name)}-of-00002.safetensors" for name in tensors}
    for shard in set(shards.values()):
        part = {name: tensor.clone() for name, tensor in tensors.items() if shards[name] == shard}
        save_file(part, folder / shard)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return shards


def test_facts_and_weights_are_those_of_the_folder(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    assert encoder.name == "vjepa2-tiny" and encoder.report["notes"] == []
    assert (encoder.input_spec.num_frames, encoder.input_spec.resolution) == (8, 64)
    assert encoder.embed_dim == 48 and encoder.num_heads == 2
    assert describe_encoder(str(folder)) == encoder.facts
    assert describe_encoder(f"{folder}/") == encoder.facts


def test_shards_and_classifiers_hold_the_same_encoder(folder: Path) -> None:
    whole = load_encoder(str(folder))
    split(folder)
    assert load_encoder(str(folder)).digest == whole.digest
    assert load_encoder(str(GOLDEN / "hf-vjepa2-classifier")).digest == whole.digest


def test_the_official_file_of_the_same_weights_is_the_same_encoder(folder: Path, tmp_path: Path) -> None:
    """Name for name, q, k and v joined: the digests agree where the input does."""
    state(folder, frames_per_clip=64, crop_size=256)
    encoder = load_encoder(str(folder))
    torch.save({"target_encoder": encoder.module.state_dict()}, tmp_path / "official.pt")
    official = load_encoder(str(tmp_path / "official.pt"), family="vjepa2", num_heads=encoder.facts.num_heads)
    assert official.digest == encoder.digest


def test_half_precision_is_read_as_float32(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    assert {p.dtype for p in load_encoder(str(folder)).module.parameters()} == {torch.float32}


def _without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def _with(name: str, *shape: int) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


LAYER = "encoder.layer.1"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without(f"{LAYER}.attention.key.bias"), "no 'key' beside 'encoder.layer.1.attention.query.bias'"),
        (_without(f"{LAYER}.mlp.fc1.bias"), "'blocks.1.mlp.fc1.bias' is missing"),
        (_with(f"{LAYER}.attention.query.bias", 40), "'blocks.1.attn.qkv.bias' has shape [136] instead of [144]"),
        (_with(f"{LAYER}.attention.query.bias"), "'blocks.1.attn.qkv.bias' has shape [] instead of [144]"),
        (_with(f"{LAYER}.attention.query.weight", 48, 40), "qkv.weight' has shape [48, 40] instead of [144, 48]"),
        (_with("encoder.layer.1.extra", 2), "'encoder.layer.1.extra' is unexpected"),
        (_with("encoder.layer.2.norm1.bias", 48), "num_hidden_layers is 2 but the tensors have 3"),
        (_with("predictor.layer.2.norm1.bias", 48), "pred_num_hidden_layers is 2 but the tensors have 3"),
        (_with("predictor.embeddings.mask_tokens", 10, 1, 1, 48), "pred_num_mask_tokens is 2 but the tensors have 10"),
        (lambda tensors: tensors.clear(), "'patch_embed.proj.weight' is missing"),
    ],
)
@pytest.mark.parametrize("use", [load_encoder, describe_encoder])
def test_weights_that_do_not_fit_are_named(
    folder: Path, use: Callable[[str], object], damage: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    rewrite(folder, damage)
    with pytest.raises(BenchError) as refusal:
        use(str(folder))
    assert words in str(refusal.value) and "vjepa2-tiny" in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "videomae"}, "a model of type 'videomae', not vjepa2"),
        ({"hidden_size": "wide"}, "hidden_size: Input should be a valid integer"),
        ({"hidden_size": 64}, "hidden_size is 64 but the tensors have 48"),
        ({"num_hidden_layers": 24}, "num_hidden_layers is 24 but the tensors have 2"),
        ({"mlp_ratio": 3}, "hidden_size x mlp_ratio is 144 but the tensors have 192"),
        ({"num_attention_heads": 5}, "48 does not divide by num_attention_heads 5"),
        ({"num_attention_heads": 16}, "no room for rotary positions"),
        ({"pred_num_hidden_layers": 12}, "pred_num_hidden_layers is 12 but the tensors have 2"),
        ({"hidden_act": "silu"}, "hidden_act is silu, not gelu"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05, not 1e-06"),
    ],
)
@pytest.mark.parametrize("use", [load_encoder, describe_encoder])
def test_a_config_of_another_model_is_refused(
    folder: Path, use: Callable[[str], object], fields: dict[str, Any], words: str
) -> None:
    state(folder, **fields)
    with pytest.raises(BenchError) as refusal:
        use(str(folder))
    assert words in str(refusal.value) and "config.json" in str(refusal.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json in the folder"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds a list, not an object"),
        (lambda f: (f / "config.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors in the folder"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "not a readable file of weights"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    with pytest.raises(BenchError, match=words):
        load_encoder(str(folder))


def test_an_index_is_held_against_its_files(folder: Path) -> None:
    shards = split(folder)
    index = folder / "model.safetensors.index.json"
    for wrong, words in (
        ({**shards, "encoder.lost": "model-00001-of-00002.safetensors"}, "do not hold encoder.lost"),
        ({**shards, "encoder.layernorm.bias": "../other.safetensors"}, "a file outside its folder"),
        ({**shards, "encoder.layernorm.bias": "model-00003-of-00002.safetensors"}, "part of the weights is missing"),
        ([], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(BenchError, match=words):
            load_encoder(str(folder))


def test_the_file_alone_is_not_enough(folder: Path) -> None:
    with pytest.raises(BenchError, match=r"Hugging Face names - give the folder"):
        load_encoder(str(folder / "model.safetensors"))


def test_joined_pieces_come_in_the_order_asked_for(folder: Path) -> None:
    """The function that probes of classifiers are converted with as well."""
    opened = huggingface.open_folder(folder)
    renames = [huggingface.Rename(r"encoder\.layer\.0\.attention\.(?P<part>key|value)\.bias", "kv", ("key", "value"))]
    names = huggingface.official_names(opened.files, renames, "here")
    stored = load_file(folder / "model.safetensors")
    expected = torch.cat([stored[f"encoder.layer.0.attention.{part}.bias"] for part in ("key", "value")])
    assert torch.equal(opened.read(names["kv"]), expected)


def test_transformers_gives_the_same_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        mlp_ratio=48 / 11,
        crop_size=64,
        frames_per_clip=8,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=2,
    )
    torch.manual_seed(0)
    model = transformers.VJEPA2Model(config).eval()
    vjepa_like = [p for name, p in model.named_parameters() if "norm" not in name]
    for parameter in vjepa_like:
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"))
    assert encoder.facts.architecture["mlp_dim"] == int(48 * 48 / 11)
    assert isinstance(encoder.module, vjepa.VisionTransformer)
    for frames in (8, 4):
        clips = torch.randn(2, 3, frames, 64, 64)
        with torch.inference_mode():
            theirs = model(clips.transpose(1, 2), skip_predictor=True).last_hidden_state
        assert (encoder(clips) - theirs).abs().max() < 1e-4
