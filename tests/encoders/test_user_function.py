"""Encoders of the user's own: found by name, called, and held to the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import ROOT

from bench import BenchError
from bench.encoders import describe_encoder, known_clips, load_encoder

MODULE = """
from pathlib import Path
from examples_of_hers import helper
from bench.encoders import untrained

def build(file=None):
    encoder = untrained.pixel_encoder()
    encoder.report["file"] = str(file)
    return encoder

def fail():
    raise KeyError("norm.weight")

def wrong():
    return 7

not_a_function = 7
"""


@pytest.fixture
def her_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of hers, which is the current one."""
    package = tmp_path / "pack_of_hers"
    package.mkdir()
    (package / "models.py").write_text(MODULE)
    (tmp_path / "examples_of_hers.py").write_text("helper = 1\n")
    (tmp_path / "broken_of_hers.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.chdir(tmp_path)
    # Imports of one test are not to be seen by the next: each has a folder of its own.
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def forget_modules() -> None:
    import sys

    for name in [name for name in sys.modules if "_of_hers" in name or name == "my_encoder"]:
        del sys.modules[name]


def test_the_example_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    encoder = load_encoder("my_encoder:build")
    assert describe_encoder("my_encoder:build") == encoder.facts and encoder.name == "my-encoder"
    assert encoder(known_clips(encoder.input_spec)).shape == (2, 4 * 4 * 4, 64)
    assert len((ROOT / "examples" / "my_encoder.py").read_text().splitlines()) <= 30

    weights = {name: torch.zeros_like(tensor) for name, tensor in encoder.module.state_dict().items()}
    torch.save(weights, tmp_path / "zeros.pt")
    zeros = load_encoder(f"my_encoder:build@{tmp_path / 'zeros.pt'}")
    assert zeros.digest != encoder.digest and zeros(known_clips(zeros.input_spec)).abs().max() == 0


def test_a_function_of_a_package_in_the_current_folder(her_folder: Path) -> None:
    assert load_encoder("pack_of_hers.models:build").report["file"] == "None"
    assert load_encoder("pack_of_hers.models:build@some/file.pt").report["file"] == "some/file.pt"


def test_an_entry_point(her_folder: Path) -> None:
    information = her_folder / "hers-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hers\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[bench.encoders]\nher-encoder = pack_of_hers.models:build\n")
    assert load_encoder("her-encoder").embed_dim == 96
    assert load_encoder("her-encoder@weights.pt").report["file"] == "weights.pt"
    assert describe_encoder("her-encoder") == load_encoder("pack_of_hers.models:build").facts
    with pytest.raises(BenchError, match=r"unknown model 'her-encoder2' .* did you mean 'her-encoder'"):
        load_encoder("her-encoder2")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pack_of_hers.models:biuld", "no function 'biuld' - did you mean 'build'"),
        ("pack_of_hers.models:not_a_function", "no function 'not_a_function'"),
        ("pack_of_hers.model:build", "no module 'pack_of_hers.model'"),
        ("pack_of_his:build", "no module 'pack_of_his' here"),
        ("broken_of_hers:build", "No module named 'a_module_that_is_nowhere' - a fault in that module"),
        ("pack_of_hers.models:fail", "KeyError: 'norm.weight'"),
        ("pack_of_hers.models:wrong", "returns a int, not a bench.encoders.Encoder"),
        ("rndom:vit_tiny", "no module 'rndom'"),
    ],
)
def test_bad_functions_say_what_to_do(her_folder: Path, spec: str, words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        load_encoder(spec)
    assert words in str(refusal.value)
