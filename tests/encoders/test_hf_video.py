"""Video encoders of transformers, tiny and untrained, from folders as save_pretrained writes them."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import GOLDEN
from torch import nn

from bench import BenchError
from bench.encoders import describe_encoder, hf_files, known_clips, load_encoder
from bench.encoders.hf_files import fill_biases
from bench.encoders.hf_video import time_slowest


def test_without_the_extra_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchError, match=r"not installed - pip install 'vjepa-bench\[hf\]'"):
        describe_encoder("hf:MCG-NJU/videomae-base")


def test_tokens_of_one_place_are_put_frame_after_frame() -> None:
    places = torch.tensor([[[place, frame] for place in range(4) for frame in range(3)]])
    assert time_slowest(places, 3).tolist() == [[[place, frame] for frame in range(3) for place in range(4)]]


SIZES: dict[str, dict[str, Any]] = {
    "videomae": {"image_size": 32, "patch_size": 8, "num_frames": 4, "tubelet_size": 2, "use_mean_pooling": False},
    "vivit": {"image_size": 32, "tubelet_size": [2, 8, 8], "num_frames": 4},
    "timesformer": {"image_size": 32, "patch_size": 8, "num_frames": 4},
    "vjepa2": {"crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2, "pred_hidden_size": 24},
}
NAMES = {"videomae": "VideoMAE", "vivit": "Vivit", "timesformer": "Timesformer", "vjepa2": "VJEPA2"}


def write_model(folder: Path, family: str, depth: int = 2, kind: str = "Model", **options: Any) -> Any:
    """A tiny untrained model of a family in a folder, with its processor's configuration; returns the model."""
    transformers = pytest.importorskip("transformers")
    common = {"hidden_size": 24, "num_hidden_layers": depth, "num_attention_heads": 2, "intermediate_size": 48}
    if family == "vjepa2":
        common = {"hidden_size": 24, "num_hidden_layers": depth, "num_attention_heads": 2, "mlp_ratio": 2.0}
        common |= {"pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    config = getattr(transformers, f"{NAMES[family]}Config")(**(common | SIZES[family] | options))
    torch.manual_seed(0)
    model = getattr(transformers, f"{NAMES[family]}{kind}")(config).eval()
    for parameter in model.parameters():  # biases and positions start at zero, which would hide errors
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    processor = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.4, 0.5, 0.6]}
    processor |= {"offset": False, "rescale_factor": 1 / 255}
    name = "video_preprocessor_config.json" if family == "vjepa2" else "preprocessor_config.json"
    (folder / name).write_text(json.dumps(processor))
    return model


