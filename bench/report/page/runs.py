"""Every run of the report: what was run, on what, what it cost, and the command that runs it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.analysis.runs import Evidence
from bench.analysis.sheet import duration
from bench.records.schema import Head, Record
from bench.report.page.gather import Material
from bench.report.page.reproduce import command


@dataclass(frozen=True)
class Run:
    """One record in words."""

    title: str
    score: str
    """Value and interval of every metric."""
    command: str
    """Empty where the record holds no arguments."""
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """(name, value); values may be long."""
    details: str
    """Arguments as given and settings as resolved: JSON, indented."""


@dataclass(frozen=True)
class RunsOfRow:
    """The runs behind one row of the board."""

    anchor: str
    label: str
    runs: tuple[Run, ...]


def runs_of_rows(material: Material) -> list[RunsOfRow]:
    """The runs of every row, in order of the board."""
    rows = []
    for number, row in enumerate(material.board.rows, start=1):
        ids = {record.run_id for record in row.records}
        own = tuple(_run(item) for run_id, item in material.evidence.items() if run_id in ids)
        rows.append(RunsOfRow(f"row-{number}", row.label, own))
    return rows


def _run(item: Evidence) -> Run:
    record = item.record
    scores = [f"{score.metric} {score.value:.2f} % ({score.low:.2f}–{score.high:.2f})" for score in record.scores]
    return Run(
        title=f"{record.task}, {record.probe}, seed {record.seed}",
        score=", ".join(scores),
        command=command(record.arguments),
        notes=tuple(record.notes),
        facts=tuple((name, value) for name, value in _facts(record).items() if value),
        details=json.dumps(
            {"arguments": record.arguments, "resolved": record.resolved}, indent=1, ensure_ascii=False, sort_keys=True
        ),
    )


def _facts(record: Record) -> dict[str, str]:
    encoder = _section(record.resolved, "encoder")
    report = _section(encoder, "report")
    return {
        "weights": str(report.get("file") or report.get("weights") or ""),
        "encoder digest": record.digests.get("encoder", ""),
        "how loaded": _listed(
            {key: value for key, value in report.items() if key not in ("file", "weights", "notes") and value != ""}
        ),
        "input": record.input,
        "precision": str(encoder.get("precision") or ""),
        "protocol": record.protocol,
        "setting chosen": _chosen(record.heads),
        "samples": _samples(record),
        "list and feature digests": _listed({k: v for k, v in record.digests.items() if k != "encoder"}),
        "cost": _cost(record),
        "hardware": _hardware(record.hardware),
        "versions": _listed(record.versions),
        "git revision": record.git_revision or "",
        "made": f"{record.moment:%Y-%m-%d %H:%M:%S} UTC",
        "run id": record.run_id,
    }


def _chosen(heads: list[Head]) -> str:
    chosen = next((head for head in heads if head.chosen), None)
    if chosen is None:
        return ""
    facts = {"lr": chosen.lr, "weight decay": chosen.weight_decay, "neighbours": chosen.neighbours}
    words = _listed({name: f"{value:g}" for name, value in facts.items() if value is not None})
    samples = "held-out training samples" if chosen.test_accuracy is None else "the test split, which it was chosen on"
    tried = "" if chosen.accuracy is None else f"; {chosen.accuracy:.1f} % on {samples}"
    return f"{words}{tried} (of {len(heads)})" if words else ""


def _samples(record: Record) -> str:
    unread = {split: sum(failure.split == split for failure in record.failures) for split in ("train", "test")}
    parts = [f"{record.num_train:,} training", f"{record.scores[0].n:,} test, {record.num_classes:,} classes"]
    parts += [f"{number:,} {split} samples could not be read" for split, number in unread.items() if number]
    return "; ".join(parts)


def _cost(record: Record) -> str:
    cost = record.cost
    probe = "from the cache" if cost.cached_probe else duration(cost.probe_s)
    parts = (
        f"{cost.encoder_clips:,} clips encoded, {cost.cached_clips:,} from the cache",
        f"{duration(cost.total_s)} in all, of which features {duration(cost.extract_s)}, probe {probe}",
        f"at most {_gib(cost.peak_memory_bytes)} of memory",
        f"{cost.feature_bytes / 2**20:,.0f} MiB of features",
    )
    return "; ".join(parts)


def _hardware(facts: Mapping[str, Any]) -> str:
    memory = facts.get("memory_bytes")
    if isinstance(memory, int):
        facts = {**{key: value for key, value in facts.items() if key != "memory_bytes"}, "memory": _gib(memory)}
    return _listed(facts)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _section(content: Any, key: str) -> dict[str, Any]:
    section = content.get(key) if isinstance(content, Mapping) else None
    return section if isinstance(section, dict) else {}
