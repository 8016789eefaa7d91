"""Actions in long videos -> samples, and the classes of verbs, nouns and actions.

An action is a pair of a verb and a noun. Action classes are the pairs that occur, in rising order of verb and noun: of
both splits, or of the training split alone where test samples of other pairs are left out, as the official code does
(whose order is that of a Python set). So a list of one split alone does not tell the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.dataset import ListOptions, Splits
from bench.data.formats import Sample, ek100
from bench.data.formats.choice import find_annotations, index_folder
from bench.data.formats.ek100 import Segment
from bench.data.formats.lists import resolve
from bench.data.formats.tables import USUAL_VIDEO_SUFFIXES
from bench.data.sample import Split


@dataclass(frozen=True)
class ActionSplits(Splits):
    """The samples of a task of actions; a label is the number of an action, `class_names` are those of the actions."""

    verb_names: tuple[str, ...] = ()
    noun_names: tuple[str, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    """Of each action: its verb and its noun."""
    num_left_out: int = 0
    """Test samples whose pair no training sample has, and which the clip protocol leaves out."""


def load_actions(card: TaskCard, where: ListOptions) -> ActionSplits:
    """The samples of both splits. Raises BenchError naming file and row, and where the splits share a video."""
    if card.actions is None or card.clip.anticipation is None:
        raise ValueError(f"{card.name} is no task of actions")
    paths = _paths(card, where)
    segments = {split: ek100.read_segments(path, card) for split, path in paths.items()}
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
    verbs = ek100.class_names(folder, card.actions.verb_names, card.actions.verbs)
    nouns = ek100.class_names(folder, card.actions.noun_names, card.actions.nouns)
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