def their_tokens(model: Any, clips: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        hidden: torch.Tensor = model(clips.transpose(1, 2)).last_hidden_state
    return hidden


@pytest.mark.parametrize("family", SIZES)
def test_the_contract(tmp_path: Path, family: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "mine", family)
    capfd.readouterr()
    encoder = load_encoder(f"hf:{tmp_path / 'mine'}")
    assert capfd.readouterr() == ("", "")
    clips = known_clips(encoder.input_spec)
    tokens = encoder(clips)
    t, h, w = encoder.grid(4, 32, 32)
    assert (t, h, w) == (4 if family == "timesformer" else 2, 4, 4)
    assert tokens.shape == (2, t * h * w, 24) and encoder.name == "hf:mine"
    assert encoder.input_spec.mean == (0.4, 0.5, 0.6) and encoder.input_spec.interpolation == "bilinear"
    assert describe_encoder(f"hf:{tmp_path / 'mine'}") == encoder.facts
    assert encoder.digest == load_encoder(f"hf:{tmp_path / 'mine'}").digest
    # The values are transformers' own, class tokens aside, in whatever order.
    theirs = their_tokens(model, clips)[:, encoder.module.family.class_tokens :]  # type: ignore[union-attr, operator]
    assert torch.allclose(tokens.sort(dim=1).values, theirs.sort(dim=1).values, atol=1e-5)


@pytest.mark.parametrize("family", SIZES)
def test_tokens_are_in_raster_order_of_time_rows_and_columns(tmp_path: Path, family: str) -> None:
    """Without layers, a token sees its own patch only."""
    write_model(tmp_path, family, depth=0)
    encoder = load_encoder(f"hf:{tmp_path}")
    clips = known_clips(encoder.input_spec)[:1]
    t, h, w = encoder.grid(4, 32, 32)
    place = (1, 2, 3)
    changed = clips.clone()
    changed[:, :, place[0] * (4 // t), 8 * place[1] + 1, 8 * place[2] + 1] += 10
    moved = (encoder(changed) - encoder(clips)).abs().amax(2)[0].nonzero().flatten().tolist()
    assert moved == [(place[0] * h + place[1]) * w + place[2]]


@pytest.mark.parametrize(("family", "kind"), [("videomae", "ForPreTraining"), ("vivit", "ForVideoClassification")])
def test_files_of_larger_models_give_their_encoder(tmp_path: Path, family: str, kind: str) -> None:
    extra = {"decoder_hidden_size": 24, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
    write_model(tmp_path, family, kind=kind, **(extra if family == "videomae" else {}))
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder(known_clips(encoder.input_spec)).shape == (2, 32, 24)


@pytest.mark.parametrize("family", SIZES)
def test_layers_are_the_hidden_states_of_transformers(tmp_path: Path, family: str) -> None:
    model = write_model(tmp_path, family, depth=3)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.facts.layer_indices == (0, 1, 2)
    clips = known_clips(encoder.input_spec)
    last, first = encoder.layers(clips, [2, 0])
    assert torch.equal(last, encoder(clips)) and first.shape == last.shape
    with torch.no_grad():
        hidden = model(clips.transpose(1, 2), output_hidden_states=True).hidden_states[1]
        theirs = model.get_submodule(encoder.module.family.encoder).layernorm(hidden)  # type: ignore[union-attr]
    theirs = theirs[:, encoder.module.family.class_tokens :]  # type: ignore[union-attr, operator]
    assert torch.allclose(first.sort(dim=1).values, theirs.sort(dim=1).values, atol=1e-5)
    with pytest.raises(BenchError, match="has no layer 3 - its layers are 0, 1, 2"):
        encoder.layers(clips, [3])


BIASES = {"published": ("q_bias", "v_bias"), "of 5.5": ("query.bias", "key.bias", "value.bias")}
ATTENTION = "encoder.layer.{}.attention.attention."


def write_biases(folder: Path, layout: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """A VideoMAE folder whose files name the biases of attention in this layout; returns its tensors."""
    save_file = pytest.importorskip("safetensors.torch").save_file
    load_file = pytest.importorskip("safetensors.torch").load_file
    write_model(folder, "videomae", use_mean_pooling=True)
    tensors = load_file(folder / "model.safetensors")
    plain = {
        name: tensor for name, tensor in tensors.items() if "bias" not in name or "attention.attention" not in name
    }
    generator = torch.Generator().manual_seed(1)
    for layer in range(2):
        drawn = {part: torch.randn(24, generator=generator) for part in ("q", "k", "v")}
        plain |= {ATTENTION.format(layer) + name: drawn[name[0]] for name in BIASES[layout]}
    plain = {prefix + name: tensor for name, tensor in plain.items()}
    save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
    return plain


@pytest.mark.parametrize("prefix", ["", "videomae."])
@pytest.mark.parametrize("layout", BIASES)
def test_biases_of_videomae_are_read_in_every_layout(tmp_path: Path, layout: str, prefix: str) -> None:
    tensors = write_biases(tmp_path / "mine", layout, prefix)
    encoder = load_encoder(f"hf:{tmp_path / 'mine'}")
    have = encoder.module.state_dict()
    for layer in range(2):
        for theirs, names in {"q": ("q_bias", "query.bias"), "v": ("v_bias", "value.bias")}.items():
            place = f"model.{ATTENTION.format(layer)}"
            mine = next(have[place + name] for name in names if place + name in have)
            stored = next(
                tensors[prefix + ATTENTION.format(layer) + name] for name in BIASES[layout] if name.startswith(theirs)
            )
            assert torch.equal(mine, stored)
    other = "of 5.5" if layout == "published" else "published"
    write_biases(tmp_path / "other", other)
    clips = known_clips(encoder.input_spec)
    torch.testing.assert_close(encoder(clips), load_encoder(f"hf:{tmp_path / 'other'}")(clips))


class OfVersion55(nn.Module):
    """Attention as transformers 5.5 to 5.21 has it."""

    def __init__(self) -> None:
        super().__init__()
        attention = nn.Module()
        attention.query, attention.key, attention.value = (nn.Linear(24, 24) for _ in range(3))
        layers = [nn.ModuleDict({"attention": nn.ModuleDict({"attention": attention})}) for _ in range(1)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})


def test_a_model_of_another_version_gets_the_published_biases(tmp_path: Path) -> None:
    tensors = write_biases(tmp_path, "published", "videomae.")
    model, place = OfVersion55(), ATTENTION.format(0)
    missing = [f"{place}{part}.bias" for part in ("query", "key", "value")]
    left = fill_biases(model, [*missing, "encoder.norm.bias"], lambda name: next(tmp_path.glob(name), None))
    assert left == ["encoder.norm.bias"]
    found = model.state_dict()
    assert torch.equal(found[f"{place}query.bias"], tensors[f"videomae.{place}q_bias"])
    assert torch.equal(found[f"{place}value.bias"], tensors[f"videomae.{place}v_bias"])
    assert not found[f"{place}key.bias"].any()
    assert fill_biases(model, missing, lambda name: None) == [missing[0], missing[2]]


def test_layers_of_a_model_that_norms_after_pooling_are_not_normed(tmp_path: Path) -> None:
    write_model(tmp_path, "videomae", use_mean_pooling=True)
    encoder = load_encoder(f"hf:{tmp_path}")
    clips = known_clips(encoder.input_spec)
    assert torch.equal(encoder.layers(clips, [1])[0], encoder(clips))
    assert encoder(clips).mean(-1).abs().max() > 0.01


def test_vjepa2_gives_the_golden_answer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for file in (GOLDEN / "hf-vjepa2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"crop_size": 64}))
    encoder = load_encoder(f"hf:{tmp_path}")
    with np.load(GOLDEN / "hf_vjepa2.npz") as answers:
        clips = torch.from_numpy(answers["pixel_values_videos_i8"] / 32.0).float().transpose(1, 2)
        expected = torch.from_numpy(answers["tokens"])
    assert (encoder(clips) - expected).abs().max() < 1e-4


def test_vjepa2_takes_any_even_number_of_frames_and_the_others_their_own(tmp_path: Path) -> None:
    for family in ("vjepa2", "videomae"):
        write_model(tmp_path / family, family)
    longer = torch.zeros(1, 3, 8, 32, 32)
    assert load_encoder(f"hf:{tmp_path / 'vjepa2'}")(longer).shape == (1, 4 * 16, 24)
    with pytest.raises(BenchError, match="takes clips of 4 frames, not 8"):
        load_encoder(f"hf:{tmp_path / 'videomae'}")(longer)
    with pytest.raises(BenchError, match="takes 32x32 pixels"):
        load_encoder(f"hf:{tmp_path / 'vjepa2'}")(torch.zeros(1, 3, 4, 64, 64))


def test_a_still_image_stands_still(tmp_path: Path) -> None:
    write_model(tmp_path, "videomae")
    encoder = load_encoder(f"hf:{tmp_path}")
    image = known_clips(encoder.input_spec)[:, :, :1]
    with torch.no_grad():
        assert torch.equal(encoder.module(image), encoder.module(image.expand(-1, -1, 4, -1, -1)))


def spoil(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if how == "no processor":
        (folder / "preprocessor_config.json").unlink()
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "another family":
        (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    elif how == "unknown family":
        (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "evil.C"}}))
    elif how == "deeper config":
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    elif how == "wider config":
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    elif how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "cut off":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no processor", "no preprocessor_config.json"),
        ("no config", "no config.json"),
        ("another family", "'vit' is no video encoder"),
        ("unknown family", "mine"),
        ("deeper config", "tensors of the encoder are missing or misshapen"),
        ("wider config", "tensors of the encoder are missing or misshapen"),
        ("pickle", "safetensors"),
        ("cut off", ""),
    ],
)
def test_spoiled_folders_are_refused_in_a_line(tmp_path: Path, how: str, words: str) -> None:
    write_model(tmp_path / "mine", "videomae")
    spoil(tmp_path / "mine", how)
    with pytest.raises(BenchError) as refusal:
        load_encoder(f"hf:{tmp_path / 'mine'}")
    assert words in str(refusal.value) and "mine" in str(refusal.value)


def test_without_a_network_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    asked = []

    def unknown(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(hf_files, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BenchError, match=r"hf:OWNER/NAME: .* without one, run `hf download OWNER/NAME"):
        load_encoder("hf:OWNER/NAME")
    assert len(asked) == 1 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("argument", ["no/such/folder", "", "videomae-base"])
def test_what_is_neither_a_folder_nor_a_repository_is_refused(argument: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(BenchError, match="neither a folder nor the name of a repository"):
        load_encoder(f"hf:{argument}")
