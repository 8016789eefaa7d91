"""A record comes back as it was written, beside the predictions it was made of."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from bench.metrics.accuracy import class_answers, score_of
from bench.records.schema import read_record
from bench.records.write import write_record


def test_a_written_run_is_complete_and_reads_back_equal(make_record, tmp_path) -> None:
    import pyarrow.parquet as pq

    probabilities = np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)
    record = make_record(scores=[score_of("top1", [0, 1], probabilities, failed=0)])
    folder = write_record(tmp_path, record, class_answers(["a.mp4", "b.mp4"], [0, 1], probabilities))
    assert folder == tmp_path / record.run_id
    assert read_record(folder / "record.json") == record
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert [(row["sample"], row["label"], row["prediction"]) for row in rows] == [
        ("a.mp4", 0, 0),
        ("b.mp4", 1, 0),
    ]
    assert [row["probabilities"] for row in rows] == probabilities.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [record.run_id]


@pytest.mark.parametrize(
    ("task", "axis", "read"),
    [("ek100", "appearance", "anticipation"), ("ek100", None, None), ("mine", "appearance", "appearance")],
)
def test_an_older_record_of_ek100_is_read_in_its_group_of_today(make_record, tmp_path, task, axis, read) -> None:
    content = {**make_record(task=task, axis=axis).model_dump(), "schema_version": 3}
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert read_record(tmp_path / "record.json").axis == read


@pytest.mark.parametrize("created", ["2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05"])
def test_a_moment_is_utc_where_it_names_no_zone(make_record, created: str) -> None:
    assert make_record(created=created).moment.isoformat() == "2026-01-02T03:04:05+00:00"


def test_scores_never_import_the_heavy_libraries() -> None:
    code = (
        "import sys, bench.report.terminal, bench.report.export\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "import bench.metrics.accuracy\n"
        "print(sorted(heavy), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
