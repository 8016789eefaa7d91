"""Encoders of the user's own: found by name, called, and held to the contract."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT

import bench
from bench import BenchError
from bench.analysis.gate import check, renew
from bench.encoders import describe_encoder, known_clips, load_encoder
from bench.encoders.loading import Choice
from bench.probing.files import read_metadata
from bench.records.baseline import read_baseline
from bench.records.runs import load_runs
from bench.records.schema import Record

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


EDITED = """
import torch
from torch import nn
from helper_of_theirs import SIZE
from bench.encoders import Encoder, EncoderFacts, InputSpec

class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept, self.calls = 0.0, 0
        self.register_buffer("count", torch.zeros(()))
        self.norm = nn.LayerNorm(3 * SIZE, elementwise_affine=False)
        self.drop = nn.Dropout(0.3)

    def forward(self, clips):
        pieces = clips.mean(2).unflatten(2, (4, 4)).unflatten(4, (4, 4)).permute(0, 2, 4, 1, 3, 5)
        tokens = pieces.reshape(len(clips), 16, 48)
        return tokens

def build():
    seen = InputSpec(num_frames=4, resolution=16, frame_step=1)
    facts = EncoderFacts(name="hers", embed_dim=48, num_heads=1, patch_size=4, tubelet_size=4, input_spec=seen,
                         architecture={})
    return Encoder(facts, Patches())
