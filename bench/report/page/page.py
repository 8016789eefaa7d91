"""The report as one HTML file that asks for nothing: one template, style and script inside, a policy that says so."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.published import Section
from bench.analysis.sheet import lay_out
from bench.core.escape import plain
from bench.report.html import STYLE, board_part, published_part
from bench.report.page.classes import breakdowns, class_tables
from bench.report.page.failed import failed_samples
from bench.report.page.findings import findings
from bench.report.page.gather import Material
from bench.report.page.key_frames import key_frames
from bench.report.page.overview import overview
from bench.report.page.pictures import galleries
from bench.report.page.runs import runs_of_rows

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent


def to_page(material: Material, sections: Sequence[Section] = (), *, frames: bool = True) -> str:
    """The whole file. The same records give the same text. `sections`: published scores to show below the board;
    `frames`: whether frames of videos go into it."""
    from markupsafe import Markup

    rows = runs_of_rows(material)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    sheet = lay_out(material.board)
    # What is marked as safe here was escaped by `bench.report.html`, or is no part of any record.
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            policy=_policy(script),
            style=Markup(f"{STYLE}\n{(_FOLDER / 'page.css').read_text(encoding='utf-8')}"),  # noqa: S704
            script=Markup(script),  # noqa: S704
            overview=overview(material),
            board=Markup(board_part(sheet, [row.anchor for row in rows])),  # noqa: S704
            published=Markup(published_part(sections)),  # noqa: S704
            galleries=galleries(list(material.evidence.values())),
            findings=findings(material),
            classes=[*class_tables(material), *breakdowns(material)],
            key_frames=key_frames(material) if frames else [],
            failed=failed_samples(item.record for item in material.evidence.values()),
            rows=rows,
            problems=[str(problem) for problem in material.problems],
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plain(value: Any) -> Any:
    """A name without control characters, which could hide or reorder what stands around it."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return plain(value, lines=True)


def _policy(script: str) -> str:
    """No request of any kind; no script but ours. Plots carry their style in attributes, pictures in them as data."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)
