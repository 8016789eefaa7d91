"""The catalog: where the weights of a named encoder are, and what its card says of their training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import save_file

from bench import BenchError
from bench.encoders import catalog, describe_encoder, known_answer, load_encoder, vjepa
from bench.encoders.catalog import ModelCard, model_cards

FACTS = {
    "title": "A test",
    "family": "V-JEPA",
    "num_frames": 8,
    "resolution": 16,
    "parameters_m": 0.16,
    "pretrained_on": "digits",
    "licence": "Apache-2.0",
}
TRAINING = {
    "command": "bench pretrain --preset nano --out runs/nano",
    "preset": "nano",
    "objective": "features",
    "seed": 0,
    "samples": 6400,
    "steps": 100,
    "wall_time_s": 12.5,
    "machine": "2 cores",
    "loss_curve": [[0, 1.0], [6400, 0.5]],
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package in place of the real one: folders `cards` and `weights`; the cache is empty too."""
    for name in ("cards", "weights"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(catalog, f"_{'PACKAGED' if name == 'weights' else 'CARDS'}", tmp_path / name)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def add_card(package: Path, name: str, **more: Any) -> ModelCard:
    text = yaml.safe_dump({"name": name, **FACTS, **more})
    (package / "cards" / f"{name}.yaml").write_text(text)
    return model_cards(name)[0]


def write_weights(path: Path, seed: int = 1) -> vjepa.VisionTransformer:
    """An untrained vit_nano as it ships: fp16 tensors with flat names, the rest as JSON in the metadata."""
    config = vjepa.SIZES["vit_nano"]
    model = vjepa.VisionTransformer(config)
    vjepa.init_untrained(model, seed=seed, std=0.1, patch_gain=3.0)
    stated = {"version": 1, "encoder": asdict(config), "objective": "features", "preset": "nano"}
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"bench": json.dumps({**stated, "input": {"frame_step": 1}})})
    return model


def test_weights_in_the_package_are_loaded_to_full_precision(package: Path) -> None:
    written = write_weights(package / "weights" / "nano.safetensors")
    card = add_card(package, "nano", file="nano.safetensors")
    assert card.is_built_in and card.weights_path == package / "weights" / "nano.safetensors"
    encoder = load_encoder("nano")
    assert encoder.name == "nano" and encoder.input_spec.frame_step == 1
    assert describe_encoder("nano") == encoder.facts
    for name, tensor in encoder.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, written.state_dict()[name].half().float())


def test_weights_in_the_package_are_held_to_the_known_answer(package: Path) -> None:
    file = package / "weights" / "nano.safetensors"
    write_weights(file)
    add_card(package, "nano", file=file.name)
    answer = [round(value, 5) for value in known_answer(load_encoder("nano"))]
    add_card(package, "nano", file=file.name, known_answer=answer)
    load_encoder("nano")
    write_weights(file, seed=2)
    with pytest.raises(BenchError, match="known clips"):
        load_encoder("nano")


def test_weights_that_are_missing_are_an_error_when_they_are_used(package: Path) -> None:
    card = add_card(package, "nano", file="nano.safetensors")
    assert not card.is_built_in
    for use in (load_encoder, describe_encoder):
        with pytest.raises(BenchError, match=r"weights/nano\.safetensors: the weights of nano are not here - install"):
            use("nano")


def test_weights_from_elsewhere_are_looked_for_in_the_package_and_then_in_the_cache(package: Path) -> None:
    card = add_card(package, "far", file="far.safetensors", url="https://example.org/far.safetensors")
    assert card.weights_path == package / "cache" / "weights" / "far.safetensors" and not card.is_built_in
    with pytest.raises(BenchError, match=r"run `bench fetch far`, or put https://example\.org/far\.safetensors there"):
        load_encoder("far")
    write_weights(package / "cache" / "weights" / "far.safetensors")
    assert load_encoder("far").name == "far" and not card.is_built_in
    write_weights(package / "weights" / "far.safetensors")
    assert card.weights_path == package / "weights" / "far.safetensors" and card.is_built_in


def test_a_card_tells_how_its_weights_were_trained(package: Path) -> None:
    card = add_card(package, "nano", file="nano.safetensors", training=TRAINING)
    assert card.training and card.training.loss_curve == ((0, 1.0), (6400, 0.5))
    assert json.loads(card.model_dump_json())["training"] == TRAINING


@pytest.mark.parametrize("missing", TRAINING)
def test_a_training_is_told_whole_or_not_at_all(missing: str) -> None:
    part = {name: value for name, value in TRAINING.items() if name != missing}
    with pytest.raises(ValidationError, match=missing):
        ModelCard.model_validate({"name": "nano", **FACTS, "training": part})


def test_the_packaged_weights_are_small_and_have_a_card() -> None:
    for path in catalog._PACKAGED.glob("*"):
        assert path.stat().st_size <= 3 * 2**20
        assert path.name in {card.file for card in model_cards()}


def test_the_list_says_where_weights_are(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.cli.app import models

    write_weights(package / "weights" / "nano.safetensors")
    add_card(package, "nano", file="nano.safetensors")
    add_card(package, "lost", file="lost.safetensors")
    add_card(package, "far", file="far.safetensors", url="https://a.org/far")
    add_card(package, "free")
    models()
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert "built in" in rows["nano"] and "built in" in rows["free"]
    assert "missing" in rows["lost"] and "to fetch" in rows["far"]
