"""The plots of the report, as SVG inside the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.errors import BenchError

if TYPE_CHECKING:
    from markupsafe import Markup

    from bench.analysis.runs import Evidence

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
    """Of its own; it shrinks with the page as far as its words stay readable."""


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
