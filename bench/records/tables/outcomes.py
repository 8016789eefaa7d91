"""Which test samples a run got right, as one bit a sample: what paired comparisons of many runs need, in little memory.

The bits of a run are a Python integer, so that a comparison is a few operations on whole words and needs no array
library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.core.hashing import text_digest

if TYPE_CHECKING:
    from bench.metrics.accuracy import ClassAnswers


@dataclass(frozen=True)
class Outcomes:
    """The test samples of one run that could be read, in the order of its predictions."""

    samples: str
    """SHA-256 of the samples' ids, in order."""
    n: int
    right: int
    """Bit i is set where sample i was predicted right."""
    path: Path
    """The predictions, for the ids."""
    grouped: bool = False
    """Whether the predictions say which samples were cut from one video (a column `video`)."""

    @staticmethod
    def of(answers: ClassAnswers, path: Path) -> Outcomes:
        """Keep what was right of the answers in the predictions at `path`, in their order."""
        right = _packed([bool(hit) for hit in answers.hits])
        return Outcomes(_digest(answers.samples), len(answers.samples), right, path, answers.groups is not None)


def aligned(runs: Sequence[Outcomes]) -> tuple[list[Outcomes], list[int] | None]:
    """The same outcomes over one order of samples, those that every run has; and the number of each sample's video.

    Bits of other samples are dropped. There are no numbers where every sample has a video of its own.
    """
    grouped = next((run for run in runs if run.grouped), None)
    alike = len({run.samples for run in runs}) < 2
    if alike and grouped is None:
        return list(runs), None
    read = {run.samples: _read(run.path) for run in reversed(runs)}
    if alike:
        common = read[runs[0].samples].ids
    else:
        common = sorted(set.intersection(*(set(one.ids) for one in read.values())))
        runs = [
            replace(
                run,
                samples=_digest(common),
                n=len(common),
                right=_packed(_unpacked(run, read[run.samples].ids, common)),
            )
            for run in runs
        ]
    if grouped is None:
        return list(runs), None
    named = _read(grouped.path)
    videos = dict(zip(named.ids, named.videos or [], strict=True))
    return list(runs), [videos[name] for name in common]


def sample_ids(run: Outcomes) -> list[str]:
    """The ids of the samples, in order."""
    return _read(run.path).ids


class _Read(NamedTuple):
    """What a file of predictions says of its samples."""

    ids: list[str]
    videos: list[int] | None
    """Numbers of the videos; None where the file has none."""


def _read(path: Path) -> _Read:
    from bench.records.tables.reading import read_columns

    table = read_columns(path, ["sample"], optional=("video",)).to_pydict()
    return _Read([str(name) for name in table["sample"]], table.get("video"))


def _digest(ids: Sequence[str]) -> str:
    return text_digest("\n".join(ids))


def _unpacked(run: Outcomes, ids: Sequence[str], wanted: Sequence[str]) -> list[bool]:
    bits = dict(zip(ids, reversed(f"{run.right:0{run.n}b}"), strict=True))
    return [bits[name] == "1" for name in wanted]


def _packed(right: Sequence[bool]) -> int:
    return int("".join("1" if one else "0" for one in reversed(right)) or "0", 2)
