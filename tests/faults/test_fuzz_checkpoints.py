"""Damaged checkpoints and probes: one line that names the file, or weights; their digest says whether others."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from fuzzing import Edit, edited, edits, fuzz
from support import GOLDEN

from bench.encoders import load_encoder
from bench.probing import load_probe

ENCODERS = ["vjepa1.pth.tar", "vjepa2_1.pt", "hf-vjepa2"]
PROBES = ["vjepa1_probe.pth.tar", "vjepa2_probe.pt", "hf-vjepa2-classifier"]


def variants(name: str, folder: Path) -> tuple[Path, Path]:
    """A copy of a checkpoint, and the file in it that is to be damaged."""
    source = GOLDEN / name
    copy = folder / name
    if source.is_dir():
        shutil.copytree(source, copy)
        return copy, next(copy.glob("*.safetensors"))
    shutil.copy(source, copy)
    return copy, copy


@pytest.mark.parametrize("place", ["anywhere", "header"])
@pytest.mark.parametrize("name", [*ENCODERS, *PROBES])
def test_a_damaged_checkpoint_is_named_or_is_another_one(tmp_path: Path, long: bool, name: str, place: str) -> None:
    numbers = itertools.count()

    def check(changes: list[Edit]) -> None:
        folder = tmp_path / str(next(numbers))  # another file each time: an earlier one may still be mapped
        folder.mkdir()
        copy, file = variants(name, folder)
        content = file.read_bytes()
        head = 3000 if place == "header" else len(content)
        file.write_bytes(edited(content[:head], changes) + content[head:])
        read = load_probe(copy, num_heads=2).heads[0] if name in PROBES else load_encoder(str(copy), num_heads=2).module
        assert all(weight.is_floating_point() for weight in read.parameters())
        shutil.rmtree(folder)

    fuzz(edits, check, examples=250 if long else 5)
