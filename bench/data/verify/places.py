"""Where prepared files go: a folder of their own, never over a source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from bench.core.errors import BenchError
from bench.core.files import PARTS, has_mark, remove_abandoned, writable_folder, write_mark
from bench.data.formats import Sample
from bench.data.verify.prepared import read_prepared

MEMORY = ".prepare.sqlite"
_LOCK = ".prepare.lock"


def check_out(out: Path, data: Path, lists: Iterable[Path] = ()) -> None:
    """Create `out`. Raises BenchError where it and `data` hold each other, where one of the `lists` lies in it, and
    where it holds anything but what an earlier `bench data prepare` has made."""
    mine, theirs = out.resolve(), data.resolve()
    if mine == theirs or mine in theirs.parents or theirs in mine.parents:
        how = "is the data folder" if mine == theirs else "and the data folder lie in each other"
        raise BenchError(f"{how}: sources are never overwritten", where=f"--out {out}", fix="choose a folder elsewhere")
    if out.exists() and not out.is_dir():
        raise BenchError("is not a folder", where=f"--out {out}", fix="choose another")
    inside = next((path for path in lists if mine in path.resolve().parents), None)
    if inside:
        what = f"holds {inside}, which this command reads"
        raise BenchError(what, where=f"--out {out}", fix="choose another folder, or copy the list elsewhere")
    if out.is_dir() and any(out.iterdir()) and not (has_mark(out) or read_prepared(out)):
        raise BenchError("holds other files", where=f"--out {out}", fix="choose an empty or a new folder")
    write_mark(writable_folder(out, option="--out"))


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the folder `out`, and clear away what a killed command left half written."""
    try:
        with FileLock(out / _LOCK, timeout=0):
            remove_abandoned(out, f"**/{PARTS}", age_s=0)
            yield
    except Timeout as error:
        raise BenchError("another `bench data prepare` writes here", where=f"--out {out}", fix="wait for it") from error


def relative_path(path: str, data: Path) -> str:
    """`path` from the folder `data` on, with forward slashes. Raises BenchError for one outside."""
    relative = Path(os.path.relpath(path, data))
    if ".." in relative.parts:
        raise BenchError(f"'{path}' lies outside the data folder", where=str(data), fix="give --data a folder above it")
    return relative.as_posix()


def video_names(samples: Sequence[Sample], data: Path) -> list[str]:
    """For each sample the name of its re-encoded video: its path with .mp4, and the times of a part of a video.

    Equal parts of equal files get equal names, others different ones: a.avi and a.webm keep their suffix before .mp4.
    """
    names = [relative_path(sample.path, data) for sample in samples]
    short = {name: str(PurePosixPath(name).with_suffix("")) for name in set(names)}
    taken = Counter(short.values())
    return [
        (short[name] if taken[short[name]] == 1 else name) + _times(sample) + ".mp4"
        for name, sample in zip(names, samples, strict=True)
    ]


def _times(sample: Sample) -> str:
    if sample.start_s is None and sample.end_s is None:
        return ""
    end = "end" if sample.end_s is None else f"{sample.end_s:.3f}"
    return f"_{sample.start_s or 0:.3f}-{end}"
