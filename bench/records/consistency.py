"""Checks that a record agrees with itself: values that it states twice must be equal.

What contradicts the scores is an error. What contradicts only the names that a score goes by (task, recipe, seed,
classes) is a doubt: the score is that of the predictions all the same, so it is shown, with the doubt beside it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.metrics.intervals import wilson_interval
from bench.metrics.score import OF_TRAININGS, Score
from bench.records.schema import Record
from bench.records.tables.reading import SAME

PROBE_NAME = "probe.safetensors"


def check_record(record: Record, where: Path) -> None:
    """Raises BenchError that says what contradicts what, where the parts of a record do not fit each other, and where
    it has no score."""
    if not record.scores:
        raise BenchError("the record holds no score", where=str(where), fix="run again")
    for reason in _contradictions(record):
        raise BenchError(
            f"it contradicts itself ({reason})", where=str(where), fix="it was changed: move the run away, or run again"
        )


def doubts(record: Record, folder: Path) -> list[str]:
    """What the names that a record's scores go by contradict: other parts of it, or the probe beside it."""
    resolved, probe = record.resolved, probe_facts(folder)
    task, recipe = _part(resolved, "task"), _part(resolved, "recipe")
    # Older records of ek100 are read in the group that it has today.
    axis = record.axis if record.task == "ek100" else task.get("axis", record.axis)
    pairs: list[tuple[str, Any, Any, str]] = [
        ("task", record.task, task.get("name"), "its task card"),
        ("axis", record.axis, axis, "its task card"),
        ("probe", record.probe, recipe.get("name"), "its recipe"),
        ("seed", record.seed, record.arguments.get("seed"), "its arguments"),
        *((name, getattr(record, name), probe.get(name), PROBE_NAME) for name in ("task", "protocol", "input")),
        ("weights", record.digests.get("encoder"), probe.get("encoder"), PROBE_NAME),
    ]
    found = [
        f"the record contradicts itself: {name} {ours}, and {theirs} by {source}"
        for name, ours, theirs, source in pairs
        if ours != theirs and (theirs is not None or name == "axis")
    ]
    if probe.get("classes", record.class_names) != record.class_names:
        found.append(f"the record contradicts {PROBE_NAME}: other class names, or in another order")
    return list(dict.fromkeys(found))


def probe_facts(folder: Path) -> dict[str, Any]:
    """What the file of the run's probe says of it; empty where there is none that can be read."""
    from safetensors import SafetensorError, safe_open

    path = folder / PROBE_NAME
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            facts = dict(file.metadata() or {})
        return {**facts, **({"classes": json.loads(facts["classes"])} if "classes" in facts else {})}
    except (
        OSError,
        ValueError,
        SafetensorError,
    ):  # no score is read from a probe: `--probe-weights` says what is wrong
        return {}


def _contradictions(record: Record) -> Iterator[str]:
    yield from _of_scores(record)
    yield from _of_failures(record)
    yield from _of_variants(record)
    yield from _of_choice(record)
    if record.num_classes != len(record.class_names):
        yield f"num_classes is {record.num_classes}, and {len(record.class_names)} classes have names"


def _of_scores(record: Record) -> Iterator[str]:
    probes = len(record.seeds) or 1
    for score in (*record.scores, *(control.score for control in record.controls)):
        if score.seeds != probes:
            yield f"{score.metric} is a mean of {score.seeds} probes, and the record of {probes}"
    for part in record.fewer_labels:
        if part.score.seeds > probes:
            yield f"{part.score.metric} with fewer labels is of {part.score.seeds} probes, and the record of {probes}"
    if record.seeds and (record.seeds[0] != record.seed or len(set(record.seeds)) < len(record.seeds)):
        yield "its probe seeds are there twice, or the first is not the seed of the run"
    twice = _repeated(score.metric for score in record.scores)
    if twice:
        yield f"it has several scores of {twice}"
    everything = [
        *record.scores,
        *(control.score for control in record.controls),
        *(part.score for part in record.fewer_labels),
    ]
    for score in everything:
        if score.correct is not None:
            yield from _of_interval(score)
    for control in record.controls:
        lost = control.difference
        if lost and not (math.isfinite(lost.low) and math.isfinite(lost.high) and lost.low <= lost.value <= lost.high):
            yield f"the difference of ordered and {control.frames} clips lies outside its interval"
    for share in record.motion_shares:
        if not (math.isfinite(share.low) and math.isfinite(share.high) and share.low <= share.value <= share.high):
            yield f"the share without {share.without} lies outside its interval"


