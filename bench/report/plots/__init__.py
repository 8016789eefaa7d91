"""Pictures of the records: all drawn from the same runs as the leaderboard.

The same records give the same bytes, whatever the user's matplotlib settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.core.errors import BenchError, nearest
from bench.report.plots.plot import Plot

if TYPE_CHECKING:
    from bench.analysis.select import Evidence

__all__ = ["KINDS", "Plot", "draw"]

KINDS = {
    "scatter": "Motion against appearance",
    "bars": "Scores of each task, beside published ones",
    "controls": "Scores without the order of frames, and without motion",
    "labels": "Scores with fewer labels",
    "cost": "Scores against the encoder's operations",
    "curve": "Scores against samples seen in pretraining",
    "sweep": "Settings of the probe that were tried",
    "confusion": "Classes that are taken for others",
    "classes": "Scores of each class",
    "reliability": "Whether probabilities can be believed",
}
"""What can be drawn, in the order of a report."""


def draw(kind: str, evidence: Sequence[Evidence]) -> list[Plot]:
    """The plots of one kind, none where the runs hold nothing of it. Raises BenchError for a kind that is not known."""
    if kind not in KINDS:
        raise BenchError(f"no plot is called '{kind}'", fix=nearest(kind, KINDS))
    from bench.report.plots import bars, classes, curve, scatter, variants
    from bench.report.plots.plot import clean, style

    drawers = {
        "scatter": scatter.draw_scatter,
        "bars": bars.draw,
        "controls": variants.draw_controls,
        "labels": variants.draw_labels,
        "cost": scatter.draw_cost,
        "curve": curve.draw,
        "sweep": variants.draw_sweep,
        "confusion": classes.draw_confusion,
        "classes": classes.draw_classes,
        "reliability": classes.draw_reliability,
    }
    with style():
        plots = drawers[kind](evidence)
    return [
        replace(plot, name=f"{kind}-{number}", title=clean(plot.title), caption=clean(plot.caption))
        for number, plot in enumerate(plots, 1)
    ]
