"""The kinds of tasks there are, by what their cards say under `data`."""

from __future__ import annotations

from bench.cards.load import TaskCard
from bench.tasks.anticipation import Anticipation
from bench.tasks.boxes import Boxes
from bench.tasks.classification import Classification
from bench.tasks.kind import TaskKind
from bench.tasks.segmentation import Segmentation

KINDS: dict[str, TaskKind] = {
    "digits": Classification(),
    "lists": Classification(),
    "boxes": Boxes(),
    "actions": Anticipation(),
    "masks": Segmentation(),
}


def kind_of(task: TaskCard) -> TaskKind:
    """The kind of a task."""
    return KINDS[task.data]
