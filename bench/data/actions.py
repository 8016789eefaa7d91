"""Actions in long videos -> samples, and the classes of verbs, nouns and actions: EPIC-KITCHENS-100.

`EPIC_100_train.csv` and `EPIC_100_validation.csv` have a row for each action: `narration_id,participant_id,video_id,
narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,...,verb,verb_class,noun,noun_class,...`;
columns may stand in any order, and others may be missing. Beside them lie `EPIC_100_verb_classes.csv` and
`EPIC_100_noun_classes.csv` (`id,key,...`) and `EPIC_100_video_info.csv` (`video_id,duration,fps,resolution`).

Times are in seconds of the video. They are the timestamps, or frame numbers divided by the rate of the video, which is
what it means to take them for numbers of the video's frames (protocol.md 3.6).

An action is a pair of a verb and a noun. Action classes are the pairs that occur, in rising order of verb and noun: of
both splits, or of the training split alone where test samples of other pairs are left out, as the official code does
(whose order is that of a Python set). So a list of one split alone does not tell the classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.choice import find_annotations, index_folder
from bench.data.formats.lists import resolve
from bench.data.formats.tables import USUAL_VIDEO_SUFFIXES, read_table, whole_number
from bench.data.sample import ListOptions, Sample, Split, Splits

_TIME = re.compile(r"([0-9]{1,4}):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]+)?)")
_MAX_FRAME = 10**9
"""More frames than any video has; a float holds no seconds of much larger numbers."""


@dataclass(frozen=True)
class Segment:
    """One action."""

    id: str
    video: str
    start_s: float
    stop_s: float
    verb: int
    noun: int
    where: str
    """File and row."""


def read_segments(path: Path, card: TaskCard) -> list[Segment]:
    """The actions of one split, in the order of the file. Raises BenchError naming file and row for a bad one."""
    said = card.clip.anticipation
    if card.actions is None or said is None:
        raise ValueError(f"{card.name} is no task of actions")
    rates = _rates(path.parent / card.actions.video_info) if said.times == "frame-numbers" else None
    times = ("start_frame", "stop_frame") if rates is not None else ("start_timestamp", "stop_timestamp")
    segments: list[Segment] = []
    rows: dict[str, str] = {}
    for line, row in read_table(path, ("video_id", *times, "verb_class", "noun_class")):
        where = f"{path}:{line}"
        video = row["video_id"]
        if rates is not None and video not in rates:
            raise BenchError(f"no frame rate of video '{video}' in {card.actions.video_info}", where=where)
        start, stop = (_seconds(row[name], rates[video] if rates is not None else None, where) for name in times)
        if stop < start:
            raise BenchError(f"an action from {row[times[0]]} to {row[times[1]]}", where=where, fix="mend the row")
        name = row.get("narration_id") or f"{video}_{row[times[0]]}_{row[times[1]]}_{line}"
        if name in rows:
            raise BenchError(f"'{name}' is listed twice, first at {rows[name]}", where=where, fix="remove one")
        rows[name] = where
        verb = _class(row, "verb_class", card.actions.verbs, where)
        segments.append(
            Segment(name, video, start, stop, verb, _class(row, "noun_class", card.actions.nouns, where), where)
        )
    if not segments:
        raise BenchError("no actions in it", where=str(path), fix="give the official file")
    return segments


def class_names(folder: Path, files: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names of `count` classes from the first of `files` in `folder`; their numbers where there is none."""
    path = next((folder / name for name in files if (folder / name).is_file()), None)
    if path is None:
        return tuple(map(str, range(count)))
    names = {
        whole_number(row["id"], where=f"{path}:{line}"): row["key"] for line, row in read_table(path, ("id", "key"))
    }
    if sorted(names) != list(range(count)) or len(set(names.values())) < count:
        raise BenchError(f"not {count} different names numbered from 0", where=str(path), fix="download it again")
    return tuple(names[number] for number in range(count))


def _class(row: Mapping[str, str], column: str, count: int, where: str) -> int:
    number = whole_number(row[column], where=where)
    if not 0 <= number < count:
        raise BenchError(f"{column} {number} is not in 0 .. {count - 1}", where=where, fix="mend the row")
    return number


def _seconds(text: str, rate: float | None, where: str) -> float:
    """Seconds of a timestamp; of a frame number where the video's `rate` is given."""
    if rate is not None:
        frame = whole_number(text, where=where)
        if not 0 <= frame <= _MAX_FRAME:
            raise BenchError(f"frame {frame}", where=where, fix="mend the row")
        return frame / rate
    found = _TIME.fullmatch(text)
    if not found:
        raise BenchError(f"'{text}' is not a time such as 00:01:23.45", where=where, fix="mend the row")
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])


