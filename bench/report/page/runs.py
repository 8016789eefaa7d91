"""Details of every run in the report: what was run, on which machine, its cost, and the command that repeats it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.select import Evidence
from bench.analysis.sheet import duration
from bench.records.schema import Head, Record
from bench.report.page.parts import Material


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


DEFAULTS: Mapping[str, Any] = {
    "device": "auto",
    "precision": "auto",
    "compile": "off",
    "token_bits": 16,
    "decoder": "auto",
    "timeout_s": 60.0,
    "seed": 0,
    "max_failed": 0.01,
}
"""What `bench run` does where an option is not given, of the options that are not empty then."""
_ALWAYS = ("task", "model", "probe")
_OF_THE_MACHINE = ("cache", "results", "workers")
"""They say where files lie and how fast it goes, and change no score."""


def command(arguments: Mapping[str, Any]) -> str:
    """One line for a POSIX shell; empty where the record holds no arguments.

    Options at their default and those that only concern a machine are left out.
    """
    if not arguments.get("model"):
        return ""
    words = ["bench", "run"]
    names = [*_ALWAYS, *(name for name in arguments if name not in (*_ALWAYS, *_OF_THE_MACHINE))]
    for name in names:
        value = arguments.get(name)
        if name == "settings":
            for key, setting in dict(value or {}).items():
                words += ["--set", f"{key}={_written(setting)}"]
        elif name in _ALWAYS or value != DEFAULTS.get(name):
            words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False or value == []:
        return []
    if value is True:
        return [flag]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ",".join(map(str, value))
    # A value that begins with a dash would be read as an option.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _written(setting: Any) -> str:
    """A setting as YAML, which JSON is, on one line; text without quotes where YAML reads it as that text."""
    import yaml

    if isinstance(setting, str):
        try:
            if yaml.safe_load(setting) == setting:
                return setting
        except yaml.YAMLError:
            pass  # such as '{': quotes make it text
    return json.dumps(setting)
