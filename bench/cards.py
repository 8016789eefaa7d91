"""Dataset cards (tasks) and probe cards (recipes): their schemas, and lookup by name or path.

Cards hold facts only. An unknown key, a wrong type or an impossible value is an error that names the field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.errors import BenchError, nearest
from bench.files import content_folder
from bench.layers import Layers, parse_layers

Axis = Literal["motion", "appearance"]
Sampling = Literal["center", "random"]
Format = Literal["list", "kinetics", "ssv2", "imagenet", "inat", "diving48", "jester", "coin", "ucf101", "hmdb51"]
"""Official annotation formats; bench.annotations.formats has the reader of each."""

# Strict: YAML's `true` is no rate. An integer is a number all the same.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Anticipation(_Card):
    """Clips that end before an action that is to be foreseen, and which actions count (protocol.md 3.6)."""

    seconds: Positive = 1.0
    """From the end of the clip to the anchor."""
    anchor: Literal["before-start", "before-end"] = "before-start"
    """Start of the action, as the challenge asks, or its end, as the official code does."""
    times: Literal["timestamps", "frame-numbers"] = "timestamps"
    """Which columns say when the action is. The official code takes their frame numbers for those of the video, though
    they count whole 50 or 60 frames a second where most videos have 59.94: half an hour into a video, nearly two
    seconds too late."""
    unseen: Literal["counted", "left-out"] = "counted"
    """Whether test samples count whose pair of verb and noun no training sample has. The official code leaves them
    out."""
    tokens: Literal["encoder", "encoder+predictor"] = "encoder"
    """What the probe reads: the clip's tokens, or also those that the checkpoint's predictor expects `seconds` later
    (protocol.md 4.4)."""


class ClipProtocol(_Card):
    """Which frames and crops of a video the encoder sees (protocol.md 3.2, 3.3)."""

    frames: int | None = Field(default=None, ge=1)
    """Frames of a clip; the encoder's own where empty."""
    step: int | None = Field(default=None, ge=1)
    """Frames of the video between two frames of a clip; the encoder's own where empty."""
    fps: Positive | None = None
    """Instead of `step`: frames of a clip per second of the video."""
    duration_s: Positive | None = None
    """Instead of `step`: seconds that a clip spans."""
    segments: int = Field(default=1, ge=1)
    """Clips spread over the video; their tokens are attended jointly."""
    views: Literal[1, 3] = 1
    """Spatial crops of each clip at test; their probabilities are averaged. Training uses one."""
    resolution: int | None = Field(default=None, ge=1)
    """Side of the square crop, pixels; the encoder's own where empty."""
    crop: Literal["official", "full"] = "official"
    """What one view shows: the centre crop that the weights were made for, which is 224/256 of the short side with the
    official ones, or the full short side."""
    sampling: Sampling = "center"
    """Position of the test clips in their segments: the middle, or drawn at random as the official code does."""
    layers: Layers = None
    """Encoder layers, counted from 0, whose normed tokens the probe gets, joined: the same of every encoder, or by its
    number of layers; the last alone where empty (protocol.md 4.3)."""
    starts_s: NotNegative = 0.0
    """Of boxes: second of the annotations' clock at which the video files begin; 900 for films cut at 15 minutes."""
    anticipation: Anticipation | None = None
    """Of tasks of anticipation."""

    @field_validator("layers", mode="before")
    @classmethod
    def _layers_are_numbers(cls, value: Any) -> Any:
        return parse_layers(value)

    @model_validator(mode="after")
    def _one_pace(self) -> ClipProtocol:
        given = [name for name in ("step", "fps", "duration_s") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: leave one, set the others to null")
        return self


class AnnotationFiles(_Card):
    """Under which names a split is looked for in the data folder and the folders directly below it, best first.

    Wildcards are allowed. A folder is read as one folder of files a class.
    """

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    """Of lists: where below the data folder their paths may start; the data folder itself where none has the files."""


class BoxAnnotations(_Card):
    """What the annotations of boxes in key frames mean, and under which names they are looked for."""

    action_ids: tuple[AtLeastOne, ...] = Field(min_length=2)
    """Numbers of the classes in the annotation files, in the order of `classes`: those that are evaluated."""
    last_action_id: AtLeastOne
    """Actions are numbered from 1 to this; those that are not evaluated are left out."""
    groups: dict[str, tuple[AtLeastOne, AtLeastOne]] = {}
    """Groups of actions by name: their first and last number."""
    action_list: tuple[str, ...] = ()
    """File of the evaluated classes, in place of the card's where it is there."""
    excluded: AnnotationFiles = AnnotationFiles()
    """Key frames that do not count."""
    included: AnnotationFiles = AnnotationFiles()
    """Seconds that count; all where there is no such file."""
    detections: tuple[str, ...] = ()
    """Boxes that a detector found in the key frames of the test split, with scores."""
    frame_rate: Positive = 30.0
    """Frames per second of videos that are folders of frames."""


class ActionAnnotations(_Card):
    """What the annotations of actions in long videos mean, and the files beside them. An action is a pair of a verb
    and a noun."""

    verbs: AtLeastOne
    """Verb classes, numbered from 0."""
    nouns: AtLeastOne
    verb_names: tuple[str, ...] = ()
    """Names of the csv with the verbs' names, in the folder of the annotations; numbers where there is none."""
    noun_names: tuple[str, ...] = ()
    video_info: str = "EPIC_100_video_info.csv"
    """Name of the csv with the rates of the videos, there too: frame numbers take them."""


class Reference(_Card):
    """A published score of the task."""

    model: str
    """The encoder: its name in `bench models` where it has one."""
    probe: str
    """The recipe that is nearest to the paper's."""
    clip: str
    """The clip protocol of `clips` that it was measured with."""
    value: float = Field(ge=0, le=100)
    """In the unit of the metric: percent."""
    tolerance: float = Field(default=2.5, gt=0)
    """How far a faithful measurement may be from it, points. 2.5 because the one independent reproduction of V-JEPA's
    probes with a like protocol (2408.11318, Table 5) is 0.6 to 2.4 points from the authors' own numbers on K400, SSv2
    and ImageNet; what remains inside is copies of the data, random test positions, seeds and the choice of a head."""
    source: str
    """Paper and table, or README, as in results/published.csv."""


class VideoFacts(_Card):
    """A typical video of a dataset, as its authors publish it: what an estimate without the data decodes."""

    width: AtLeastOne
    """Pixels."""
    height: AtLeastOne
    fps: Positive
    duration_s: Positive


class TaskCard(_Card):
    """What a task is: data, classes, axis, clip protocol, metric."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)
    title: str
    axis: Axis | None = None
    axis_source: str = ""
    """Who says that the task is about motion, or about appearance."""
    data: Literal["digits", "lists", "boxes", "actions"] = "lists"
    """`lists`: annotation files of the user's; `digits`: the embedded dataset; `boxes`: a sample is a key frame;
    `actions`: a sample is an action in a long video, to be foreseen."""
    boxes: BoxAnnotations | None = None
    """Of tasks whose samples are key frames."""
    actions: ActionAnnotations | None = None
    """Of tasks whose samples are actions."""
    format: Format = "list"
    """Official format of the annotations. Lists of `path label` lines are read for every task, whatever it is."""
    annotations: AnnotationFiles = AnnotationFiles()
    """Official names of the annotation files."""
    media: Literal["video", "image"] = "video"
    """What a sample is. A still image is shown as its weights want it: as it is, or repeated (protocol.md 3.4)."""
    label: Literal["motion", "digit"] | None = None
    """Which label of the embedded dataset."""
    train: str = "train.csv"
    """Training list, relative to the data folder."""
    test: str = "val.csv"
    """Test list, relative to the data folder."""
    classes: Annotated[int, Field(ge=2, strict=True)] | Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Number of classes, or their names in label order; taken from the lists where empty. Where a card states only the
    number, the annotation files may hold the names."""
    clip: ClipProtocol = ClipProtocol()
    """The clip protocol that is used where the user names none."""
    clips: dict[str, ClipProtocol] = {}
    """Clip protocols as papers report them, by name, for `--clip NAME`."""
    metric: Literal["top1", "frame-mAP@0.5", "action-recall@5"] = "top1"
    train_size: int | None = Field(default=None, ge=1)
    """Official number of training samples."""
    test_size: int | None = Field(default=None, ge=1)
    """Official number of test samples."""
    video: VideoFacts | None = Field(default=None, exclude=True)
    """A typical video, for `bench estimate`. It decides no score: records and copies of the card do without it."""
    layout: str = ""
    """What a data folder looks like, for people."""
    licence: str = ""
    homepage: str = ""
    """Where the data are described and asked for."""
    access: str = ""
    """How to get the data, in a sentence."""
    references: tuple[Reference, ...] = ()
    """Published scores with the protocols of `clips`."""
    published_task: str | None = None
    """Name of the task in results/published.csv."""

    @model_validator(mode="after")
    def _digits_name_their_label(self) -> TaskCard:
        if (self.data == "digits") != (self.label is not None):
            raise ValueError("label: give it exactly where data is 'digits'")
        is_boxes = self.data == "boxes"
        if any(is_boxes != said for said in (self.boxes is not None, self.metric == "frame-mAP@0.5")):
            raise ValueError("boxes: give it, and the metric frame-mAP@0.5, exactly where data is 'boxes'")
        if self.boxes and (not isinstance(self.classes, tuple) or len(self.classes) != len(self.boxes.action_ids)):
            raise ValueError("boxes.action_ids: one number for each name of classes")
        is_actions = self.data == "actions"
        if any(is_actions != said for said in (self.actions is not None, self.metric == "action-recall@5")):
            raise ValueError("actions: give it, and the metric action-recall@5, exactly where data is 'actions'")
        for name, clip in {"clip": self.clip, **{f"clips.{name}": clip for name, clip in self.clips.items()}}.items():
            _check_anticipation(name, clip, needed=is_actions)
        if isinstance(self.classes, tuple) and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a name is given twice")
        unknown = [reference.clip for reference in self.references if reference.clip not in self.clips]
        if unknown:
            raise ValueError(f"references: no clip protocol '{unknown[0]}' in clips")
        return self

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the card states."""
        return self.classes if self.classes is None or isinstance(self.classes, int) else len(self.classes)


def _check_anticipation(name: str, clip: ClipProtocol, *, needed: bool) -> None:
    """Raise ValueError where a clip protocol does not fit a task of anticipation, or is one and the task is not."""
    if (clip.anticipation is not None) != needed:
        raise ValueError(f"{name}.anticipation: give it exactly where data is 'actions'")
    if needed and (clip.fps is None or clip.segments > 1 or clip.sampling != "center"):
        raise ValueError(f"{name}: clips before an action have fps, one segment, and no sampling")


class Optimisation(_Card):
    """How a probe is trained (protocol.md 5.1)."""

    epochs: int = Field(ge=1)
    min_steps: int = Field(default=1, ge=1)
    """Small sets are seen for more epochs, until at least this many optimiser steps are done."""
    batch_size: int = Field(ge=1)
    """Global batch, whatever the number of processes."""
    min_steps_per_epoch: int = Field(default=1, ge=1)
    """Small sets get smaller batches, so that an epoch has at least this many steps."""
    lr: tuple[Positive, ...] = Field(min_length=1)
    weight_decay: tuple[NotNegative, ...] = Field(min_length=1)
    """Every lr is trained with every weight decay."""
    start_lr_ratio: float = Field(default=1.0, gt=0)
    """First lr of the warm-up, as a share of lr."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    final_lr: float = Field(default=0.0, ge=0)
    final_weight_decay: NotNegative | None = None
    """Weight decay follows a cosine to this value; constant where empty."""
    decay_biases: bool = False
    """Whether biases and norms decay too (V-JEPA 2 does, V-JEPA 1 does not)."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest gradient norm of a probe; no clipping where empty."""

    @property
    def settings(self) -> list[tuple[float, float]]:
        """The sweep: (lr, weight decay), in order."""
        return [(lr, wd) for lr in self.lr for wd in self.weight_decay]


class Selection(_Card):
    """How one setting of a sweep is chosen. Never on the test split."""

    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training samples, stratified by class, that the choice is made on."""
    refit: bool = True
    """Whether the chosen setting is trained again on all training samples."""


class BoxReading(_Card):
    """What a probe reads of a box, by RoIAlign on the tokens of the whole frame (protocol.md 3.7)."""

    layers: AtLeastOne = 1
    """Layers of the encoder, joined channel by channel: the last, and every second one before it where there are that
    many, so that four of 24 are 18, 20, 22 and 24; V-JEPA 2.1 has four levels."""
    cells: AtLeastOne
    """A box is read on so many cells a side."""
    over_time: Literal["mean", "all"]
    """Whether the steps of time are averaged, or all are kept as tokens."""
    over_cells: Literal["mean", "max", "all"]
    """Whether the cells become one token, or all are kept."""
    test_boxes: Literal["detector", "ground-truth"] = "detector"
    """Where actions are looked for in test frames; `ground-truth` is an oracle that no detector reaches."""
    min_box_score: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.8
    """Detected boxes of a lower score are left out."""


class ProbeCard(_Card):
    """A recipe: what is trained on the tokens, and how."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)
    title: str
    kind: Literal["attentive", "linear", "knn"]
    num_blocks: int = Field(default=1, ge=1, strict=True)
    """Attentive probes: transformer blocks, the last of which pools. 1 is V-JEPA's probe, 4 that of V-JEPA 2."""
    version: int = Field(ge=1)
    """Raised with every change that changes scores; part of the protocol's name."""
    train_views: int = Field(default=1, ge=1)
    """Clips of each training video, at random positions where there is more than one."""
    augmentation: Literal["none", "official"] = "none"
    """How training clips are drawn: as test clips are, or at random places and augmented (protocol.md 3.3, 3.4)."""
    streaming: bool = False
    """Whether every epoch decodes and encodes the training clips anew, instead of reading them from the cache."""
    optimisation: Optimisation | None = None
    selection: Selection | None = None
    neighbours: tuple[AtLeastOne, ...] = ()
    """For knn: the values of k to choose from."""
    boxes: BoxReading | None = None
    """Of recipes for boxes in key frames, whose loss is the binary cross-entropy of every class on its own."""
    caveat: str = ""
    """What a reader of its scores must know; a footnote on the leaderboard."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> ProbeCard:
        if (self.optimisation is None) != (self.kind == "knn"):
            raise ValueError("optimisation: give it for attentive and linear, not for knn")
        if self.num_blocks > 1 and self.kind != "attentive":
            raise ValueError("num_blocks: only attentive probes have blocks")
        if bool(self.neighbours) != (self.kind == "knn"):
            raise ValueError("neighbours: give them exactly for knn")
        if self.selection is None and self.num_settings > 1:
            raise ValueError("selection: needed where there is more than one setting")
        if self.streaming and self.kind != "attentive":
            raise ValueError("streaming: only attentive probes are trained on streamed clips")
        if self.boxes and (self.kind == "knn" or self.num_blocks > 1 or self.streaming or self.augmentation != "none"):
            raise ValueError("boxes: only for linear and one-block attentive probes on cached, plain training clips")
        if self.streaming and self.train_views > 1:
            raise ValueError("train_views: a streaming recipe draws a fresh view in every epoch, so it has no number")
        return self

    @model_serializer(mode="wrap")
    def _usual_training_clips_go_unsaid(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Marks, keys and records of recipes without augmentation are those of before there was any.
        content: dict[str, Any] = serialise(self)
        for name in ("augmentation", "streaming", "boxes"):
            if content.get(name) == ProbeCard.model_fields[name].default:
                del content[name]
        return content

    @property
    def num_settings(self) -> int:
        """How many settings the sweep has."""
        return len(self.optimisation.settings) if self.optimisation else len(self.neighbours)


Card = TypeVar("Card", TaskCard, ProbeCard)


def task_names() -> list[str]:
    """Names of the shipped dataset cards."""
    return _names("datasets")


def probe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _names("probes")


def load_task(spec: str) -> TaskCard:
    """A task by the name of a shipped card or the path of one's own."""
    return _load(spec, TaskCard, "datasets", "task")


def load_probe_card(spec: str) -> ProbeCard:
    """A recipe by the name of a shipped card or the path of one's own."""
    return _load(spec, ProbeCard, "probes", "probe")


def with_clip(card: TaskCard, name: str | None) -> TaskCard:
    """The card with the clip protocol `name` of its `clips`; as it is where None. Raises BenchError for other names."""
    if name is None:
        return card
    if name not in card.clips:
        fix = nearest(name, card.clips) if card.clips else "drop --clip; --set clip.KEY=VALUE changes it"
        raise BenchError(f"task {card.name} has no clip protocol '{name}'", where="--clip", fix=fix)
    return card.model_copy(update={"clip": card.clips[name]})


def override(card: Card, prefix: str, settings: dict[str, Any]) -> Card:
    """A copy of `card` with the values of `--set PREFIX.key=value` laid over it, validated again.

    For a task, keys name fields of its `clip` section; for a recipe, fields of the recipe or of its sections.
    """
    content = card.model_dump()
    homes = _settable(card, content)
    for key, value in settings.items():
        if key not in homes:
            raise BenchError(f"no setting '{prefix}.{key}'", where="--set", fix=nearest(key, homes))
        many = isinstance(homes[key].get(key), tuple) and isinstance(value, int | float | str)
        homes[key][key] = [value] if many else value
    return _validate(content, type(card), f"--set {prefix}.*")


def replace(card: Card, changes: dict[str, Any], where: str) -> Card:
    """A copy of `card` with other top-level fields, validated again; `where` is what the user gave them with."""
    return _validate({**card.model_dump(), **changes}, type(card), where)


def _settable(card: Card, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Key -> the part of `content` that holds it, for every key that a user may set."""
    if isinstance(card, TaskCard):
        ending = content["clip"]["anticipation"] or {}
        return {**dict.fromkeys(ending, ending), **dict.fromkeys(content["clip"], content["clip"])}
    sections = [content[name] for name in ("optimisation", "selection", "boxes") if content.get(name)]
    homes = {key: section for section in sections for key in section}
    return {**homes, **dict.fromkeys(("train_views", "augmentation", "streaming", "neighbours"), content)}


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in content_folder(folder).glob("*.yaml"))


def _load(spec: str, kind: type[Card], folder: str, word: str) -> Card:
    names = _names(folder)
    if spec in names:
        path = content_folder(folder) / f"{spec}.yaml"
    elif spec.endswith((".yaml", ".yml")):
        path = Path(spec).expanduser()
        if not path.is_file():
            raise BenchError("no such card", where=spec, fix=f"give a path, or a {word}: {nearest(spec, names)}")
    else:
        raise BenchError(f"unknown {word} '{spec}'", fix=f"{nearest(spec, names)} `bench {word}s` lists them")
    try:
        # The same safe loader in C where PyYAML was built with it: cards with a thousand classes are slow without.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date such as 2026-99-99
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BenchError("not a YAML file", where=f"{path}{line}", fix="mend the card") from error
    if not isinstance(content, dict):
        raise BenchError("a card is a mapping of fields", where=str(path), fix="mend the card")
    return _validate(content, kind, str(path))


def _validate(content: dict[str, Any], kind: type[Card], where: str) -> Card:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BenchError(
                f"unknown key '{field}'",
                where=where,
                fix=nearest(str(first["loc"][-1]), _known(kind, first["loc"])),
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        fix = "change it" if where.startswith("--") else "mend the card"
        raise BenchError(f"{field}: {message}" if field else message, where=where, fix=fix) from error


def _known(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if part not in kind.model_fields:  # a position in a list, or a name that the user chose
            continue
        section = kind.model_fields[str(part)].annotation
        options = [section, *getattr(section, "__args__", ())]
        kind = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(kind.model_fields)
