"""Dataset cards: what a task is. Schemas of datasets/*.yaml; bench.cards.load finds and reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.cards.fields import (
    AtLeastOne,
    CardPart,
    DataPath,
    Layers,
    Million,
    NotNegative,
    Rate,
    Seconds,
    Side,
    Thousand,
    parse_layers,
    without_usual,
)
from bench.cards.probe import Optimisation
from bench.core.types import Axis, Positive

Sampling = Literal["center", "random"]
Format = Literal["list", "kinetics", "ssv2", "imagenet", "inat", "diving48", "jester", "coin", "ucf101", "hmdb51"]
"""Official annotation formats; bench.data.formats.choice has the reader of each."""


_LEAST_STD = 1e-4
Classes = Annotated[int, Field(ge=2, le=10**6, strict=True)] | Annotated[tuple[str, ...], Field(min_length=2)]


class Anticipation(CardPart):
    """Clips that end before an action that is to be foreseen, and which actions count (protocol.md 3.6)."""

    seconds: Seconds = 1.0
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


class ClipProtocol(CardPart):
    """Which frames and crops of a video the encoder sees (protocol.md 3.2, 3.3)."""

    frames: Side | None = None
    """Frames of a clip; the encoder's own where empty."""
    step: Million | None = None
    """Frames of the video between two frames of a clip; the encoder's own where empty."""
    fps: Rate | None = None
    """Instead of `step`: frames of a clip per second of the video."""
    duration_s: Seconds | None = None
    """Instead of `step`: seconds that a clip spans."""
    segments: Thousand = 1
    """Clips spread over the video."""
    attend_across_segments: Annotated[bool, Field(strict=True)] = True
    """Whether a probe reads the tokens of all segments jointly. Otherwise it is trained on one clip of a video, and
    classifies each segment at test on its own; their probabilities are averaged (protocol.md 3.2, 4.3)."""
    views: Thousand = 1
    """Spatial crops of each clip at test, spread along the long side; their probabilities are averaged. Training uses
    one."""
    resolution: Side | None = None
    """Side of the square crop, pixels; the encoder's own where empty."""
    crop: Literal["official", "full"] = "official"
    """What one view shows: the centre crop that the weights were made for, which is 224/256 of the short side with the
    official ones, or the full short side."""
    sampling: Sampling = "center"
    """Position of the test clips in their segments: the middle, or drawn at random as the official code does."""
    mean: tuple[NotNegative, NotNegative, NotNegative] | None = None
    """What is subtracted from red, green and blue, which lie between 0 and 1; the encoder's own where empty."""
    std: tuple[Positive, Positive, Positive] | None = None
    """What the rest is divided by; the encoder's own where empty."""
    layers: Layers = None
    """Encoder layers, counted from 0, whose normed tokens the probe gets, joined: the same of every encoder, or by its
    number of layers; the last alone where empty (protocol.md 4.3)."""
    starts_s: NotNegative = 0.0
    """For boxes: second of the annotations' clock at which the video files begin; 900 for films cut at 15 minutes."""
    anticipation: Anticipation | None = None
    """Only for tasks whose samples are actions to be anticipated."""

    @field_validator("layers", mode="before")
    @classmethod
    def _layers_are_numbers(cls, value: Any) -> Any:
        return parse_layers(value)

    @field_validator("mean", "std")
    @classmethod
    def _of_values_up_to_1(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value and max(value) > 1:
            raise ValueError(f"pixel values are divided by 255 first: give three of 0 to 1, not {max(value):g}")
        return value

    @field_validator("std")
    @classmethod
    def _keeps_pixels_finite(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value and min(value) < _LEAST_STD:
            raise ValueError(f"{min(value):g} is below {_LEAST_STD:g}")
        return value

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> ClipProtocol:
        given = [name for name in ("step", "fps", "duration_s") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: leave one, set the others to null")
        if not self.attend_across_segments and self.segments == 1:
            raise ValueError("attend_across_segments: false means nothing for one segment, give clip.segments too")
        return self

    @model_serializer(mode="wrap")
    def _what_is_usual_goes_unsaid(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_usual(self, serialise(self), "attend_across_segments", "mean", "std")

    @property
    def normalisation(self) -> list[str]:
        """How it differs from the encoder's own: `mean 0.5,0.5,0.5`, `std 0.5,0.5,0.5`; empty where it does not."""
        given = {"mean": self.mean, "std": self.std}
        return [f"{name} {','.join(f'{value:g}' for value in values)}" for name, values in given.items() if values]


class AnnotationFiles(CardPart):
    """Under which names a split is looked for in the data folder and the folders directly below it, best first.

    Wildcards are allowed. A folder is read as one folder of files a class.
    """

    train: tuple[DataPath, ...] = ()
    test: tuple[DataPath, ...] = ()
    folders: tuple[DataPath, ...] = ()
    """Folders below the data folder where paths of lists may start; the data folder where none has the files."""


class BoxAnnotations(CardPart):
    """What the annotations of boxes in key frames mean, and under which names they are looked for."""

    action_ids: tuple[Million, ...] = Field(min_length=2)
    """Numbers of the classes in the annotation files, in the order of `classes`: those that are evaluated."""
    last_action_id: Million
    """Actions are numbered from 1 to this; those that are not evaluated are left out."""
    groups: dict[str, tuple[Million, Million]] = Field(default_factory=dict)
    """Groups of actions by name: their first and last number."""
    action_list: tuple[DataPath, ...] = ()
    """File of the evaluated classes, in place of the card's where it is there."""
    excluded: AnnotationFiles = AnnotationFiles()
    """Key frames that do not count."""
    included: AnnotationFiles = AnnotationFiles()
    """Seconds that count; all where there is no such file."""
    detections: tuple[DataPath, ...] = ()
    """Boxes that a detector found in the key frames of the test split, with scores."""
    frame_rate: Rate = 30.0
    """Frames per second of videos that are folders of frames."""


class ActionAnnotations(CardPart):
    """What the annotations of actions in long videos mean, and the files beside them. An action is a pair of a verb
    and a noun."""

    verbs: Million
    """Verb classes, numbered from 0."""
    nouns: Million
    verb_names: tuple[DataPath, ...] = ()
    """Names of the csv with the verbs' names, in the folder of the annotations; numbers where there is none."""
    noun_names: tuple[DataPath, ...] = ()
    video_info: DataPath = "EPIC_100_video_info.csv"
    """Name of the csv with the rates of the videos, there too: frame numbers take them."""


class SplitFolders(CardPart):
    """A folder of each split, relative to the data folder or to a folder directly below it."""

    train: DataPath
    test: DataPath


class MaskAnnotations(CardPart):
    """Where the masks of still images are, and what their values mean.

    A mask is a PNG of its image's size and name whose values are numbers of classes: grey, or with a palette. The
    images of a split are those that its list names (`annotations`), one name a line, or else all of its folder.
    """

    images: SplitFolders
    masks: SplitFolders
    void: Annotated[int, Field(ge=0, le=65535, strict=True)] = 255
    """Value of pixels that are of no class, and count nowhere."""
    zero: Literal["class", "void"] = "class"
    """What 0 is: the first class, or void like `void`; the first class then is 1."""

    @property
    def first(self) -> int:
        """Value of the first class."""
        return 1 if self.zero == "void" else 0

    def check(self, media: str, num_classes: int | None) -> None:
        """Raise ValueError where they do not fit the card that they are a section of."""
        if media != "image" or num_classes is None:
            raise ValueError("masks: they are of still images (media: image), and of so many classes")
        if self.first <= self.void < self.first + num_classes:
            raise ValueError(f"masks.void: {self.void} is the value of a class; give one beyond them")
        if {self.images.train, self.images.test} & {self.masks.train, self.masks.test}:
            raise ValueError("masks: images and masks have a folder each, or masks would be taken for images")


class Reference(CardPart):
    """A published score of the task."""

    model: str
    """The encoder: its name in `bench models` where it has one."""
    probe: str
    """The recipe that is nearest to the paper's."""
    clip: str
    """The clip protocol of `clips` that it was measured with."""
    value: float = Field(ge=0, le=100, strict=True)
    """In the unit of the metric: percent."""
    tolerance: Positive = 2.5
    """How far a faithful measurement may be from it, points. 2.5 because the one independent reproduction of V-JEPA's
    probes with a like protocol (2408.11318, Table 5) is 0.6 to 2.4 points from the authors' own numbers on K400, SSv2
    and ImageNet; what remains inside is copies of the data, random test positions, seeds and the choice of a head."""
    source: str
    """Paper and table, or README, as in results/published.csv."""


class VideoFacts(CardPart):
    """A typical video of a dataset, as its authors publish it: what an estimate without the data decodes."""

    width: Side
    """Pixels."""
    height: Side
    fps: Rate
    duration_s: Seconds


class TaskCard(CardPart):
    """What a task is: data, classes, axis, clip protocol, metric."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)
    title: str
    axis: Axis | None = None
    axis_source: str = ""
    """Who says that the task is about motion, appearance or anticipation."""
    data: Literal["digits", "lists", "boxes", "actions", "masks"] = "lists"
    """`lists`: annotation files of the user's; `digits`: the embedded dataset; `boxes`: a sample is a key frame;
    `actions`: a sample is an action in a long video, to be foreseen; `masks`: a sample is a still image, every pixel of
    which has a class."""
    boxes: BoxAnnotations | None = None
    """Annotations of a task whose samples are key frames."""
    actions: ActionAnnotations | None = None
    """Annotations of a task whose samples are actions."""
    masks: MaskAnnotations | None = None
    """Annotations of a task whose samples are images with masks."""
    format: Format = "list"
    """Official format of the annotations. Lists of `path label` lines are read for every task, whatever it is."""
    annotations: AnnotationFiles = AnnotationFiles()
    """Official names of the annotation files."""
    media: Literal["video", "image"] = "video"
    """What a sample is. A still image is shown as its weights want it: as it is, or repeated (protocol.md 3.4)."""
    label: Literal["motion", "digit"] | None = None
    """Which label of the embedded dataset."""
    train: DataPath = "train.csv"
    """Training list, relative to the data folder."""
    test: DataPath = "val.csv"
    """Test list, relative to the data folder."""
    classes: Classes | None = None
    """Number of classes, or their names in label order; taken from the lists where empty. Where a card states only the
    number, the annotation files may hold the names."""
    labels: Literal["from-0", "as-they-are"] = "from-0"
    """For lists whose card states no classes: "from-0" refuses labels of which the smallest is 1, as they seem to
    count from 1; "as-they-are" takes them."""
    clip: ClipProtocol = ClipProtocol()
    """The clip protocol that is used where the user names none."""
    clips: dict[str, ClipProtocol] = Field(default_factory=dict)
    """Clip protocols as papers report them, by name, for `--clip NAME`."""
    recipes: dict[str, Optimisation] = Field(default_factory=dict)
    """How shipped recipes are optimised on this task, where its paper's configuration differs from the recipe's card
    (protocol.md 5.2, 5.3)."""
    metric: Literal["top1", "frame-mAP@0.5", "action-recall@5", "mIoU"] = "top1"
    train_size: AtLeastOne | None = None
    """Official number of training samples."""
    test_size: AtLeastOne | None = None
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

    @model_serializer(mode="wrap")
    def _what_is_usual_goes_unsaid(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_usual(self, serialise(self), "labels", "masks")

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
        is_masks = self.data == "masks"
        if any(is_masks != said for said in (self.masks is not None, self.metric == "mIoU")):
            raise ValueError("masks: give it, and the metric mIoU, exactly where data is 'masks'")
        if self.masks:
            self.masks.check(self.media, self.num_classes)
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
