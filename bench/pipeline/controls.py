"""Controls, planned: the same run on clips whose frames are shown in another order.

(a) a probe that is trained and tested on such clips tells what can be read of them, (b) the probe of ordered clips that
is tested on them tells what it leans on. docs/controls.md says what follows from which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, get_args

from bench.core.errors import BenchError, nearest
from bench.core.types import FrameOrder

if TYPE_CHECKING:
    from bench.pipeline.plan import RunPlan

ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


def read_orders(given: Any) -> tuple[FrameOrder, ...]:
    """The value of --controls: names, or one text with commas. Raises BenchError for a name that is none."""
    names = split_words(given)
    for name in names:
        if name not in ORDERS:
            raise BenchError(f"unknown control '{name}'", where="--controls", fix=nearest(name, ORDERS))
    return cast("tuple[FrameOrder, ...]", tuple(order for order in ORDERS if order in names))


def split_words(given: Any) -> list[str]:
    """The values of an option that was given as a text with commas, as several values, or as one; none for None."""
    if given is None:
        return []
    words = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    return [str(word).strip() for word in words if str(word).strip()]


def other_orders(plan: RunPlan) -> list[FrameOrder]:
    """The orders that a run's clips are shown in besides their own."""
    return [order for order in plan.options.controls if order != "ordered"]


def with_order(plan: RunPlan, order: FrameOrder) -> RunPlan:
    """The same plan, all clips in another order."""
    held_out = plan.held_out_clips
    return replace(
        plan,
        train_clips=replace(plan.train_clips, frame_order=order),
        held_out_clips=replace(held_out, frame_order=order) if held_out else None,
        test_clips=replace(plan.test_clips, frame_order=order),
    )


def check_controls(plan: RunPlan) -> None:
    """Raise BenchError where the clips of a plan have no order."""
    if not other_orders(plan):
        return
    where = f"task {plan.task.name}"
    if plan.task.media == "image":
        raise BenchError("--controls means nothing for images", where=where, fix="drop it")
    if plan.test_clips.frames_per_clip == 1:
        raise BenchError("--controls means nothing for clips of one frame", where=where, fix="drop it")
