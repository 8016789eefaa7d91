"""The key frames that runs on boxes have kept, drawn and in words, so that a wrong box convention is seen at once."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from bench.analysis.runs import Evidence
from bench.core.errors import BenchError
from bench.records.key_frames import Guess, Person, ShownFrame, read_key_frames
from bench.report.page.gather import Material
from bench.report.page.names import column_names


@dataclass(frozen=True)
class KeyFramePicture:
    """One key frame."""

    title: str
    source: str
    """The JPEG as a `data:` address."""
    alt: str
    """What is to be seen, in words."""
    people: tuple[Person, ...]


@dataclass(frozen=True)
class KeyFrameGallery:
    """The key frames of one run."""

    id: str
    title: str
    pictures: tuple[KeyFramePicture, ...]
    problem: str = ""
    """Why there are none, where the run kept some that cannot be read."""


def key_frames(material: Material) -> list[KeyFrameGallery]:
    """For each place of the board whose runs have kept key frames: those of the first seed."""
    titles = column_names(material.board.columns)
    galleries: list[KeyFrameGallery] = []
    for row in material.board.rows:
        for column in (column for column in material.board.columns if column in row.cells):
            run = material.evidence.get(row.cells[column].runs[0].record.run_id)
            title = f"{titles[column]}: {row.label}"
            gallery = _gallery(f"frames-{len(galleries) + 1}", title, run) if run else None
            galleries += [gallery] if gallery else []
    return galleries


def _gallery(name: str, title: str, run: Evidence) -> KeyFrameGallery | None:
    try:
        pictures = tuple(_picture(frame, jpeg) for frame, jpeg in read_key_frames(run.folder))
    except BenchError as error:
        return KeyFrameGallery(name, title, (), str(error))
    return KeyFrameGallery(name, title, pictures) if pictures else None


def _picture(frame: ShownFrame, jpeg: bytes) -> KeyFramePicture:
    title = f"{frame.video}, second {frame.timestamp}"
    said = [f"{number}: {_said(person)}." for number, person in enumerate(frame.people, start=1)]
    return KeyFramePicture(
        title=title,
        source="data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
        alt=" ".join([f"Key frame {title}, with boxes.", *said]),
        people=tuple(frame.people),
    )


def _said(person: Person) -> str:
    true = "nobody annotated" if person.annotated is None else f"annotated {', '.join(person.annotated) or 'no action'}"
    if person.predicted is None:
        return f"{true}; not looked for"
    return f"{true}; predicted {', '.join(map(_guessed, person.predicted[:1]))}"


def _guessed(guess: Guess) -> str:
    return f"{guess.action} {guess.percent:.0f} %, {'right' if guess.right else 'wrong'}"
