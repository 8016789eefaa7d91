"""Presets: everything that decides what a pretraining run learns, as data. Machine and place are not part of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.cards.fields import AtLeastOne, Million, NotNegative, Side, Thousand
from bench.core.errors import BenchError, nearest
from bench.core.inputs import PRESET, read_yaml
from bench.core.types import Positive
from bench.video.pretrain_views import Augmentation

_FOLDER = Path(__file__).resolve().parent / "cards"

Width = Annotated[int, Field(ge=1, le=4096, strict=True)]
"""Channels of a layer of a head."""
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Range = tuple[Positive, Positive]
ObjectiveName = Literal["features", "pixels", "contrast", "slow"]
MASKED: tuple[ObjectiveName, ...] = ("features", "pixels")
"""Objectives that hide tokens; the others compare two clips of each video."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderSpec(_Section):
    """The network that is trained."""

    size: str
    """A name of `bench.encoders.vjepa.SIZES`."""
    num_frames: Side
    resolution: Side
    """Height and width of a clip, pixels."""
    depth: Thousand | None = None
    """Number of blocks; the size's own where empty."""
    use_rope: bool = False
    """Rotary positions (V-JEPA 2) instead of the fixed sin-cos code (V-JEPA 1)."""
    init_std: Positive = 0.02
    """Deviation of the first weights."""
    patch_gain: Positive = 1.0
    """Factor on the first patch-embedding weights."""


class HeadSpec(_Section):
    """What the objective puts on the encoder: a predictor of hidden tokens, or a projection of whole clips."""

    embed_dim: Width = 384
    """Predictor: width."""
    depth: Thousand = 12
    """Predictor: number of blocks."""
    num_heads: Thousand | None = None
    """Predictor: attention heads; the encoder's number where empty."""
    hidden_dim: Width = 2048
    """Projection: width of the hidden layer."""
    out_dim: Width = 256
    """Projection: width of the space in which clips are compared."""


class ObjectiveOptions(_Section):
    """What can be varied inside an objective. The defaults are the papers'."""

    loss_exponent: Positive = 1.0
    """features: p of the loss mean |z - h|^p / p (protocol.md 7.1)."""
    target_layers: Thousand = 1
    """features: targets are the mean of this many last layers, each layer-normed (data2vec, arXiv 2202.03555)."""
    variance_weight: NotNegative = 0.0
    """features: weight of the term that keeps predictions apart over tokens (protocol.md 7.1)."""
    normalise_patches: bool = True
    """pixels: standardise the pixels of each patch and colour (VideoMAE, arXiv 2203.12602)."""
    temperature: Positive = 0.1
    """contrast: of the softmax over the batch (SimCLR, arXiv 2002.05709)."""
    invariance: NotNegative = 25.0
    """slow: weight of the distance between two clips of a video (VICReg, arXiv 2105.04906)."""
    spread: NotNegative = 25.0
    """slow: weight of the term that keeps every channel's standard deviation above 1."""
    decorrelation: NotNegative = 1.0
    """slow: weight of the term that keeps channels uncorrelated."""


class MaskSpec(_Section):
    """One kind of mask: the union of several blocks that span the same share of the frame and of the clip."""

    num_blocks: Thousand
    spatial_scale: Range = (0.15, 0.15)
    """Share of the frame that a block covers: lowest and highest."""
    temporal_scale: Range = (1.0, 1.0)
    """Share of the clip's length that a block spans: lowest and highest."""
    aspect_ratio: Range = (0.75, 1.5)
    """Height over width of a block: lowest and highest."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> MaskSpec:
        for name in ("spatial_scale", "temporal_scale", "aspect_ratio"):
            low, high = getattr(self, name)
            if low > high or (name != "aspect_ratio" and high > 1):
                raise ValueError(f"{name}: [{low}, {high}] is no range of shares, lowest first")
        return self


class DataSpec(_Section):
    """Which clips are drawn from the videos. The videos themselves are an argument of the command."""

    source: Literal["digits"] | None = None
    """`digits`: the embedded digits, generated without end, where no data is named."""
    frame_step: Million = 4
    """Frames of the video between two frames of a clip."""
    pad_short: bool = False
    """Whether videos shorter than a clip are padded with their last frame, as the papers do, or refused."""
    augmentation: Augmentation = Augmentation()
    max_failed: Share = 0.01
    """Largest share of the videos that may give no clip."""


class Optimisation(_Section):
    """Steps, batches and schedules (protocol.md 7.1, 7.2)."""

    epochs: Million
    steps_per_epoch: AtLeastOne = 300
    """An epoch is this many steps, whatever the number of videos."""
    global_batch: Million
    """Clips of a step, over all processes."""
    micro_batch: Annotated[int, Field(ge=1, le=4096, strict=True)]
    """Clips that are encoded together, cut to masks of one length, and compared with each other."""
    start_lr: NotNegative
    lr: Positive
    final_lr: NotNegative = 0.0
    warmup_epochs: NotNegative = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: a cosine to final_lr, or constant."""
    decay_epochs: NotNegative = 0.0
    """constant: the last epochs, over which lr falls to final_lr in a line."""
    stretch: Positive = 1.0
    """The cosines and the momentum are computed for this many times the run's length."""
    weight_decay: NotNegative
    final_weight_decay: NotNegative
    ema: Share
    """First momentum of the target encoder."""
    final_ema: Share
    clip_norm: Positive | None = None
    """Largest gradient norm, of the encoder and of the predictor each on its own."""
    clip_from_epoch: Annotated[int, Field(ge=0, le=10**6, strict=True)] = 0
    """First epoch, counted from 0, in which gradients are clipped."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step, over all processes."""
        return self.global_batch // self.micro_batch

    @model_validator(mode="after")
    def _batches_divide(self) -> Optimisation:
        if self.global_batch % self.micro_batch:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}")
        if self.stretch < 1:
            raise ValueError("stretch: at least 1")
        if self.warmup_epochs + self.decay_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} and decay_epochs {self.decay_epochs:g} are longer than the "
                f"run, epochs {self.epochs}"
            )
        return self


