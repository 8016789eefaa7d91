"""`--model NAME=SPEC` names a row; a file with an `=` in its name stays a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import GOLDEN

import bench
from bench.cli.options import split_names
from bench.core.errors import BenchError
from bench.encoders import describe_encoder, load_encoder
from bench.encoders.loading import named


def test_the_row_has_the_name_and_the_encoder_is_the_same() -> None:
    encoder, plain = load_encoder("my random (seed 0)=random"), load_encoder("random")
    assert encoder.name == "my random (seed 0)" == describe_encoder("my random (seed 0)=random").name
    assert encoder.digest == plain.digest


def test_a_run_records_it(bright_and_dark: Path, tmp_path: Path) -> None:
    lists = {"train": bright_and_dark / "train.csv", "val": bright_and_dark / "val.csv"}
    record = bench.evaluate(
        task="custom", name="t", axis="motion", model="ours=pixels", probe="knn", workers=0, cache=tmp_path / "cache",
        results=tmp_path, settings={"probe.neighbours": [1]}, **lists,
    )  # fmt: skip
    assert record.model == "ours" and record.arguments["model"] == "ours=pixels"


@pytest.mark.parametrize(
    "spec", ["random", "runs/lr=1e-3/e100.pt", "timm:x@lr=1.pt", "pack.mod:build@lr=1.pt", "hf:a=b/c"]
)
def test_other_specs_have_no_name(spec: str) -> None:
    assert named(spec) == (None, spec)


def test_a_file_that_is_there_keeps_the_sign_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("lr=3.pt", "lr=4,b.pt", "plain.pt"):
        (tmp_path / file).write_bytes((GOLDEN / "vjepa2.pt").read_bytes())
    assert named("lr=3.pt") == (None, "lr=3.pt")
    assert named("ours=lr=3.pt") == ("ours", "lr=3.pt")
    assert split_names("--model", ["ours=lr=4,b.pt", "a=lr=3.pt,plain.pt"], ()) == [
        "ours=lr=4,b.pt",
        "a=lr=3.pt",
        "plain.pt",
    ]
    assert split_names("--model", ["lr=*.pt"], ()) == ["lr=3.pt", "lr=4,b.pt"]
    assert split_names("--model", ["ours=pl*.pt"], ()) == ["ours=plain.pt"]
    with pytest.raises(BenchError, match="'ours' would name the 2 files that match"):
        split_names("--model", ["ours=lr*.pt"], ())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("=random", "'' is no name for a row"),
        ("\x1b[31mred=random", r"'\x1b[31mred' is no name for a row"),
        ("a\nb=random", "is no name for a row"),
        ("..=random", "is no name for a row"),
        (f"{'a' * 61}=random", "is no name for a row"),
        ("ours=", "no model behind the ="),
        ("vjepa-nano=random", "'vjepa-nano' is another model's name"),
        ("a=b=random", "unknown model 'b=random'"),
        ("../a=random", "no such file"),
    ],
)
def test_bad_names_are_refused_in_a_line(spec: str, words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        describe_encoder(spec)
    assert words in str(refusal.value) and "\x1b" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("models", [["a=random", "a=pixels"], ["a=random,a=pixels"]])
def test_two_models_of_one_name_are_refused(models: list[str]) -> None:
    with pytest.raises(BenchError, match="'a' names two models"):
        split_names("--model", models, ())
    assert split_names("--model", ["a=random", "b=random", "random"], ()) == ["a=random", "b=random", "random"]