"""
Score = Callable[..., Record]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write her module with this last line of its forward, as a process finds it that starts afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(line: str = "return tokens", *, helper: str = "SIZE = 16\n", more: str = "") -> None:
        (tmp_path / "theirs.py").write_text(EDITED.replace("        return tokens\n", f"        {line}\n") + more)
        (tmp_path / "helper_of_theirs.py").write_text(helper)
        for name in ("theirs", "helper_of_theirs"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    return write


@pytest.fixture
def score(tmp_path: Path, bright_and_dark: Path) -> Score:
    """Run her encoder on a tiny task of dark and bright clips."""

    def score(**options: Any) -> Record:
        usual = {"model": "theirs:build", "task": "custom", "name": "t", "axis": "motion", "probe": "knn", "workers": 0}
        usual |= {"train": bright_and_dark / "train.csv", "val": bright_and_dark / "val.csv", "seed": 0}
        usual |= {"cache": tmp_path / "cache", "results": tmp_path / "results", "settings": {"probe.neighbours": [1]}}
        return bench.evaluate(**{**usual, **options})

    return score


BROKEN = {
    "random": ("return tokens + 0.1 * torch.randn_like(tokens)", "determinism"),
    "dropout": ("return nn.functional.dropout(tokens, 0.2)", "determinism"),
    "a layer in training mode": ("return self.drop.train()(tokens)", "determinism"),
    "of the calls before": ("self.calls += 1; return tokens * (1 + self.calls % 7)", "determinism"),
    "of the clip before": ("kept, self.kept = self.kept, tokens[-1:]; return tokens + 0.5 * kept", "determinism"),
    "of a running mean": ("self.kept = 0.9 * self.kept + tokens.mean(); return tokens - self.kept", "determinism"),
    "of the batch": ("return tokens - tokens.mean(0)", "batch"),
    "of the batch's size": ("return tokens / len(tokens)", "batch"),
    "that count calls": ("self.count += 1; return tokens", "unchanged"),
    "constant": ("return tokens * 0 + 1", "known input: the tokens are the same for every clip"),
    "of the place alone": ("return tokens * 0 + torch.arange(16.)[:, None]", "known input: the tokens are the same"),
    "that are all NaN": ("return tokens * float('nan')", "known input: no finite value"),
    "with a seed for every call": ("torch.manual_seed(0); return tokens + torch.randn_like(tokens)", "batch"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_run_refuses_tokens(kind: str, write: Callable[..., None], score: Score, tmp_path: Path) -> None:
    line, words = BROKEN[kind]
    write(line)
    with pytest.raises(BenchError, match="model theirs:build: cannot be scored") as refusal:
        score()
    assert words in str(refusal.value) and "bench doctor --model theirs:build" in str(refusal.value)
    assert not list((tmp_path / "results").glob("[0-9]*"))


@pytest.mark.parametrize(
    "line",
    [
        "return tokens",
        "clips *= 2; return tokens",
        "return self.drop(tokens)",
        "return (tokens > 5).float() + 0.01 * clips.mean((1, 2, 3, 4))[:, None, None]",
    ],
)
def test_other_encoders_are_not_refused(line: str, write: Callable[..., None], score: Score) -> None:
    write(line)
    assert score().scores[0].value >= 50


def test_an_edit_of_the_code_gives_the_score_of_an_empty_cache(
    write: Callable[..., None], score: Score, tmp_path: Path
) -> None:
    write()
    first = score()
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "results"])[0])
    write("return tokens - tokens.mean((1, 2), keepdim=True)")
    edited, fresh = score(results=tmp_path / "edited"), score(cache=tmp_path / "fresh")
    assert edited.cost.cached_clips == 0 and not edited.cost.cached_probe
    assert edited.scores == fresh.scores and edited.digests == fresh.digests
    assert edited.digests["encoder"] != first.digests["encoder"]
    told = check(read_baseline(tmp_path / "baseline.json"), load_runs([tmp_path / "edited"])[0])
    assert any("other weights of the encoder than in the baseline" in note for note in told.notes)


def test_an_edit_that_the_known_clips_do_not_show_is_encoded_anew(write: Callable[..., None], score: Score) -> None:
    write()
    first = score()
    write("return torch.where(clips.mean() > 1, -tokens, tokens)")
    edited = score()
    assert edited.cost.cached_clips == 0 and edited.digests["encoder"] == first.digests["encoder"]


@pytest.mark.parametrize("edit", [{"helper": "SIZE = 8 + 8\n"}, {"more": "# a remark\n"}])
def test_so_is_any_edit_of_a_file_that_it_imports(edit: dict[str, str], write: Callable[..., None]) -> None:
    write()
    first = load_encoder("theirs:build")
    write(**edit)
    second = load_encoder("theirs:build")
    assert first.digest == second.digest and first.key_fields != second.key_fields


def test_the_same_code_is_read_from_the_cache(write: Callable[..., None], score: Score) -> None:
    write()
    first, second = score(), score()
    assert second.cost.encoder_clips == 0 and second.digests == first.digests


def test_a_cached_run_is_checked_too(write: Callable[..., None], score: Score) -> None:
    write("return tokens if not self.calls else tokens + torch.randn_like(tokens)")
    score()
    theirs = sys.modules["theirs"]
    original = theirs.build

    def later() -> Any:
        encoder = original()
        encoder.module.calls = 1
        return encoder

    theirs.build = later
    with pytest.raises(BenchError, match="cannot be scored, determinism"):
        score()


@pytest.mark.parametrize("factor", [1e-8, 1e-4, 1e-2, 1e4, 1e6])
def test_a_scale_of_its_tokens_changes_no_score(factor: float, write: Callable[..., None], score: Score) -> None:
    write("return self.norm(tokens)")
    plain = score()
    write(f"return self.norm(tokens) * {factor}")
    scaled = score()
    assert scaled.scores == plain.scores
    encoder = load_encoder("theirs:build")
    tokens = encoder(known_clips(encoder.input_spec))
    assert 0.5 < tokens.std() < 2 and scaled.resolved["encoder"]["report"]["token_scale"] == encoder.token_scale != 1
    assert Choice("theirs:build").open()(known_clips(encoder.input_spec)).std() == pytest.approx(factor, rel=0.1)


def test_a_given_probe_gets_the_tokens_that_it_was_trained_on(
    write: Callable[..., None], score: Score, tmp_path: Path
) -> None:
    write("return self.norm(tokens) * 0.02")
    trained = score(probe="linear", settings={"probe.lr": 0.03, "probe.epochs": 3})
    assert trained.resolved["encoder"]["report"]["token_scale"] == 64
    (probe,) = (tmp_path / "results" / trained.run_id).glob("probe.safetensors")
    again = score(probe="attentive", settings={}, train=None, probe_weights=probe)
    assert again.scores == trained.scores and again.digests["encoder"] == trained.digests["encoder"]
    other = tmp_path / "foreign.safetensors"
    content = load_file(probe)
    # The same probe, of the tokens as the module gives them: power of two, so the same answers.
    scaled = {name: value / 64 if name in ("mean", "deviation") else value for name, value in content.items()}
    facts = read_metadata(probe)
    del facts["encoder"]
    save_file(scaled, other, metadata=facts)
    foreign = score(probe="attentive", settings={}, train=None, probe_weights=other)
    assert foreign.scores == trained.scores and foreign.resolved["encoder"]["report"]["token_scale"] == 1


def test_differences_that_half_precision_rounds_away_are_refused(write: Callable[..., None], score: Score) -> None:
    write("return 2000 + 0.001 * tokens")
    with pytest.raises(BenchError, match="rounds away what tells them apart"):
        score()
    write("return 300 + tokens")
    assert score(cache=Path("other")).scores[0].n == 12
    write("return (300 + tokens).to(torch.bfloat16 if torch.is_autocast_enabled('cpu') else torch.float32)")
    with pytest.raises(BenchError, match="--precision fp32"):
        score(precision="bf16", cache=Path("third"))


def test_nan_of_one_video_names_it(write: Callable[..., None], score: Score, bright_and_dark: Path) -> None:
    write("return torch.where((clips.mean((1, 2, 3, 4)) > 0.5)[:, None, None], torch.nan, tokens)")
    with pytest.raises(BenchError, match=r"the encoder gives NaN \(not a number\) for .*clips/train_1.mp4"):
        score()
