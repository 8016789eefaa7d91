"""Diving48: `Diving48_V2_train.json` and `Diving48_V2_test.json`, with the classes in `Diving48_vocab.json`.

A list of `{"vid_name": ..., "label": 0, "start_frame": 0, "end_frame": 134}`; the frames are all of the clip
`{vid_name}.mp4`. The vocabulary lists takeoff, somersaults, twists and position of each class in label order.
"""

from __future__ import annotations

from pathlib import Path

from bench.cards.load import TaskCard
from bench.core.errors import BenchError
from bench.data.formats.tables import is_json, plain, read_entries, read_json, whole_number
from bench.data.sample import Annotations, Row, Split


def recognises(path: Path, head: str) -> bool:
    """Whether a file that begins with `head` is meant as this format."""
    return is_json(head)


def read(path: Path, split: Split, card: TaskCard) -> Annotations:
    """The rows of the file, which holds one split."""
    _check_vocabulary(path.parent / "Diving48_vocab.json", card)
    rows = []
    for entry, content in read_entries(path, ("vid_name", "label")):
        video = str(content["vid_name"])
        label = whole_number(content["label"], where=f"{path}: entry {entry}")
        rows.append(Row(video, label, entry, f"rgb/{video}.mp4", (video,)))
    return Annotations(path, rows)


def _check_vocabulary(path: Path, card: TaskCard) -> None:
    if not path.is_file() or not isinstance(card.classes, tuple):
        return
    content = read_json(path)
    if not isinstance(content, list):
        raise BenchError("not a list of classes", where=str(path), fix="download it again")
    names = ["+".join(map(str, parts)) if isinstance(parts, list) else str(parts) for parts in content]
    pairs = zip(names, card.classes, strict=False)
    different = [i for i, (theirs, ours) in enumerate(pairs) if plain(theirs) != plain(ours)]
    if len(names) != len(card.classes) or different:
        first = f": class {different[0]} is '{names[different[0]]}'" if different else ""
        raise BenchError(
            f"{len(names)} classes, not those of card {card.name}{first}", where=str(path), fix="download it again"
        )
