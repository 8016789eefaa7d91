"""Tolerance checks: scores of a board against the reference scores on the cards of its tasks.

A reference is held against scores of the same model under the same protocol only: a probe with the paper's recipe as
it is today, or one that the authors released, on the clips, views and pixels of the card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.board import Cell, Column, Leaderboard, Row
from bench.cards.fields import layers_name
from bench.cards.load import ClipProtocol, TaskCard, load_probe_card, load_task, task_names

CHECK_HEADING = ("model", "probe", "measured", "published", "difference", "verdict", "source")
"""Of a table of checks; the fields of `Check.words`."""
WITHIN, LOW, HIGH = "within tolerance", "too low", "too high"


@dataclass(frozen=True)
class Check:
    """One score of the board and the reference it should reproduce, in points."""

    task: str
    model: str
    probe: str
    measured: float
    published: float
    tolerance: float
    source: str

    @property
    def difference(self) -> float:
        """Measured minus published."""
        return self.measured - self.published

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance. A score that is too high is no reproduction either."""
        return abs(self.difference) <= self.tolerance + 1e-9

    @property
    def words(self) -> tuple[str, ...]:
        """The fields of a table of checks."""
        verdict = WITHIN if self.ok else HIGH if self.difference > 0 else LOW
        published = f"{self.published:.1f} ± {self.tolerance:g}"
        sign = f"{self.difference:+.1f}".replace("-", "−")
        return self.model, self.probe, f"{self.measured:.1f}", published, sign, verdict, self.source


def reference_checks(board: Leaderboard) -> list[Check]:
    """Every score of the board whose task card has a reference of its model and protocol, in the order of the board."""
    return [check for column in board.columns if column.task in task_names() for check in _checks(board, column)]


def _checks(board: Leaderboard, column: Column) -> Iterator[Check]:
    card = load_task(column.task)
    references: Sequence[Any] = [r for r in getattr(card, "references", ()) if _same_protocol(r, column, card)]
    for row in board.rows if references else ():
        for reference in references:
            alike = column in row.cells and _plain(reference.model) in _names(row)
            if alike and _same_input(reference, row.cells[column], card):
                yield Check(
                    task=column.task,
                    model=row.label,
                    probe=column.probe,
                    measured=row.cells[column].value,
                    published=float(reference.value),
                    tolerance=float(reference.tolerance),
                    source=str(reference.source),
                )


def _same_protocol(reference: Any, column: Column, card: TaskCard) -> bool:
    """Whether a reference was measured as the column was: probe, clips and views, nothing limited or changed.

    The probes that the authors of a paper released stand for its recipe.
    """
    recipe, _, rest = column.protocol.partition(" ")
    released = reference.probe.removesuffix("-paper") + "-released"
    if column.probe not in (reference.probe, released):
        return False
    if column.probe == reference.probe and recipe != f"{reference.probe}/{load_probe_card(reference.probe).version}":
        return False
    clip = _clip(reference, card)
    words = ["image"] if card.media == "image" else [f"{clip.segments}x{clip.views}", clip.sampling]
    words += [f"step {clip.step}"] if clip.step else []
    words += [f"{clip.crop} crop"] if clip.crop != "official" else []
    words += [layers_name(clip.layers)] if clip.layers else []
    return rest == " ".join(words)


def _clip(reference: Any, card: TaskCard) -> ClipProtocol:
    return card.clips.get(reference.clip, card.clip)


def _same_input(reference: Any, cell: Cell, card: TaskCard) -> bool:
    """Whether the encoder saw the frames and the resolution of the reference, as far as the catalog knows them."""
    from bench.encoders.catalog import model_cards

    model, clip = cell.runs[0].record.model, _clip(reference, card)
    known = next((entry for entry in model_cards() if entry.name == model), None)
    shown = re.match(r"(?:(\d+)x)?(\d+)px(?: image(?: x(\d+))?)?", cell.runs[0].record.input)
    if shown is None or "8-bit tokens" in cell.runs[0].record.input:
        return False
    size = clip.resolution or (known.resolution if known else int(shown[2]))
    frames = clip.frames or (known.num_frames if known and card.media == "video" else None)
    return int(shown[2]) == size and (frames is None or int(shown[1] or shown[3] or 1) == frames)


def _names(row: Row) -> set[str]:
    """How a reference may call the model of a row: its name, or the title of its card."""
    from bench.encoders.catalog import model_cards

    name = row.records[0].model
    return {_plain(name), *(_plain(card.title) for card in model_cards() if card.name == name)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())
