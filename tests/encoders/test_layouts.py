"""Where in a file the encoder is: wrappers' prefixes and containers, in any nesting; and what is no weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support import GOLDEN

from bench import BenchError
from bench.encoders import describe_encoder, load_encoder
from bench.probing import load_probe

Tensors = dict[str, Any]
WHOLE: dict[str, Any] = torch.load(GOLDEN / "vjepa1.pth.tar", weights_only=True)
AVERAGE, ONLINE = (
    {name.removeprefix("module.backbone."): tensor for name, tensor in WHOLE[part].items()}
    for part in ("target_encoder", "encoder")
)
STATED: dict[str, Any] = {"num_heads": 2, "family": "vjepa1"}


def under(prefix: str, tensors: Tensors = AVERAGE) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def around(part: str, tensors: Tensors = AVERAGE) -> Tensors:
    """The part in the middle of the names, as wrapping single blocks puts it there."""
    return {name.replace("blocks.1.", f"blocks.1.{part}."): tensor for name, tensor in tensors.items()}


def both(average: Tensors, online: Tensors) -> dict[str, Any]:
    return {"encoder": online, "target_encoder": average}


FLAT = under("target_encoder.") | under("encoder.", ONLINE)
NESTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "module.backbone.": (both(under("module.backbone."), under("module.backbone.", ONLINE)), "target_encoder", ""),
    "compiled": (both(under("_orig_mod."), under("_orig_mod.", ONLINE)), "target_encoder", "_orig_mod."),
    "compiled, then parallel": (both(under("module._orig_mod.backbone."), ONLINE), "target_encoder", ""),
    "FSDP": (both(under("_fsdp_wrapped_module.module."), ONLINE), "target_encoder", "_fsdp_wrapped_module.module."),
    "FSDP of every block": (both(around("_fsdp_wrapped_module"), around("_fsdp_wrapped_module", ONLINE)), "", ""),
    "activation checkpointing": (both(around("_checkpoint_wrapped_module"), ONLINE), "target_encoder", ""),
    "compiled blocks": (both(around("_orig_mod"), ONLINE), "target_encoder", ""),
    "Lightning": ({"state_dict": FLAT, "epoch": 1, "global_step": 10}, "state_dict.target_encoder", "target_encoder."),
    "Lightning, compiled": ({"state_dict": {f"model._orig_mod.{n}": t for n, t in FLAT.items()}}, "", ""),
    "Lightning Fabric": ({"model": {f"_forward_module.{n}": t for n, t in FLAT.items()}}, "model.target_encoder", ""),
    "flat": (FLAT, "target_encoder", "target_encoder."),
    "flat, with a predictor": (FLAT | {"predictor.norm.weight": torch.ones(2)}, "target_encoder", "target_encoder."),
    "keys in keys": ({"state": {"model": both(AVERAGE, ONLINE)}}, "state.model.target_encoder", ""),
    "DeepSpeed": ({"module": AVERAGE}, "(bare state dict)", ""),
    "one encoder under another key": ({"model": AVERAGE}, "model", ""),
    "one encoder under another prefix": (under("net.trunk."), "net.trunk", "net.trunk."),
    "distilled": ({"ema_encoder": AVERAGE, "target_encoder": ONLINE, "encoder": ONLINE}, "ema_encoder", ""),
}


@pytest.mark.parametrize("name", NESTED)
def test_wrappers_are_taken_off_and_the_average_is_read(tmp_path: Path, name: str) -> None:
    content, key, prefix = NESTED[name]
    torch.save(content, tmp_path / "a.pt")
    encoder = load_encoder(str(tmp_path / "a.pt"), **STATED)
    for known, tensor in encoder.module.state_dict().items():
        assert torch.equal(tensor, AVERAGE[known])
    assert not key or encoder.facts.weights["key"] == key
    assert not prefix or encoder.facts.weights["prefix"] == prefix
    assert describe_encoder(str(tmp_path / "a.pt"), **STATED) == encoder.facts


def test_the_golden_tokens_through_wrappers(tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "vjepa1_encoder.npz")
    clips = torch.from_numpy(golden["clip_i8"].astype(np.float32) / 32)
    torch.save({"state_dict": under("_orig_mod.target_encoder.module.") | under("encoder.", ONLINE)}, tmp_path / "a.pt")
    for key, tokens in ((None, "tokens"), ("encoder", "tokens_online_encoder"), ("target_encoder", "tokens")):
        encoder = load_encoder(str(tmp_path / "a.pt"), **STATED, key=key)
        assert (encoder(clips) - torch.from_numpy(golden[tokens])).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": AVERAGE, "model_ema": ONLINE}, "holds 2 encoders ('model', 'model_ema')"),
        ({"encoder": AVERAGE, "teacher": ONLINE}, "holds 2 encoders ('encoder', 'teacher')"),
        ({"a": both(AVERAGE, ONLINE), "b": both(AVERAGE, ONLINE)}, "('a.target_encoder', 'b.target_encoder')"),
        ({"target_encoder": under("module.") | under("backbone.")}, "'module.pos_embed' and 'backbone.pos_embed'"),
        ({"target_encoder": around("frozen")}, "'blocks.1.frozen.attn.proj.bias' is unexpected"),
        ({"target_encoder": under("my_module_")}, "(the file's names: my_module_pos_embed, my_module_patch_embed"),
        ({"state_dict": {"head.weight": torch.ones(2)}}, "(the file's keys: state_dict)"),
        ({"encoder.embeddings.patch_embeddings.proj.weight": torch.ones(2)}, "the tensors have Hugging Face names"),
    ],
)
def test_what_cannot_be_told_is_shown_as_it_is_in_the_file(tmp_path: Path, content: Tensors, words: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BenchError) as refusal:
        load_encoder(str(tmp_path / "a.pt"), **STATED)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_one_of_several_encoders_is_named(tmp_path: Path) -> None:
    torch.save({"a": both(AVERAGE, ONLINE), "b": {"encoder": ONLINE}}, tmp_path / "a.pt")
    for key, expected in (("b.encoder", ONLINE), ("a.encoder", ONLINE), ("target_encoder", AVERAGE)):
        encoder = load_encoder(str(tmp_path / "a.pt"), **STATED, key=key)
        assert torch.equal(encoder.module.state_dict()["norm.weight"], expected["norm.weight"])
        assert encoder.facts.weights["key"].endswith(key)


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"target_encoder": AVERAGE}
    content["again"] = content
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BenchError, match="encoders"):
        load_encoder(str(tmp_path / "a.pt"), **STATED)


ONE = "blocks.0.mlp.fc1.weight"
BAD = {
    "int8": lambda t: t.to(torch.int8),
    "bool": lambda t: t > 0,
    "complex64": lambda t: t.to(torch.complex64),
    "sparse_coo": lambda t: t.to_sparse(),
    "sparse_csr": lambda t: t.to_sparse_csr(),
    "'meta'": lambda t: t.to("meta"),
    "qint8": lambda t: torch.quantize_per_tensor(t, 0.01, 0, torch.qint8),
    "a list": lambda t: [t],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_only_floating_point_tensors_are_weights(tmp_path: Path, kind: str, prefix: str) -> None:
    torch.save({"target_encoder": under(prefix, {**AVERAGE, ONE: BAD[kind](AVERAGE[ONE])})}, tmp_path / "a.pt")
    with pytest.raises(BenchError) as refusal:
        describe_encoder(str(tmp_path / "a.pt"), **STATED)
    assert f"'{prefix}{ONE}' is" in str(refusal.value) and kind in str(refusal.value)


@pytest.mark.parametrize("key", [7, 10**600, -(2**70), 1.5, None, True, (1, 2)], ids=lambda key: type(key).__name__)
@pytest.mark.parametrize("beside", [{}, {"target_encoder": AVERAGE}], ids=["alone", "beside"])
def test_keys_that_are_no_names(tmp_path: Path, key: object, beside: Tensors) -> None:
    inside = {"target_encoder": {**AVERAGE, key: torch.zeros(1)}}
    torch.save({key: 1, **(inside if beside else AVERAGE)}, tmp_path / "a.pt")
    with pytest.raises(BenchError, match="which is no name"):
        load_encoder(str(tmp_path / "a.pt"), **STATED)


def test_keys_that_are_no_names_elsewhere_do_no_harm(tmp_path: Path) -> None:
    torch.save({"target_encoder": AVERAGE, 10**600: {3: torch.zeros(1)}, "opt": {"state": {0: {}}}}, tmp_path / "a.pt")
    assert load_encoder(str(tmp_path / "a.pt"), **STATED).facts.weights["key"] == "target_encoder"
    torch.save({10**600: 1, "x": 2}, tmp_path / "b.pt")
    for read in (lambda path: load_encoder(str(path)), load_probe):
        with pytest.raises(BenchError, match="a int, x"):
            read(tmp_path / "b.pt")


def test_weights_that_are_no_floats_in_folders(tmp_path: Path) -> None:
    for name, tensor in (
        ("hf-vjepa2", "encoder.layer.0.mlp.fc1.weight"),
        ("hf-vjepa2-classifier", "classifier.weight"),
    ):
        folder = Path(shutil.copytree(GOLDEN / name, tmp_path / name))
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            tensors = {known: file.get_tensor(known) for known in file.keys()}  # noqa: SIM118 - no dict
        save_file({**tensors, tensor: (tensors[tensor] * 40).to(torch.int8)}, folder / "model.safetensors")
        with pytest.raises(BenchError, match=f"'{tensor}'.*not floating-point weights"):
            load_encoder(str(folder)) if name == "hf-vjepa2" else load_probe(folder)


def test_a_resolution_that_no_memory_holds_is_refused_before_it_is_built(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "hf-vjepa2", tmp_path / "v"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "crop_size": 10**9}))
    with pytest.raises(BenchError, match=r"crop_size: .* less than or equal to 10000"):
        describe_encoder(str(folder))