class Preset(_Section):
    """A recipe of pretraining."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)
    title: str
    objective: ObjectiveName = "features"
    encoder: EncoderSpec
    head: HeadSpec = HeadSpec()
    options: ObjectiveOptions = ObjectiveOptions()
    masks: tuple[MaskSpec, ...] = Field(min_length=1)
    data: DataSpec = DataSpec()
    optimisation: Optimisation
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere."""
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = 234
    keep_every: Million | None = None
    """Epochs between the checkpoints that are kept as epochNNN.pth.tar; only latest.pth.tar where empty."""

    @model_validator(mode="after")
    def _pairs_are_pairs(self) -> Preset:
        if self.objective not in MASKED and self.optimisation.micro_batch % 2:
            raise ValueError("micro_batch: even, since two clips of each video are compared")
        if self.objective not in MASKED and self.optimisation.micro_batch < 4:
            raise ValueError("micro_batch: at least 4, since clips are compared with those of other videos")
        return self

    @property
    def clips_per_video(self) -> int:
        """Clips that a draw gives."""
        return 1 if self.objective in MASKED else 2


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_preset(spec: str) -> Preset:
    """A preset by the name of a shipped one or the path of one's own. Raises BenchError naming the field at fault."""
    names = preset_names()
    path = _FOLDER / f"{spec}.yaml" if spec in names else Path(spec).expanduser()
    if spec not in names and not spec.endswith((".yaml", ".yml")):
        raise BenchError(f"unknown preset '{spec}'", where="--preset", fix=nearest(spec, names))
    try:
        content = read_yaml(path, PRESET)
    except OSError as error:
        raise BenchError(f"cannot be read ({error.strerror})", where=spec, fix=nearest(spec, names)) from error
    if not isinstance(content, dict):
        raise BenchError("a preset is a mapping of fields", where=str(path), fix="mend the preset")
    return validate(content, str(path))


def override(preset: Preset, settings: dict[str, Any]) -> Preset:
    """A copy with the values of `--set key=value` laid over it, validated again.

    A key is a field of the preset (`objective`, `seed`), `section.field` (`optimisation.lr`), or the name of a field
    that only one section has (`lr`).
    """
    content = preset.model_dump(mode="json")
    places = _places(content)
    for key, value in settings.items():
        if key not in places:
            raise BenchError(f"no setting '{key}'", where="--set", fix=nearest(key, places))
        home, name = places[key]
        home[name] = value
    return validate(content, "--set")


def difference(preset: Preset, other: Preset) -> list[str]:
    """The fields, as `section.field`, in which two presets differ."""
    one, two = (_flat(p.model_dump(mode="json")) for p in (preset, other))
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))


def _places(content: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """Key that a user may set -> where it is in the content. A short name that two sections have is none."""
    places: dict[str, tuple[dict[str, Any], str]] = {
        key: (content, key) for key, value in content.items() if not isinstance(value, dict) and key != "name"
    }
    short: dict[str, list[tuple[dict[str, Any], str]]] = {}
    sections = [(name, value) for name, value in content.items() if isinstance(value, dict)]
    sections.append(("augmentation", content["data"]["augmentation"]))
    for name, section in sections:
        for key in (key for key in section if not isinstance(section[key], dict)):
            places[f"{name}.{key}"] = (section, key)
            short.setdefault(key, []).append((section, key))
    return {**{key: homes[0] for key, homes in short.items() if len(homes) == 1}, **places}


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def validate(content: dict[str, Any], where: str) -> Preset:
    """The preset of a mapping. Raises BenchError naming the field at fault."""
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BenchError(f"unknown key '{field}'", where=where, fix="remove it, or check its spelling") from error
        message = first["msg"].removeprefix("Value error, ")
        raise BenchError(f"{field}: {message}" if field else message, where=where, fix="mend the value") from error
