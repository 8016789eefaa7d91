"""The folder of a run: its record, the tables of its answers, its probe; written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.core.files import atomic_folder, writable_folder
from bench.metrics.metric import Answers
from bench.records.schema import Record
from bench.records.tables import seed_folder, write_answers


def write_record(
    results: Path,
    record: Record,
    answers: Answers,
    add_files: Callable[[Path], None] | None = None,
    further: Sequence[Answers] = (),
) -> Path:
    """Write a run's folder under `results` and return it; the folder appears complete or not at all.

    `add_files` is asked to write whatever else there is to the folder.
    `further` are the answers of the run's other probes, which go to folders of their own.
    """
    folder = writable_folder(results, option="--results") / record.run_id
    with atomic_folder(folder) as temporary:
        write_answers(temporary, answers)
        for number, other in enumerate(further, start=1):
            place = seed_folder(temporary, number)
            place.mkdir(parents=True)
            write_answers(place, other)
        (temporary / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
        if add_files:
            add_files(temporary)
    return folder