def _of_interval(score: Score) -> Iterator[str]:
    if not score.n:
        yield f"a score of {score.metric} is of no sample"
        return
    # Those over groups and trainings follow from the tables alone.
    if score.seeds > 1 or score.interval.startswith((OF_TRAININGS, "none: ")):
        return
    low, high = (100 * end for end in wilson_interval(score.correct or 0, score.n))
    if abs(score.low - low) > SAME or abs(score.high - high) > SAME:
        yield (
            f"the interval of {score.metric} is {score.low:.6f} to {score.high:.6f}, and {score.correct} of {score.n} "
            f"right give {low:.6f} to {high:.6f}"
        )


def _of_failures(record: Record) -> Iterator[str]:
    unread = sum(failure.split == "test" for failure in record.failures)
    for score in (*record.scores, *(part.score for part in record.fewer_labels)):
        if score.failed != unread:
            yield f"failed is {score.failed}, and {unread} test samples are listed under failures"
    twice = _repeated((failure.split, failure.sample) for failure in record.failures)
    if twice:
        yield f"sample {twice[1]} is listed twice under failures"


def _of_variants(record: Record) -> Iterator[str]:
    """Controls and fewer labels are of the same test list as the score."""
    first = record.scores[0]
    for control in record.controls:
        if control.score.n + control.score.failed != first.n + first.failed:
            yield f"the control of {control.frames} frames is of another number of test samples than the score"
        usual = control.frames == control.trained_on == "ordered"
        if usual and control.score != first:
            yield "the control of ordered frames is not the score"
    for part in record.fewer_labels:
        if part.score.n != first.n:
            yield f"the score with {part.share:g} of the labels is of {part.score.n} samples, the score of {first.n}"
        if part.num_train > record.num_train:
            yield f"{part.num_train} samples are {part.share:g} of the labels, and all are {record.num_train}"
    twice = _repeated((control.frames, control.trained_on) for control in record.controls)
    if twice:
        yield f"the control of {twice[0]} frames is there twice"
    again = _repeated((part.share, part.draw) for part in record.fewer_labels)
    if again:
        yield f"the score with {again[0]:g} of the labels is there twice"


def _of_choice(record: Record) -> Iterator[str]:
    """A setting that was chosen on the test split leaves its mark in three places besides the flag."""
    selection = _part(_part(record.resolved, "recipe"), "selection")
    chosen_on = selection.get("chosen_on")
    on_test = [head.test_accuracy is not None or head.test_loss is not None for head in record.heads]
    held_out = [head.held_out_accuracy is not None or head.held_out_loss is not None for head in record.heads]
    noted = any(note.startswith("selected on test") for note in record.notes)
    if not record.selected_on_test and (any(on_test) or chosen_on == "test" or noted):
        yield "its setting was chosen on the test split, and selected_on_test is false"
    if record.selected_on_test and (any(held_out) or chosen_on == "held-out"):
        yield "its setting was chosen on held-out samples, and selected_on_test is true"
    several = len(record.seeds) > 1 or selection.get("answer") == "mean"
    if sum(head.chosen for head in record.heads) > 1 and not several:
        yield "more than one setting of the sweep is the chosen one"


def _repeated(values: Iterable[Hashable]) -> Any:
    """The first value that is there more than once; None where each is there once."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _part(content: Any, key: str) -> dict[str, Any]:
    part = content.get(key)
    return part if isinstance(part, dict) else {}
