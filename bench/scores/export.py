"""The board for other programs: flat rows, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from bench.scores.leaderboard import Leaderboard, Run


def to_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """One flat mapping for each score of the board, every seed apart, in the order of the table."""
    return [
        _flat(row.label, run)
        for row in board.rows
        for column in board.columns
        if column in row.cells
        for run in row.cells[column].runs
    ]


def to_json(board: Leaderboard) -> str:
    """A list of objects, one for each score."""
    return json.dumps(to_rows(board), indent=1, ensure_ascii=False)


def to_csv(board: Leaderboard) -> str:
    """The same fields under a line of headings; the notes of a score are joined by semicolons."""
    rows = [{**row, "notes": "; ".join(row["notes"])} for row in to_rows(board)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(label: str, run: Run) -> dict[str, Any]:
    record, score = run.record, run.score
    return {
        "model": record.model,
        "label": label,
        "task": record.task,
        "axis": record.axis,
        "probe": record.probe,
        "protocol": record.protocol,
        "metric": score.metric,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "interval": score.interval,
        "correct": score.correct,
        "n": score.n,
        "failed": score.failed,
        "seed": record.seed,
        "input": record.input,
        "num_train": record.num_train,
        "encoder_clips": record.cost.encoder_clips,
        "cached_clips": record.cost.cached_clips,
        "seconds": record.cost.total_s,
        "notes": record.notes,
        "run_id": record.run_id,
        "created": record.created,
        "encoder_digest": record.digests.get("encoder", ""),
    }
