"""What a board needs of a record, everything but sweeps, class names and lists of failures, small enough to index; and
what encoders are called.

A model's name is no identity: two pretrainings both leave an `e100.pt`. Where several weights bear one name, the
folders of their files distinguish them, as far as they do; then the digests.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.metrics.score import Score
from bench.records.schema import Cost, Record
from bench.records.tables.outcomes import Outcomes

if TYPE_CHECKING:
    from bench.records.schema import Record


Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Summary:
    """One record, shortened. Fields that a record has too mean the same here."""

    run_id: str
    created: str
    moment: float
    """`created` as seconds since 1970: comparable between records."""
    task: str
    axis: str | None
    model: str
    probe: str
    protocol: str
    seed: int
    seeds: tuple[int, ...]
    input: str
    num_train: int
    num_unread: int
    """Training samples that could not be read."""
    selected_on_test: bool
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    digests: Mapping[str, str]
    device: str
    """What the encoder ran on, such as `cpu` or `cuda:0`; empty where the record does not say."""
    dataset: str
    """What the task's samples are taken from: `digits`, the task's name among published scores, or its own name."""
    spec: str
    """What `--model` named, such as a path or a name of the catalog."""
    place: str
    """Path of the weights as it was given, without its suffix; empty for weights that are no file."""
    weights_file: str
    """File name of weights that were made elsewhere; empty for others."""
    cost: Cost
    path: Path | None = None
    """The record's file."""
    outcomes: tuple[Outcomes, ...] = ()
    """Which test samples every probe got right; empty where the metric has no outcome for each sample."""
    resampled: Mapping[str, tuple[str, list[tuple[float, str]]]] = field(default_factory=dict)
    """Other metrics: by name, the digest of the samples, and of every probe its score and the numbers of a
    `bench.metrics.resample.Resampled`."""
    doubts: tuple[str, ...] = ()
    """What is said of the record, beside its scores, and does not fit; or why its scores could not be made anew."""

    @property
    def where(self) -> str:
        """What errors call the record."""
        return str(self.path) if self.path else self.run_id

    def same_record(self, other: Summary) -> bool:
        """Whether both are copies of one record with the same answers, wherever they lie."""
        answers = [[(probe.samples, probe.right) for probe in one.outcomes] for one in (self, other)]
        return (answers[0], self.resampled, self.content) == (answers[1], other.resampled, other.content)

    @property
    def content(self) -> Summary:
        """What the record alone says, wherever it lies."""
        return replace(self, path=None, outcomes=(), resampled={}, doubts=())


def summarise(record: Record) -> Summary:
    """A record, shortened."""
    return Summary(
        run_id=record.run_id,
        created=record.created,
        moment=record.moment.timestamp(),
        task=record.task,
        axis=record.axis,
        model=record.model,
        probe=record.probe,
        protocol=record.protocol,
        seed=record.seed,
        seeds=tuple(record.seeds),
        input=record.input,
        num_train=record.num_train,
        num_unread=sum(failure.split == "train" for failure in record.failures),
        selected_on_test=record.selected_on_test,
        scores=tuple(record.scores),
        notes=tuple(record.notes),
        digests=record.digests,
        device=str(record.hardware.get("device", "")),
        dataset=_dataset(record),
        spec=given_spec(record),
        place=weights_place(record),
        weights_file=_weights_file(record),
        cost=record.cost,
    )


def to_text(summary: Summary) -> str:
    """A summary as JSON, without its path and outcomes."""
    content = {part.name: getattr(summary, part.name) for part in fields(Summary)}
    del content["path"], content["outcomes"]
    content["scores"] = [score.model_dump() for score in summary.scores]
    return json.dumps({**content, "cost": summary.cost.model_dump()})


def from_text(text: str, path: Path, outcomes: tuple[Outcomes, ...]) -> Summary:
    """A summary from what `to_text` made, and where its record lies. The text is not checked again."""
    content = json.loads(text)
    content["scores"] = tuple(Score.model_construct(**score) for score in content["scores"])
    content["resampled"] = {
        metric: (samples, [(value, numbers) for value, numbers in seeds])
        for metric, (samples, seeds) in content["resampled"].items()
    }
    content["seeds"] = tuple(content["seeds"])
    content["notes"], content["doubts"] = tuple(content["notes"]), tuple(content["doubts"])
    content["cost"] = Cost.model_construct(**content["cost"])
    return Summary(**content, path=path, outcomes=outcomes)


def _dataset(record: Record) -> str:
    task = _section(record.resolved, "task")
    return "digits" if task.get("data") == "digits" else str(task.get("published_task") or record.task)


def _weights_file(record: Record) -> str:
    report = _section(_section(record.resolved, "encoder"), "report")
    # Files that this project's pretraining wrote name their objective; no name makes them official ones.
    return "" if "objective" in report else str(report.get("file", ""))


def _section(content: Any, key: str) -> dict[str, Any]:
    section = content.get(key)
    return section if isinstance(section, dict) else {}


