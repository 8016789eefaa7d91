"""A released probe, scored without training: is it one for this task and encoder, and which class is which?

The order of the classes is settled by name where both sides have names. A side without names is refused where the
other has them, except for a released probe of this very task, whose order is that of the task's annotations unless it
is known to be private. Where that is not stated, or neither side has names, the order is taken on trust, and the record
says so. What is known of the official probe files, which say nothing of themselves, is in `released.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench.cards.fields import layers_name
from bench.core.errors import BenchError
from bench.probing.class_names import are_numbers, match, read_class_names
from bench.probing.files import load_probe, read_probe
from bench.probing.loaded import LoadedProbe
from bench.probing.scoring import FittedProbe


@dataclass(frozen=True, kw_only=True)
class GivenProbe:
    """What a run must know of the probe that it scores. Small enough to be sent to another process."""

    path: Path
    layout: str
    digest: str
    """SHA-256 of the head that is scored."""
    head: int
    """Which of the file's heads is scored: the first, because a choice by the test split would flatter it."""
    heads_in_file: int
    name: str
    """Where trained probes have the name of their recipe: probes that are not known to be alike share no column."""
    class_order: tuple[int, ...]
    """The number among the probe's outputs of each output that the task asks for."""
    class_order_source: str
    notes: tuple[str, ...]
    num_heads: int | None
    """Attention heads as given, or as its file, its width or the encoder says; None where it has none."""
    encoder: str | None
    """Digest of the encoder that the probe was trained on, where its file says so."""
    input_name: str | None
    """What that encoder saw, such as `16x224px step 4`."""

    def load(self) -> FittedProbe:
        """The head that is scored, on the CPU, in the place of a trained probe."""
        head = load_probe(self.path, num_heads=self.num_heads).heads[self.head]
        return FittedProbe(heads=[], chosen=0, steps=0, epochs=0, batch_size=0, num_held_out=0, seconds=0.0, probe=head)

    def in_task_order(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [n, C] of the probe's outputs -> of the task's classes."""
        return np.ascontiguousarray(probabilities[:, list(self.class_order)])


def describe_given(
    path: Path,
    classes: Path | None,
    *,
    task: str,
    class_names: Sequence[str],
    embed_dim: int,
    num_heads: int | None = None,
    encoder_heads: int | None = None,
    clip: Mapping[str, int | str],
    layers: tuple[int, ...] = (),
    before: tuple[int, ...] = (),
) -> GivenProbe:
    """The probe of a file, for this task. `classes` is the user's file of its class names; `clip` is what the encoder
    sees: frames, step, segments, resolution; `num_heads` is what the user says of the probe, `encoder_heads` what the
    encoder gives its probes; `layers` are those that the run reads, the last alone where empty; `before` are the
    outputs of the classifiers before that of the classes, such as those of verbs and nouns.

    Raises BenchError where the widths or the numbers of classes differ, the order of the classes is not known, or a
    released probe reads other layers.
    """
    probe = read_probe(path, num_heads=num_heads, encoder_heads=encoder_heads)
    _check_shape(probe, embed_dim, (*before, len(class_names)), task, path)
    released = find_released(path, probe)
    if released:
        refuse_other_layers(released, layers, path)
    names = _probe_names(probe, classes, path)
    order, source = class_order(task, tuple(class_names), names, released, path, trained_on=probe.metadata.get("task"))
    digest = probe.digest
    return GivenProbe(
        path=path,
        layout=probe.layout,
        digest=digest,
        head=0,
        heads_in_file=len(probe.heads),
        name=f"{released.release}-released" if released else f"weights#{digest[:6]}",
        class_order=(*range(sum(before)), *(sum(before) + place for place in order)),
        class_order_source=source,
        notes=tuple(_notes(path, probe, task, source, clip_differences(released, clip) if released else [])),
        num_heads=getattr(probe.heads[0], "num_heads", None),
        encoder=probe.metadata.get("encoder"),
        input_name=probe.metadata.get("input"),
    )


def _check_shape(probe: LoadedProbe, embed_dim: int, outputs: tuple[int, ...], task: str, path: Path) -> None:
    if probe.embed_dim != embed_dim:
        raise BenchError(
            f"the probe reads tokens of {probe.embed_dim} channels, and the encoder gives {embed_dim}",
            where=str(path),
            fix="give the encoder that the probe was trained on with --model",
        )
    if probe.outputs[:-1] != outputs[:-1]:
        theirs, ours = ("x".join(map(str, sizes)) for sizes in (probe.outputs, outputs))
        raise BenchError(
            f"the probe has classifiers of {theirs} outputs, and task {task} asks for {ours}",
            where=str(path),
            fix="give a probe of this task",
        )
    if probe.num_classes != outputs[-1]:
        raise BenchError(
            f"the probe tells {probe.num_classes} classes apart, and task {task} has {outputs[-1]}",
            where=str(path),
            fix="give a probe of this task, or state all classes of the task in a card",
        )


def class_order(
    task: str,
    task_names: tuple[str, ...],
    probe_names: tuple[str, ...] | None,
    released: ReleasedProbe | None,
    path: Path,
    *,
    trained_on: str | None = None,
) -> tuple[tuple[int, ...], str]:
    """The number among the probe's classes of each class of the task, and how it is known. `probe_names` is None where
    the probe has none; `trained_on` is the task that a file of our own states.

    Raises BenchError that says what to provide where it is not known.
    """
    as_they_are = tuple(range(len(task_names)))
    task_is_named = not are_numbers(task_names)
    if task_is_named and probe_names is not None:
        return match(task_names, probe_names, where=str(path)), "by class name"
    if released and released.order == "official" and released.task == task:
        return as_they_are, f"the labels of {task}'s annotations, as its authors state for {path.name}"
    if probe_names is None and released and released.order == "unknown" and released.task == task:
        return as_they_are, f"the labels of {task}'s annotations, on trust: its authors do not state it"
    if probe_names is not None:
        raise BenchError(
            f"the probe names its classes ('{probe_names[0]}', ...) and task {task} does not, so that their order "
            "cannot be compared",
            where=str(path),
            fix="give a card of the task with `classes: [NAME, ...]` in label order",
        )
    private = released is not None and released.order == "private"
    if task_is_named or private:
        card = "" if task_is_named else ", and a card of the task with `classes: [NAME, ...]`"
        raise BenchError(
            f"the order of the probe's classes is {'private' if private else 'not known'}: its file has no names",
            where=str(path),
            fix=f"give the names, one a line in the probe's order, with --probe-classes FILE{card}",
        )
    if trained_on == task != "custom":  # a name that unlike lists share
        return as_they_are, "that of its training on this task"
    return as_they_are, "taken on trust, as neither the probe nor the task names them"


def _probe_names(probe: LoadedProbe, classes: Path | None, path: Path) -> tuple[str, ...] | None:
    if classes is None:
        return probe.class_names
    names = read_class_names(classes)
    if len(names) != probe.num_classes:
        raise BenchError(
            f"{len(names)} class names for a probe of {probe.num_classes} classes",
            where=str(classes),
            fix=f"name every class of {path.name}, in its order",
        )
    return names


def _notes(path: Path, probe: LoadedProbe, task: str, source: str, differences: list[str]) -> list[str]:
    notes = [f"the probe was given, not trained: {path.name} ({probe.layout}); order of its classes: {source}"]
    if probe.metadata.get("task", task) != task:
        notes.append(f"{path.name} was trained on task {probe.metadata['task']}")
    if len(probe.heads) > 1:
        notes.append(f"the first of {len(probe.heads)} heads in {path.name}; the others were not looked at")
    if differences:
        notes.append(f"{path.name} was trained on other clips: here {', '.join(differences)}")
    return notes + [f"{path.name}: {note}" for note in probe.notes]


class ReleasedClip(BaseModel):
    """What a released probe was trained on; None where it depends on the encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    frames: int | None = None
    step: int | None = None
    segments: int | None = None
    resolution: int | None = None


class ReleasedProbe(BaseModel):
    """One entry of the table; see its head."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: Literal["vjepa1", "vjepa2"]
    task: str
    classes: int
    widths: tuple[int, ...]
    order: Literal["official", "private", "unknown"]
    layers: tuple[int, ...] = ()
    clip: ReleasedClip = ReleasedClip()


@cache
def released_probes() -> dict[str, ReleasedProbe]:
    """The table, by file name."""
    content = yaml.safe_load((Path(__file__).resolve().parent / "released.yaml").read_text(encoding="utf-8"))
    return {file: ReleasedProbe.model_validate(facts) for file, facts in content.items()}


def find_released(path: Path, probe: LoadedProbe) -> ReleasedProbe | None:
    """The entry of a file by its name, where layout, classes and width are those of the entry too."""
    facts = released_probes().get(path.name)
    if facts is None or probe.layout != {"vjepa1": "V-JEPA 1", "vjepa2": "V-JEPA 2"}[facts.release]:
        return None
    return facts if probe.num_classes == facts.classes and probe.embed_dim in facts.widths else None


def refuse_other_layers(facts: ReleasedProbe, layers: tuple[int, ...], path: Path) -> None:
    """Raise BenchError where a run reads other `layers` than the probe was trained on: its score would mean nothing."""
    if facts.layers != layers:
        theirs, ours = (layers_name(some) or "the last layer alone" for some in (facts.layers, layers))
        raise BenchError(
            f"this probe reads {theirs} of the encoder, and the run gives it {ours}",
            where=str(path),
            fix=f"say --set clip.layers={','.join(map(str, facts.layers)) or 'null'}",
        )


def clip_differences(facts: ReleasedProbe, clip: Mapping[str, int | str]) -> list[str]:
    """How `clip` (frames, step, segments, resolution) differs from what the probe was trained on, in words."""
    trained = facts.clip.model_dump(exclude_none=True) if clip else {}
    return [f"{name} {clip[name]} instead of {value}" for name, value in trained.items() if clip[name] != value]
