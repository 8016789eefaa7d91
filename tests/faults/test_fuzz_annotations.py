"""Damaged annotation files: one line that names the fault, or samples that can be true."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzzing import Edit, edited, edits, fuzz
from hypothesis import strategies as st
from standins import LAYOUTS, standin

from bench.annotations.splits import ListOptions, load_splits
from bench.cards import load_task


@pytest.mark.parametrize("card", [name for name in LAYOUTS if name not in ("in1k", "k600", "k700")])
def test_a_damaged_annotation_file_is_named_or_gives_possible_samples(tmp_path: Path, long: bool, card: str) -> None:
    standin(card, tmp_path, train=2, test=2)
    files = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".json", ".txt"))
    task = load_task(card)

    def check(value: tuple[Path, list[Edit]]) -> None:
        path, changes = value
        content = path.read_bytes()
        path.write_bytes(edited(content, changes))
        try:
            splits = load_splits(task, ListOptions(tmp_path), tmp_path)
            for samples in (splits.train, splits.test):
                assert samples and len({sample.id for sample in samples}) == len(samples)
                assert all(Path(os.path.normpath(sample.path)).is_relative_to(tmp_path) for sample in samples)
                assert all(0 <= sample.label < len(splits.class_names) for sample in samples)
        finally:
            path.write_bytes(content)

    fuzz(st.tuples(st.sampled_from(files), edits), check, examples=500 if long else 16)
