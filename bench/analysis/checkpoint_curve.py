"""Checkpoints of one pretraining run, named by a wildcard: which files they are, and how their scores develop."""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
from bench.records.curve import SVG_NAME, CurvePoint, Draw, write_curve
from bench.records.schema import Record
from bench.records.summary import given_spec, natural


def has_wildcard(name: str) -> bool:
    """Whether a name of `--model` stands for files that match it, and is not itself the name of one."""
    return glob.has_magic(name) and not Path(name).expanduser().is_file()


def matching_files(pattern: str) -> list[str]:
    """The files that match, epoch2 before epoch10. Raises BenchError where there is none."""
    matches = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 - Path.glob takes no "/a/*"
    files = sorted((name for name in matches if Path(name).is_file()), key=natural)
    if not files:
        raise BenchError(
            f"no file matches '{pattern}'", where="--model", fix="check the folder, and put the pattern in quotes"
        )
    return files


def write_curves(patterns: Sequence[str], records: Sequence[Record], results: Path, draw: Draw) -> list[str]:
    """Write the score curve of each folder of checkpoints that a pattern named; say where it is, or why there is none.

    The checkpoints of a folder are taken for one pretraining run. Curves go to
    `results/curves/<folder>-<hash of its path>-<probe>/`.
    """
    wildcards = [str(Path(name).expanduser()) for value in patterns for name in value.split(",") if has_wildcard(name)]
    # fnmatch's star crosses folders by itself.
    wildcards = [wildcard.replace("**/", "*") for wildcard in wildcards]
    series: dict[Path, list[Record]] = defaultdict(list)
    for record in records:
        file = given_spec(record)
        if any(fnmatch(file, wildcard) for wildcard in wildcards):
            series[Path(file).resolve().parent].append(record)
    lines = []
    for folder, runs in series.items():
        if len({given_spec(run) for run in runs}) < 2:
            continue
        try:
            points = _points(runs)
        except BenchError as error:
            lines.append(f"no curve of {folder.name}: {error}")
            continue
        probe = runs[0].probe
        place = text_digest(str(folder))[:6]  # folders of one name in different places
        target = results.expanduser() / "curves" / re.sub(r"[^\w.-]", "-", f"{folder.name}-{place}-{probe}")
        chance = {run.task: 100 / run.num_classes for run in runs if run.scores[0].metric == "top1"}
        write_curve(target, points, draw, title=f"{folder.name}, {probe} probe", chance=chance)
        lines.append(f"score curve of {folder.name}: {target / SVG_NAME} (and .png, .csv)")
    return lines


def _points(records: Sequence[Record]) -> list[CurvePoint]:
    """One point a checkpoint and task, in order of pretraining.

    Raises BenchError where a file does not say how far it is, or two different encoders are equally far.
    """
    progress = {file: _progress(Path(file)) for file in dict.fromkeys(given_spec(r) for r in records)}
    field = "samples" if all("samples" in known for known in progress.values()) else "epoch"
    encoders: dict[int, str] = {}
    points: dict[tuple[str, int], CurvePoint] = {}
    for record in records:
        file = given_spec(record)
        known = progress[file]
        if field not in known:
            raise BenchError(f"{Path(file).name} does not say after how many samples or epochs it was saved")
        place, encoder = known[field], record.digests["encoder"]
        if encoders.setdefault(place, encoder) != encoder:
            raise BenchError(f"different encoders after the same number of {field}s, such as {Path(file).name}")
        score = record.scores[0]
        points[record.task, place] = CurvePoint(
            **known, task=record.task, axis=record.axis, score=score.value, low=score.low, high=score.high
        )
    return sorted(points.values(), key=lambda point: (point.task, getattr(point, field)))


def _progress(file: Path) -> dict[str, int]:
    """What a checkpoint says of its pretraining, of `samples`, `step` and `epoch`."""
    from bench.core.tensors import read_tensors

    content = read_tensors(file)
    own = content.get("bench")
    found = {"epoch": content.get("epoch"), **(dict(own) if isinstance(own, Mapping) else {})}
    return {
        name: value
        for name in ("samples", "step", "epoch")
        if isinstance(value := found.get(name), int) and not isinstance(value, bool) and value >= 0
    }
