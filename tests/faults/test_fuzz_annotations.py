"""Damaged annotation files: one line that names the fault, or samples that can be true."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotation_lab import KINDS, annotated
from fuzzing import Edit, edited, edits, fuzz
from hypothesis import strategies as st

from bench.core.errors import BenchError

TOO_LONG = "9" * 5000
"""More digits than Python turns into a number."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_annotation_file_is_named_or_gives_possible_samples(tmp_path: Path, long: bool, kind: str) -> None:
    whole = annotated(kind, tmp_path / "data")
    whole.read()

    def check(value: tuple[Path, list[Edit]]) -> None:
        path, changes = value
        content = path.read_bytes()
        path.write_bytes(edited(content, changes))
        try:
            whole.read()
        finally:
            path.write_bytes(content)

    fuzz(st.tuples(st.sampled_from(whole.files), edits), check, examples=500 if long else 16)


@pytest.mark.parametrize(
    ("kind", "name", "old", "new"),
    [
        ("ek100", "EPIC_100_train.csv", "00:00:02.00", f"{TOO_LONG}:00:02.00"),
        ("ek100-frames", "EPIC_100_train.csv", ",16,32,", ",1e308,1e308,"),
        ("ava", "ava_action_list_v2.2_for_activitynet_2019.pbtxt", "id: 5", f"id: {TOO_LONG}"),
        ("ava", "ava_train_v2.2.csv", "train00,", f'"{"x" * 140_000},'),
        ("coin", "COIN.json", '"end": 1.0', f'"end": 1{"0" * 400}'),
        ("coin", "COIN.json", '"end": 1.0', '"end": Infinity'),
        ("diving48", "Diving48_vocab.json", None, "7"),
        ("ucf101", "trainlist01.txt", " 1\n", f" {TOO_LONG}\n"),
        ("k400", "train.csv", "label,", f'"{"x" * 140_000},'),
    ],
)
def test_what_was_found_is_named(tmp_path: Path, kind: str, name: str, old: str | None, new: str) -> None:
    """Each of these ended in a traceback, or in a sample of no possible time."""
    whole = annotated(kind, tmp_path / "data")
    (path,) = (path for path in whole.files if path.name == name)
    text = path.read_text()
    assert old is None or old in text
    path.write_text(text.replace(old, new, 1) if old else new)
    with pytest.raises(BenchError, match=name):
        whole.read()
