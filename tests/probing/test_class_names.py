"""Names of classes: files in every usual form, and two orders of the same classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.probing.class_names import are_numbers, match, read_class_names

NAMES = ("pushing left", "pulling right", "holding")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.txt", "pushing left\npulling right\n\nholding\n"),
        ("names.csv", "\ufeffpushing left\r\npulling right\r\nholding"),
        ("names.json", '["pushing left", "pulling right", "holding"]'),
        ("names.json", '{"1": "pulling right", "0": "pushing left", "2": "holding"}'),
        ("names.json", '{"pushing left": "0", "holding": "2", "pulling right": 1}'),
        ("config.json", '{"id2label": {"0": "pushing left", "1": "pulling right", "2": "holding"}, "x": 1}'),
        ("names.yaml", "- pushing left\n- pulling right\n- holding\n"),
        ("names.yml", "0: pushing left\n2: holding\n1: pulling right\n"),
    ],
)
def test_every_usual_form(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / file) == NAMES


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("names.txt", "", "holds no list of names"),
        ("names.txt", "a\nb\na\n", "names 'a' twice"),
        ("names.json", "{", "cannot be read"),
        ("names.json", "[1, 2]", "holds no list of names"),
        ("names.json", '{"a": "b"}', "neither labels to names nor names to labels"),
        ("names.json", '{"0": "a", "2": "b"}', "does not name the labels 0 to 1"),
        ("names.json", '{"0": "a", "00": "b"}', "does not name the labels 0 to 1"),
        ("names.yaml", "!!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_files_that_name_no_classes(tmp_path: Path, file: str, text: str, words: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(BenchError, match=words) as caught:
        read_class_names(tmp_path / file)
    assert file in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nowhere.txt: no such file.*--probe-classes"):
        read_class_names(tmp_path / "nowhere.txt")


def test_labels_themselves_are_no_names() -> None:
    assert are_numbers(("0", "1", "2")) and are_numbers(("LABEL_0", "LABEL_1"))
    assert not are_numbers(("1", "0")) and not are_numbers(NAMES)


def test_classes_are_found_by_name() -> None:
    assert match(NAMES, (NAMES[2], NAMES[0], NAMES[1]), where="probe") == (1, 2, 0)
    spelled = ("Holding", "Pushing  [left]", "pulling_right")
    assert match(NAMES, spelled, where="probe") == (1, 2, 0)


def test_names_that_differ_in_case_alone_are_compared_as_they_are() -> None:
    assert match(("A", "a"), ("a", "A"), where="probe") == (1, 0)
    with pytest.raises(BenchError):
        match(("A", "a"), ("a", "b"), where="probe")


def test_classes_that_the_probe_lacks_are_named() -> None:
    with pytest.raises(BenchError, match=r"does not know 'pulling right' and 1 more; .*--probe-classes"):
        match(NAMES, ("pushing left", "lifting", "dropping"), where="probe")