def _rates(path: Path) -> dict[str, float]:
    """Frames per second of every video."""
    if not path.is_file():
        what = "frame numbers take the videos' rates, and their file is not there"
        raise BenchError(what, where=str(path), fix="put it beside the annotations, or take timestamps")
    rates = {}
    for line, row in read_table(path, ("video_id", "fps")):
        where = f"{path}:{line}"
        try:
            rates[row["video_id"]] = float(row["fps"])
        except ValueError as error:
            raise BenchError(f"'{row['fps']}' is no rate", where=where, fix="mend the row") from error
        if not 0 < rates[row["video_id"]] < 1000:
            raise BenchError(f"{row['fps']} frames a second", where=where, fix="mend the row")
    return rates


@dataclass(frozen=True)
class ActionSplits(Splits):
    """The samples of a task of actions; a label is the number of an action, `class_names` are those of the actions."""

    verb_names: tuple[str, ...] = ()
    noun_names: tuple[str, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    """The verb and the noun of each action."""
    num_left_out: int = 0
    """Test samples whose pair no training sample has, and which the clip protocol leaves out."""


def load_actions(card: TaskCard, where: ListOptions) -> ActionSplits:
    """The samples of both splits. Raises BenchError naming file and row, and where the splits share a video."""
    if card.actions is None or card.clip.anticipation is None:
        raise ValueError(f"{card.name} is no task of actions")
    paths = _paths(card, where)
    segments = {split: read_segments(path, card) for split, path in paths.items()}
    shared = {one.video for one in segments["train"]} & {one.video for one in segments["test"]}
    if shared:
        raise BenchError(
            f"{len(shared)} video(s) are in both splits, first {min(shared)}",
            where=f"{paths['train']} and {paths['test']}",
            fix="a test video must not be trained on: give the official files",
        )
    test = segments["test"]
    pairs = {(one.verb, one.noun) for one in segments["train"]}
    if card.clip.anticipation.unseen == "counted":
        pairs |= {(one.verb, one.noun) for one in test}
    kept = [one for one in test if (one.verb, one.noun) in pairs]
    if not kept:
        raise BenchError("no test action has a pair of verb and noun that is trained on", where=str(paths["test"]))
    numbers = {pair: number for number, pair in enumerate(sorted(pairs))}
    folder = paths["train"].parent
    verbs = class_names(folder, card.actions.verb_names, card.actions.verbs)
    nouns = class_names(folder, card.actions.noun_names, card.actions.nouns)
    files = _files({one.video: one.where for split in (segments["train"], kept) for one in split}, where, folder)
    return ActionSplits(
        train=_samples(segments["train"], numbers, files),
        test=_samples(kept, numbers, files),
        class_names=tuple(f"{verbs[verb]} {nouns[noun]}" for verb, noun in numbers),
        verb_names=verbs,
        noun_names=nouns,
        pairs=tuple(numbers),
        num_left_out=len(test) - len(kept),
    )


def _paths(card: TaskCard, where: ListOptions) -> dict[Split, Path]:
    if where.data is not None and not where.data.is_dir():
        raise BenchError("no such data folder", where=str(where.data), fix="check --data")
    if where.data is None and (where.train is None or where.val is None):
        fix = "give --data FOLDER with the annotations in it, or also --train FILE --val FILE"
        raise BenchError(f"task {card.name} needs your data", fix=fix)
    data = where.data or Path()
    return {
        "train": where.train or find_annotations(card, data, "train"),
        "test": where.val or find_annotations(card, data, "test"),
    }


def _files(videos: Mapping[str, str], where: ListOptions, folder: Path) -> dict[str, str]:
    """Where each video is: anywhere below the data folder, best at the shallowest place; or where it belongs.

    `videos`: names and the rows that hold them.
    """
    root = where.data or folder
    index = index_folder(root, videos)
    files = {}
    for video, row in videos.items():
        found = next((p for p in index.get(video, ()) if p.lower().endswith(USUAL_VIDEO_SUFFIXES)), None)
        expected = f"{video.partition('_')[0]}/videos/{video}.MP4"
        files[video] = resolve(found or expected, root, absolute_allowed=False, where=row)
    return files


def _samples(
    segments: Iterable[Segment], numbers: Mapping[tuple[int, int], int], files: Mapping[str, str]
) -> list[Sample]:
    return [Sample(one.id, files[one.video], numbers[one.verb, one.noun], one.start_s, one.stop_s) for one in segments]
