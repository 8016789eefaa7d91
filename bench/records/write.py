"""The folder of a run: its record, the tables of its answers, its probe; written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.core.files import atomic_folder, writable_folder
from bench.metrics.metric import Answers
from bench.records.schema import Record
from bench.records.tables import write_answers


def write_record(
    results: Path,
    record: Record,
    answers: Answers,
    save_probe: Callable[[Path], None] | None = None,
    add_files: Callable[[Path], None] | None = None,
) -> Path:
    """Write a run's folder under `results` and return it; the folder appears complete or not at all.

    `save_probe` is asked to write the trained probe to the path it gets, `add_files` whatever else to the folder.
    """
    folder = writable_folder(results, option="--results") / record.run_id
    with atomic_folder(folder) as temporary:
        write_answers(temporary, answers)
        (temporary / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
        if save_probe:
            save_probe(temporary / "probe.safetensors")
        if add_files:
            add_files(temporary)
    return folder
