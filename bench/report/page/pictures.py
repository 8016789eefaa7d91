"""The pictures of the report: plots as SVG inside the page, and key frames that runs on boxes have kept, with words."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.select import Evidence
from bench.core.errors import BenchError
from bench.records.key_frames import Guess, Person, ShownFrame, read_key_frames
from bench.report.page.parts import Material, column_names

if TYPE_CHECKING:
    from markupsafe import Markup

    from bench.analysis.select import Evidence

_PX_PER_PT = 96 / 72
_LINKS = "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Picture:
    """One plot."""

    id: str
    title: str
    caption: str
    svg: Markup
    width_px: int
    """Width that it is drawn at; it shrinks with the page as far as its words stay readable."""


@dataclass(frozen=True)
class Gallery:
    """The plots of one kind."""

    kind: str
    title: str
    pictures: tuple[Picture, ...]
    problem: str = ""
    """Why there are none, where the records hold something that could not be drawn."""


def galleries(evidence: Sequence[Evidence]) -> list[Gallery]:
    """Every kind of plot that the records hold something of."""
    from bench.report.plots import KINDS

    made = [_gallery(kind, title, evidence) for kind, title in KINDS.items()]
    return [gallery for gallery in made if gallery.pictures or gallery.problem]


def _gallery(kind: str, title: str, evidence: Sequence[Evidence]) -> Gallery:
    try:
        return Gallery(kind, title, tuple(_pictures(kind, evidence)))
    except BenchError as error:
        return Gallery(kind, title, (), str(error))


def _pictures(kind: str, evidence: Sequence[Evidence]) -> Iterator[Picture]:
    from bench.report.plots import draw

    for number, plot in enumerate(draw(kind, evidence), start=1):
        name = f"{kind}-{number}"
        svg, width = inlined(plot.svg(themed=True), name)
        yield Picture(name, plot.title, plot.caption, svg, width)


def inlined(document: str, name: str) -> tuple[Markup, int]:
    """A plot's SVG document as an element of a page, labelled by `NAME-title`, and its width in px.

    What stands before the element (declarations that name a DTD on the web) and the metadata are left out.
    """
    from markupsafe import Markup

    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.S)
    # A page knows no XML prefixes: there, links inside the drawing have the plain name.
    for prefix in re.findall(rf'xmlns:(\w+)="{_LINKS}"', element):
        element = element.replace(f' {prefix}:href="', ' href="')
    start, end, rest = element.partition(">")
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', start)
    if not box:
        raise ValueError(f"the SVG of {name} has no viewBox")
    start = re.sub(r'\s(?:width|height|role|aria-[a-z]+|version|xmlns:\w+)="[^"]*"', "", start)
    start += f' role="img" aria-labelledby="{name}-title" aria-describedby="{name}-caption"'
    # Made by matplotlib, which escapes every word it sets.
    return Markup(start + end + rest), round(float(box[1]) * _PX_PER_PT)  # noqa: S704


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
            gallery = _frame_gallery(f"frames-{len(galleries) + 1}", title, run) if run else None
            galleries += [gallery] if gallery else []
    return galleries


def _frame_gallery(name: str, title: str, run: Evidence) -> KeyFrameGallery | None:
    try:
        pictures = tuple(_frame_picture(frame, jpeg) for frame, jpeg in read_key_frames(run.folder))
    except BenchError as error:
        return KeyFrameGallery(name, title, (), str(error))
    return KeyFrameGallery(name, title, pictures) if pictures else None


def _frame_picture(frame: ShownFrame, jpeg: bytes) -> KeyFramePicture:
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
