"""`bench data prepare`: count and hash every sample once, re-encode the videos if asked, and write it down."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.core.files import PARTS, atomic_write, has_mark, remove_abandoned, writable_folder, write_mark
from bench.core.hashing import text_digest
from bench.core.memo import Memo
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.core.version import __version__
from bench.core.workers import Lost, guarded_map
from bench.data.sample import ListOptions, Sample
from bench.data.verify.findings import Splits, read_splits
from bench.data.verify.manifest import FILE, Encoding, Prepared, Row, read_prepared, write_list, write_manifest
from bench.data.verify.reencode import B_FRAMES, CRF, PRESET, RESIZE, TUNE, Made, Task, make
from bench.video.endings import is_cut_off
from bench.video.image_frames import is_still, reader_of
from bench.video.states import state_from, unchanged

DEFAULT_GOP = 8
MANIFEST = "manifest.parquet"
_MOST = 10_000
_AHEAD = 1  # to encode a video takes long


@dataclass(frozen=True)
class Wishes:
    """What the user wants of the new files. Nothing is re-encoded without a short side and without a GOP."""

    short_side: int | None = None
    gop: int | None = None
    fps: float | None = None
    """Rate of folders of frames whose annotations state none."""


def prepare(
    card: TaskCard,
    where: ListOptions,
    out: Path,
    wishes: Wishes,
    reporter: Reporter,
    *,
    workers: int = 1,
    timeout_s: float = 60.0,
) -> tuple[Prepared, list[Row]]:
    """Write manifest, lists and `prepared.json` to the folder `out`, and the re-encoded videos.

    What an interrupted or earlier command has made of the same sources in the same way is kept. A sample whose source
    cannot be read keeps its row, with the reason under `problem`, so that a run counts it as failed.

    Raises BenchError for wishes, annotations and folders that do not do, and where the disk is full.
    """
    if where.data is None:
        raise BenchError("which folder holds the data?", where=f"task {card.name}", fix="give --data FOLDER")
    if card.data == "actions":
        what = "the clips of anticipation lie before the actions that would be cut out"
        raise BenchError(what, where=f"task {card.name}", fix="make whole videos smaller, under their own names")
    if card.data == "masks":
        what = "lists and smaller copies of images say nothing of their masks"
        raise BenchError(what, where=f"task {card.name}", fix="run on the data as they are")
    encoding = _encoding(wishes, reporter)
    check_out(out, where.data, [path for path in (where.train, where.val) if path])
    splits = read_splits(card, where)
    with only_writer(out):
        tasks = _tasks(splits, where.data, out, encoding, wishes.fps)
        made = _make_all(tasks, out, workers, timeout_s, lambda *now: reporter.stage("preparing", *now))
        rows = [_row(split, sample, task, made[task.name], where.data) for (split, sample), task in tasks]
        write_manifest(out / MANIFEST, rows)
        lists = _write_lists(card, out, rows, encoding)
        prepared = Prepared(
            version=__version__,
            task=card.name,
            source=str(where.data),
            source_digest=_digest(rows, [made[task.name] for _, task in tasks]),
            encoding=encoding,
            lists=lists,
            samples=len(rows),
            failed=sum(row.problem is not None for row in rows),
            notes=_notes(rows, encoding, lists),
        )
        with atomic_write(out / FILE) as temporary:
            temporary.write_text(prepared.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return prepared, rows


def _encoding(wishes: Wishes, reporter: Reporter) -> Encoding | None:
    for option, value in (("--short-side", wishes.short_side), ("--gop", wishes.gop), ("--fps", wishes.fps)):
        if value is not None and not 1 <= value <= _MOST:
            what = f"{value:g} is above {_MOST}" if value > _MOST else f"{value:g} is below 1"
            raise BenchError(what, where=option, fix=f"give 1 to {_MOST}")
    if wishes.short_side is None and wishes.gop is None:
        return None
    side = wishes.short_side
    if side is not None and side % 2:
        side += 1
        reporter.say(f"H.264 has even sides only: --short-side {side} instead of {wishes.short_side}")
    return Encoding(
        short_side=side,
        gop=wishes.gop or DEFAULT_GOP,
        crf=CRF,
        preset=PRESET,
        tune=TUNE,
        b_frames=B_FRAMES,
        resize=RESIZE.lower(),
        pyav=metadata.version("av"),
    )


def _tasks(
    splits: Splits, data: Path, out: Path, encoding: Encoding | None, fps: float | None
) -> list[tuple[tuple[Split, Sample], Task]]:
    """Each sample with what is to be done for it; equal tasks are one."""
    members: list[tuple[Split, Sample]] = [(split, sample) for split, samples in splits.items() for sample in samples]
    samples = [sample for _, sample in members]
    image = next((sample for sample in samples if is_still(sample.path)), None)
    if encoding and image:
        raise BenchError("still images are not re-encoded", where=image.path, fix="drop --short-side and --gop")
    names = video_names(samples, data) if encoding else [relative_path(sample.path, data) for sample in samples]
    tasks: dict[str, Task] = {}
    for name, sample in zip(names, samples, strict=True):
        segment = (sample.start_s, sample.end_s) if encoding else (None, None)
        task = Task(name, sample.path, out, sample.fps or fps, segment, encoding)
        if tasks.setdefault(name, task) != task:
            raise BenchError(f"'{name}' would hold two different videos", where=sample.path, fix="rename one of them")
    return [(member, tasks[name]) for member, name in zip(members, names, strict=True)]


def _make_all(
    tasks: Sequence[tuple[tuple[Split, Sample], Task]],
    out: Path,
    workers: int,
    timeout_s: float,
    progress: Callable[[int, int], None],
) -> dict[str, Made]:
    """What became of each task, by its name."""
    unique = {task.name: task for _, task in tasks}
    with Memo(out / MEMORY, option="--out") as memo:
        known = {name: one for name, task in unique.items() if (one := _remembered(memo, task))}
        made = _still_true(known, unique)
        for name, one in made.items():
            if one != known[name]:
                memo.keep(name, json.dumps(unique[name].how), asdict(one))
        progress(len(made), len(unique))
        todo = [replace(task, made=known.get(name)) for name, task in unique.items() if name not in made]
        workers = min(workers, len(todo))
        for task, outcome in guarded_map(make, todo, workers=workers, timeout_s=timeout_s, ahead=_AHEAD):
            if isinstance(outcome, Lost):
                outcome = Made(problem=f"its reader {outcome.reason}")
            elif outcome.problem is None:
                memo.keep(task.name, json.dumps(task.how), asdict(outcome))
            made[task.name] = outcome
            progress(len(made), len(unique))
    return made


def _remembered(memo: Memo, task: Task) -> Made | None:
    """What was made before in the same way. Of a source that is cut off nothing is, though a file may have been made of
    it before that was asked."""
    known = memo.get(task.name)
    if known is None:
        return None
    (source, *_, fps, segment, how), value = json.loads(known[0]), known[1]  # older versions kept a state in the middle
    if [source, fps, segment, how] != task.how:
        return None
    try:
        whole = reader_of(task.source) != "video" or not is_cut_off(task.source)
    except OSError:
        return None
    return Made(**{field.name: value[field.name] for field in fields(Made) if field.name in value}) if whole else None


def _still_true(known: Mapping[str, Made], tasks: Mapping[str, Task]) -> dict[str, Made]:
    """What was made and still holds, by the name of its task: neither the source nor the file has changed since. The
    states are those of now."""
    states: dict[str, str] = {}
    for name, made in known.items():
        states.setdefault(tasks[name].source, made.source_state)
        states.setdefault(tasks[name].path, made.state)
    kept = ((path, state) for path, text in states.items() if (state := state_from(text)))
    now = {(path, states[path]): state.text for path, state in unchanged(kept)}
    found = {}
    for name, made in known.items():
        of_source = now.get((tasks[name].source, made.source_state))
        of_file = now.get((tasks[name].path, made.state))
        if of_source and of_file:
            found[name] = replace(made, source_state=of_source, state=of_file)
    return found


def _row(split: Split, sample: Sample, task: Task, made: Made, data: Path) -> Row:
    row = Row(
        id=sample.id,
        path=task.name,
        label=sample.label,
        split=split,
        source=relative_path(sample.path, data),
        start_s=sample.start_s,
        end_s=sample.end_s,
        problem=made.problem,
    )
    if made.problem is not None:
        return row
    return replace(
        row,
        frames=made.frames,
        fps=made.fps or None,
        height=made.height,
        width=made.width,
        duration_s=made.frames / made.fps if made.fps else None,
        hash=made.hash,
        bytes=made.bytes,
    )


def _write_lists(card: TaskCard, out: Path, rows: Sequence[Row], encoding: Encoding | None) -> dict[Split, str]:
    """The list of each split under the name that the card reads; none where a row is a part of a whole file, which a
    line of a list cannot say."""
    if encoding is None and any(row.start_s is not None or row.end_s is not None for row in rows):
        return {}
    lists: dict[Split, str] = {"train": card.train, "test": card.test}
    for split, name in lists.items():
        write_list(out / name, [row for row in rows if row.split == split])
    return lists


def _digest(rows: Sequence[Row], made: Sequence[Made]) -> str:
    lines = (
        json.dumps([row.id, row.label, row.split, row.start_s, row.end_s, one.source_hash])
        for row, one in zip(rows, made, strict=True)
    )
    return text_digest("\n".join(lines))


def _notes(rows: Sequence[Row], encoding: Encoding | None, lists: dict[Split, str]) -> list[str]:
    notes = []
    if encoding:
        notes.append("re-encoded pixels differ from the originals: scores may, and content ids and caches do")
    if not lists:
        notes.append("no lists: the samples are parts of videos, which only --short-side or --gop cut out")
    failed = sum(row.problem is not None for row in rows)
    if failed:
        notes.append(f"{failed:,} of {len(rows):,} samples have no readable source; a run counts them as failed")
    return notes


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
