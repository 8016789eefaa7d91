"""The official list format, as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import SHARED_DATA

from bench import BenchError
from bench.annotations.lists import read_list


def write(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [" ", ",", "\t", "::"])
@pytest.mark.parametrize("name", ["clips/a.mp4", "my clips/a b.mp4", "clips/ä, b.mp4", "a::b.mp4"])
def test_every_delimiter_keeps_the_path(tmp_path: Path, delimiter: str, name: str) -> None:
    samples = read_list(write(tmp_path, f"{name}{delimiter}3\nclips/other.mp4{delimiter}0\n"))
    assert [(s.id, s.label) for s in samples] == [(name, 3), ("clips/other.mp4", 0)]
    assert samples[0].path == str(tmp_path / name)


def test_relative_paths_start_at_the_list_or_at_the_data_folder(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4 0\n")
    assert read_list(path)[0].path == str(tmp_path / "a.mp4")
    assert read_list(path, tmp_path / "videos")[0].path == str(tmp_path / "videos" / "a.mp4")


def test_absolute_paths_are_the_users_own(tmp_path: Path) -> None:
    assert read_list(write(tmp_path, "/data/a.mp4 0\n"))[0].path == "/data/a.mp4"


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    samples = read_list(write(tmp_path, "\ufeffa.mp4 0\r\n\r\nb.mp4 1\r\n"))
    assert [s.id for s in samples] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("text", "data", "where", "words"),
    [
        ("a.mp4 0\nb.mp4 one\nc.mp4 2\n", None, ":2", "not `path label`"),
        ("path,label\na.mp4,0\n", None, ":1", "no header"),
        ("a.mp4 0\nb.mp4\n", None, ":2", "not `path label`"),
        ("a.mp4 0\nb.mp4 -1\n", None, ":2", "negative"),
        ("a.mp4 0\n\nb.mp4 1.5\n", None, ":3", "not `path label`"),
        ("a.mp4 0\nb.mp4 1\na.mp4 1\n", None, ":3", "listed twice"),
        ("a.mp4 0\n./a.mp4 1\n", None, ":2", "listed twice"),
        ("a.mp4 0\nb.mp4 --5\n", None, ":2", "not `path label`"),
        ("a.mp4 0\nb\0.mp4 1\n", None, ":2", "zero byte"),
        ("../secret.mp4 0\n", None, ":1", "leaves the data folder"),
        ("/etc/passwd 0\n", "data", ":1", "leaves the data folder"),
        ("", None, "", "empty"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, text: str, data: str | None, where: str, words: str
) -> None:
    with pytest.raises(BenchError) as refusal:
        read_list(write(tmp_path, text), tmp_path / data if data else None)
    assert f"list.csv{where}: " in str(refusal.value) and words in str(refusal.value)


def test_missing_and_binary_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such list"):
        read_list(tmp_path / "none.csv")
    (tmp_path / "video.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(BenchError, match="UTF-8"):
        read_list(tmp_path / "video.csv")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and "/" not in name
)


@given(rows=st.dictionaries(NAMES, st.integers(0, 999), min_size=1), delimiter=st.sampled_from([" ", "\t"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, int], delimiter: str
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    samples = read_list(write(folder, "".join(f"{name}{delimiter}{label}\n" for name, label in rows.items())))
    assert {sample.id: sample.label for sample in samples} == rows


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared sample data is not here")
@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("moving_signs/train_motion.csv", 800, 8),
        ("moving_signs/val_appearance.csv", 320, 10),
        ("fight_surv/val.csv", 92, 2),
    ],
)
def test_real_lists(name: str, count: int, classes: int) -> None:
    samples = read_list(SHARED_DATA / name)
    assert len(samples) == count and len({s.label for s in samples}) == classes
    assert all(Path(s.path).is_file() for s in samples)