Identity = tuple[str, str, str]
"""Name of the model, digest of its weights, input."""
_SUFFIX = re.compile(r"(\.pth\.tar|\.[^./]+)$")
_HUGGING_FACE = "hf:"


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts vit2 before vit10."""
    parts = re.split(r"([0-9]+)", text.lower())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def given_spec(record: Record) -> str:
    """What `--model` named, without the name that the user gave it."""
    return str(record.arguments.get("model", "")).removeprefix(f"{record.model}=")


def weights_place(record: Record) -> str:
    """The path of the weights as it was given, without its suffix: `runA/e100` of the model `e100`.

    Empty for weights that are no file or folder, and for a row that the user named.
    """
    if record.arguments.get("model") != given_spec(record):
        return ""
    prefix = _HUGGING_FACE if record.model.startswith(_HUGGING_FACE) else ""
    path = posixpath.normpath(given_spec(record).removeprefix(prefix))
    name = record.model.removeprefix(prefix)
    whole = next((known for known in (path, _SUFFIX.sub("", path)) if ends_with(known, name)), "")
    return prefix + whole if whole else ""


def ends_with(place: str, name: str) -> bool:
    """Whether a path is, or ends with, whole parts `name`."""
    return f"/{place}".endswith(f"/{name}")


def is_called(model: str, place: str, name: str) -> bool:
    """Whether a name means this model: it is the model's, or the end of the path of its weights."""
    prefix = _HUGGING_FACE if place.startswith(_HUGGING_FACE) and name.startswith(_HUGGING_FACE) else ""
    return name == model or (bool(place) and ends_with(place.removeprefix(prefix), name.removeprefix(prefix)))


def names(encoders: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """The name of each (model, digest), from (model, digest, place of the weights): the model's where it has one set of
    weights or one place only, else with the fewest folders that no other place ends with. Later places count."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for model, digest, place in encoders:
        places[model][digest] = place
    return {
        (model, digest): _shortest(model, place, [other for other in of_model.values() if other != place])
        for model, of_model in places.items()
        for digest, place in of_model.items()
    }


def _shortest(model: str, place: str, others: Sequence[str]) -> str:
    prefix = _HUGGING_FACE if place.startswith(_HUGGING_FACE) else ""
    parts = place.removeprefix(prefix).split("/")
    if not others or not place:
        return model
    for count in range(model.count("/") + 1, len(parts) + 1):
        name = "/".join(parts[-count:])
        if not any(ends_with(other.removeprefix(prefix), name) for other in others):
            return prefix + name
    return model


def identity(record: Summary) -> Identity:
    """What a row of a leaderboard is."""
    return record.model, record.digests.get("encoder", ""), record.input


def labels(records: Sequence[Summary]) -> dict[Identity, str]:
    """What each encoder is called: its name, with input and weights where the name is there more than once.

    One set of weights that saw several inputs on the same task is several rows; where only the tasks differ
    in their input, it is one.
    """
    inputs: dict[Any, set[str]] = defaultdict(set)
    for record in records:
        inputs[record.model, record.digests.get("encoder", ""), record.task, record.probe].add(record.input)
    split = {(model, digest) for (model, digest, *_), seen in inputs.items() if len(seen) > 1}
    called = names((record.model, record.digests.get("encoder", ""), record.place) for record in records)
    members: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model, digest, shape in map(identity, records):
        members[called[model, digest]][model, digest, shape if (model, digest) in split else ""].add(shape)
    return {
        (model, digest, shape): label
        for name, rows in members.items()
        for (model, digest, _), (label, shapes) in _told_apart(name, rows).items()
        for shape in shapes
    }


def _told_apart(name: str, rows: Mapping[Any, set[str]]) -> dict[Any, tuple[str, set[str]]]:
    """The label of each row of one name, and its inputs."""
    shown = {row: "/".join(sorted(shapes, key=natural)) for row, shapes in rows.items()}
    found = {}
    for row, shapes in rows.items():
        parts = [shown[row]] if len(set(shown.values())) > 1 else []
        parts += [f"weights {row[1][:7]}"] if list(shown.values()).count(shown[row]) > 1 else []
        found[row] = (f"{name} ({', '.join(parts)})" if parts else name, shapes)
    return found


def probe_seeds(record: Record | Summary) -> tuple[int, ...]:
    """The numbers of a run's probe seeds, at least one; older records name the one seed alone."""
    return tuple(record.seeds) or (record.seed,)


def of_other_seeds(entries: Sequence[Entry], seeds: Callable[[Entry], Sequence[int]]) -> list[Entry]:
    """Of entries, oldest first, those that share no probe seed, for a seed that two of them trained would count twice.

    Those of more seeds are kept first, then newer ones. They come in order of their seeds.
    """
    kept: list[Entry] = []
    taken: set[int] = set()
    newest_first = entries[::-1]
    for entry in sorted(newest_first, key=lambda one: -len(seeds(one))):
        if taken.isdisjoint(seeds(entry)):
            kept.append(entry)
            taken.update(seeds(entry))
    return sorted(kept, key=lambda one: min(seeds(one)))
