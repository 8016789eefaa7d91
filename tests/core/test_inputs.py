"""Files of others: an answer at once for whatever is no regular file, is too large, or stands for too much."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from bench.analysis.published import published_rows
from bench.cards.load import load_probe_card, load_task
from bench.core.errors import BenchError
from bench.core.inputs import CARD, FileKind, check_input, open_input, parse_yaml, read_bytes, read_json, read_yaml
from bench.core.tensors import read_tensors
from bench.data.formats.tables import head_of, read_lines
from bench.encoders.huggingface import open_folder
from bench.pipeline.estimate.constants import read_measurement
from bench.pretrain.logs import read_log
from bench.pretrain.presets import load_preset
from bench.probing.class_names import read_class_names
from bench.probing.files import load_probe
from bench.records.baseline import read_baseline
from bench.records.curve import read_curve
from bench.records.schema import read_record
from bench.records.tables.reading import read_columns
from bench.video.decode import probe_video

SMALL = FileKind("note", 1 << 20, "write less")

READERS = {
    "record.json": read_record,
    "baseline.json": read_baseline,
    "curve.csv": read_curve,
    "log.csv": read_log,
    "published.csv": lambda path: published_rows("ssv2", path),
    "list.csv": lambda path: read_lines(path, "list"),
    "head.csv": head_of,
    "card.yaml": lambda path: load_task(str(path)),
    "probe.yaml": lambda path: load_probe_card(str(path)),
    "preset.yaml": lambda path: load_preset(str(path)),
    "names.txt": read_class_names,
    "names.json": read_class_names,
    "names.yaml": read_class_names,
    "weights.pt": read_tensors,
    "weights.safetensors": read_tensors,
    "probe.pt": load_probe,
    "video.mp4": lambda path: probe_video(str(path)),
    "picture.jpg": lambda path: probe_video(str(path)),
    "animation.webp": lambda path: probe_video(str(path)),
    "config.json": lambda path: open_folder(path.parent),
    "measured.json": lambda path: read_measurement(path, None),  # type: ignore[arg-type]
}


def make_special(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(5 << 40)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name}[kind])


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "loop", "sparse"])
def test_every_reader_answers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    make_special(tmp_path / name, kind, monkeypatch)
    with pytest.raises((BenchError, OSError)) as caught:
        READERS[name](tmp_path / name)
    assert name in str(caught.value) or str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_predictions_are_a_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    make_special(tmp_path / "predictions.parquet", kind, monkeypatch)
    with pytest.raises(BenchError, match=f"is a {kind}, not a regular file"):
        read_columns(tmp_path / "predictions.parquet", ["sample"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "note: is a pipe, not a regular file - write less"),
        ("socket", "note: is a socket, not a regular file"),
        ("device", "note: is a device, not a regular file"),
        ("sparse", "note: larger than any note: 1 MiB at most - write less"),
    ],
)
def test_the_error_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str) -> None:
    make_special(tmp_path / "note", kind, monkeypatch)
    with pytest.raises(BenchError, match=words):
        check_input(tmp_path / "note", SMALL)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is a folder, not a regular file"):
        open_input(tmp_path, SMALL)


def test_a_size_that_is_not_stated_is_bounded_too() -> None:
    kind = FileKind("note", 10, "")
    with pytest.raises(BenchError, match="larger than any note"):
        read_bytes("/proc/self/status", kind)


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(b"text")
    (tmp_path / "link").symlink_to("note")
    assert read_bytes(tmp_path / "link", SMALL) == b"text" and read_bytes(tmp_path / "link", SMALL, first=2) == b"te"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + before] * 10)}]}}\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "not a YAML file .its aliases stand for more than 1,000,000 values"),
        (MERGED, "its aliases stand for more than"),
        ("name: &a [*a]", "its aliases stand for more than"),
        ("epochs: 0x" + "f" * 1000, "a number of too many digits"),
        ("a: " + "[" * 100_000, "note.yaml:1: not a YAML file"),
        ("a: !!python/object/apply:os.getcwd []", "not a YAML file"),
    ],
)
def test_yaml_that_stands_for_too_much(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "note.yaml").write_text(text)
    with pytest.raises(BenchError, match=words):
        read_yaml(tmp_path / "note.yaml", CARD)


def test_yaml_may_use_an_alias() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "not readable as JSON"),
        ("1" * 5000, "not readable as JSON"),
        ("{\n,", ":2: not a readable note: not readable as JSON"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(BenchError, match=words):
        read_json(tmp_path / "note.json", SMALL)
