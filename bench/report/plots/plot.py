"""One plot, and how it becomes a file or a part of a page."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.plots.style import INK, TITLE_ID, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Plot:
    """A figure with the words that belong to it."""

    name: str
    """A slug, unique within the kind."""
    title: str
    caption: str
    """Plain text: what is seen, of how many samples, with which intervals."""
    figure: Figure

    def svg(self, themed: bool = False) -> str:
        """The figure as SVG, with its caption as the description.

        `themed` is for a page that says title and caption itself: without the title, text as text, text and axes in
        the page's own colour, transparent, and ids that begin with the plot's name, so that many fit in one page.
        """
        if not themed:
            words = {"Date": None, "Title": self.title, "Description": self.caption}
            return _saved(self.figure, "svg", words).decode()
        titles = [(text, text.get_text()) for text in self.figure.texts if text.get_gid() == TITLE_ID]
        for text, _ in titles:
            text.set_text("")
        try:
            silent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            drawn = _saved(self.figure, "svg", silent, {"svg.fonttype": "none"}, transparent=True)
        finally:
            for text, words_of_title in titles:
                text.set_text(words_of_title)
        return _themed(drawn.decode(), prefix=f"{self.name}-", title=self.title)

    def png(self) -> bytes:
        """The figure as PNG, 150 pixels an inch, with its caption as the description."""
        return _saved(self.figure, "png", {"Software": None, "Title": self.title, "Description": self.caption})


def _saved(
    figure: Figure, kind: str, words: dict[str, str | None], settings: dict[str, Any] | None = None, **options: Any
) -> bytes:
    buffer = io.BytesIO()
    with style(settings):
        figure.savefig(buffer, format=kind, dpi=150, metadata=words, **options)
    return buffer.getvalue()


def _themed(drawn: str, *, prefix: str, title: str) -> str:
    """The drawing as an element of a page: colours and ids are changed in attributes only, never in names."""
    root = ET.fromstring(drawn)  # noqa: S314 - just made here
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet inside would hold for the whole page.
            if child.tag == f"{{{_SVG}}}style":
                parent.remove(child)
    for element in root.iter():
        # In a page only the plain name is sure to be a link.
        if link := element.attrib.pop(_LINK, None):
            element.set("href", f"#{prefix}{link[1:]}" if link.startswith("#") else link)
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, prefix + value)
            elif key != "href":
                element.set(key, value.replace("url(#", f"url(#{prefix}").replace(INK, "currentColor"))
    root.set("role", "img")
    root.set("aria-label", title)
    root.set("stroke-linejoin", "round")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")
