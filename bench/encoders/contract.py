"""What every encoder offers: frozen, in eval mode, clips [B, 3, T, H, W] -> tokens [B, N, D].

A clip of one frame is a still image. `EncoderFacts.still_frames` says how the encoder is shown it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
from bench.core.tensors import weights_digest
from bench.core.types import Precision
from bench.encoders.attention import SHORT, CompiledModule, slices
from bench.video.views import OFFICIAL_CROP, Interpolation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

MOST_TOKENS = 1 << 20
"""Most tokens of a clip. Released encoders see 18,432; a file that states more than this is damaged."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input that the weights were made for. Preprocessing belongs to the weights, not to the user."""

    num_frames: int
    resolution: int
    """Side of the square view, pixels."""
    frame_step: int = 4
    """Frames of the source video between two frames of a clip."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "opencv-bilinear"
    crop: float = OFFICIAL_CROP
    """Share of the short side that the one centre view shows, above 0 to 1: frames are resized to a short side of
    floor(resolution / crop) pixels before the crop."""
    squash: bool = False
    """Whether frames are resized to a square, whatever their shape, before that crop."""


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What is known of an encoder before its weights are read."""

    name: str
    embed_dim: int
    num_heads: int
    """Heads that its probes get."""
    patch_size: int
    tubelet_size: int
    input_spec: InputSpec
    architecture: Mapping[str, Any]
    layer_indices: tuple[int, ...] = ()
    """Layers, counted from 0, that `Encoder.layers` can be asked for; none where the encoder has no layers."""
    out_layers: tuple[int, ...] = ()
    """Layers whose tokens a call gives, one layer after another along the sequence; empty for the last alone.
    `reading` sets it."""
    still_frames: int | None = None
    """Frames that a still image is repeated to: 1 where the encoder takes it as it is, none for one tubelet."""
    special_tokens: int = 0
    """Tokens beside the patches (class, registers) that each step of the grid's time begins with."""
    predicted_steps: int = 0
    """Steps of time after the clip whose tokens are predicted, and follow the clip's."""
    fixed_num_frames: bool = False
    """Whether clips must have the frames of `input_spec`."""
    fixed_resolution: bool = False
    """Whether clips must have the resolution of `input_spec`."""
    flops_per_token: float | None = None
    """Floating-point operations of a forward pass for each token; None for a transformer that `architecture` tells."""
    weights: Mapping[str, Any] = field(default_factory=dict)
    """What was read from a file of weights: family, key, prefix of names, heads, notes; empty without a file."""

    def __post_init__(self) -> None:
        spec = self.input_spec
        tokens = spec.num_frames * spec.resolution**2 // (self.tubelet_size * self.patch_size**2)
        if tokens > MOST_TOKENS:
            raise BenchError(
                f"is made for clips of {spec.num_frames} frames of {spec.resolution} px, {tokens:,} tokens",
                where=f"model {self.name}",
                fix="correct the frames and the resolution that its configuration states",
            )

    @property
    def depth(self) -> int:
        """Layers up to the last that can be asked for; 0 where there are none."""
        return max(self.layer_indices, default=-1) + 1

    def reading(self, layers: Sequence[int]) -> EncoderFacts:
        """These facts for the tokens of `layers`, joined along the sequence; of the last alone where none is named.

        Raises BenchError for a layer that does not exist, and for an encoder without layers.
        """
        if layers:
            self.check_layers(layers)
        return replace(self, out_layers=() if tuple(layers) == self.layer_indices[-1:] else tuple(layers))

    def normalising(
        self, mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
    ) -> EncoderFacts:
        """These facts for clips that are normalised by other numbers than the weights' own, which stay where None."""
        spec = self.input_spec
        return replace(self, input_spec=replace(spec, mean=mean or spec.mean, std=std or spec.std))

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise BenchError unless `Encoder.layers` can be asked for these."""
        known = self.layer_indices
        wrong = [index for index in layers if index not in known]
        if wrong or not known:
            raise BenchError(
                f"has no layer {wrong[0]}" if known else "has no layers to choose from",
                where=f"model {self.name}",
                fix=f"its layers are {', '.join(map(str, known))}; choose some with --set clip.layers=A,B"
                if known
                else "use its tokens as they are: --set clip.layers=null",
            )

    def shown_frames(self, num_frames: int) -> int:
        """Frames that the encoder sees of a clip: all, and `still_frames` of a still image."""
        return (self.still_frames or self.tubelet_size) if num_frames == 1 else num_frames

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The (t, h, w) token grid of a clip; of a still image, that of the frames it is repeated to.

        Raises BenchError where the sizes do not divide into patches, or are not those that the encoder is bound to.
        """
        frames = self.shown_frames(num_frames)
        spec = self.input_spec
        if self.fixed_num_frames and frames != spec.num_frames:
            raise BenchError(
                f"takes clips of {spec.num_frames} frames, not {frames}",
                where=f"model {self.name}",
                fix=f"leave clip.frames out, or say --set clip.frames={spec.num_frames}",
            )
        if self.fixed_resolution and not height == width == spec.resolution:
            raise BenchError(
                f"takes {spec.resolution}x{spec.resolution} pixels, not {height}x{width}",
                where=f"model {self.name}",
                fix=f"leave clip.resolution out, or say --set clip.resolution={spec.resolution}",
            )
        tubelet_size = min(frames, self.tubelet_size) if num_frames == 1 else self.tubelet_size
        if frames % tubelet_size or height % self.patch_size or width % self.patch_size:
            raise BenchError(
                f"clips of {num_frames} frames, {height}x{width} pixels do not divide into patches of "
                f"{self.tubelet_size} frames, {self.patch_size}x{self.patch_size} pixels",
                where=f"model {self.name}",
                fix="choose other frames or resolution with --set clip.frames=... --set clip.resolution=...",
            )
        return frames // tubelet_size, height // self.patch_size, width // self.patch_size

    def num_tokens(self, num_frames: int, height: int, width: int) -> int:
        """Tokens N of a clip: t * (special tokens + h * w) of every layer that is read, and predicted steps. Raises
        BenchError as `grid`."""
        t, h, w = self.grid(num_frames, height, width)
        return (t + self.predicted_steps) * (self.special_tokens + h * w) * max(1, len(self.out_layers))

    def flops(self, num_tokens: int) -> float:
        """Multiply-adds x 2 of one clip of N tokens: as measured, or projections and attention of a transformer, or 0
        without one. Tokens of several layers are computed on the way to the last."""
        num_tokens //= max(1, len(self.out_layers))
        if self.flops_per_token is not None:
            return self.flops_per_token * num_tokens
        depth, mlp_dim = int(self.architecture.get("depth", 0)), int(self.architecture.get("mlp_dim", 0))
        return transformer_flops(depth, self.embed_dim, mlp_dim, num_tokens)


class Encoder:
    """A frozen encoder: any module that maps clips to tokens, with what the rest of the suite must know of it.

    `digest` is the SHA-256 of architecture and weights (64 hex digits), of a user's own encoder also of its answer to
    the known clips (`known_by`); `report` says what was loaded from where.
    """

    def __init__(self, facts: EncoderFacts, module: nn.Module, *, report: Mapping[str, Any] | None = None) -> None:
        self.facts = facts
        self.module = module.eval().requires_grad_(False)
        self.weights_digest = self.digest = weights_digest(module, facts.architecture)
        self.code = ""
        """SHA-256 of the source of a user's own encoder, which is part of the key of its features; empty for others."""
        self.token_scale = 1.0
        """A power of two that the module's tokens are multiplied by, so that half precision can hold them."""
        self.report = dict(report or {})
        self.precision: Precision = "fp32"
        self.device = torch.device("cpu")
        self.is_compiled = False
        self._called: _Called = cast(_Called, self.module)

    @property
    def name(self) -> str:
        """Name on the leaderboard."""
        return self.facts.name

    @property
    def embed_dim(self) -> int:
        """Width D of a token."""
        return self.facts.embed_dim

    @property
    def num_heads(self) -> int:
        """Heads that its probes get."""
        return self.facts.num_heads

    @property
    def input_spec(self) -> InputSpec:
        """The input that the weights were made for."""
        return self.facts.input_spec

    @property
    def key_fields(self) -> dict[str, Any]:
        """What names the encoder in the key of features."""
        return {"encoder": self.digest, **({"code": self.code} if self.code else {})}

    def known_by(self, answer: str, code: str, token_scale: float) -> Encoder:
        """This encoder as one whose digest tells its `answer` to the known clips too, so that other code is another
        encoder; with the digest of that code, and the scale of its tokens. Returns itself."""
        self.digest = text_digest(f"{self.weights_digest} {answer} {token_scale:g}")
        self.code, self.token_scale = code, token_scale
        self.report |= {"code": code, "token_scale": token_scale}
        return self

    def unscaled(self) -> Encoder:
        """The encoder with tokens as its module gives them, for a probe that was trained on such; another digest."""
        other = copy(self)
        other.token_scale = 1.0
        other.digest = text_digest(f"{self.digest} unscaled")
        other.report = {**self.report, "token_scale": 1.0}
        return other

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The (t, h, w) token grid of a clip; see `EncoderFacts.grid`."""
        return self.facts.grid(num_frames, height, width)

    def to(self, device: str | torch.device, precision: Precision = "fp32") -> Encoder:
        """Move the encoder; `precision` bf16 or fp16 runs it under autocast. Returns itself."""
        self.device = torch.device(device)
        self.module.to(self.device)
        self.precision = precision
        return self

    def reading(self, layers: Sequence[int]) -> Encoder:
        """The same weights as an encoder whose call gives the tokens of these layers; see `EncoderFacts.reading`."""
        other = copy(self)
        other.facts = self.facts.reading(layers)
        return other

    def as_planned(self, facts: EncoderFacts) -> Encoder:
        """The same weights as an encoder that gives the tokens of the layers, and is shown clips normalised, that these
        facts say; they are its own, `reading` and `normalising`."""
        other = self.reading(facts.out_layers)
        other.facts = other.facts.normalising(facts.input_spec.mean, facts.input_spec.std)
        return other

    def compiled(self, batch_size: int) -> Encoder:
        """The same weights under torch.compile, for batches of this size; smaller ones are filled up.

        It is compiled when it is called first, which raises BenchError where it cannot be.
        """
        other = copy(self)
        other._called, other.is_compiled = CompiledModule(self.module, batch_size), True
        return other

    def without_weights(self) -> Encoder:
        """What is known of the encoder, which can no longer be called: many of them fit the memory."""
        other = copy(self)
        other.module = nn.Module()
        other._called = cast(_Called, other.module)
        return other

    def rounding(self, num_tokens: int) -> dict[str, Any]:
        """What decides the last bits of the N tokens of a clip besides the precision; empty where nothing does.

        Fields of the key of features, so that tokens of one space are rounded alike.
        """
        fields: dict[str, Any] = {"compiled": True} if self.is_compiled else {}
        tokens_of_a_layer = num_tokens // max(1, len(self.facts.out_layers))
        if tokens_of_a_layer > SHORT and slices(self.device, _DTYPES[self.precision]):
            sliced = any(getattr(part, "attention_in_slices", False) for part in self.module.modules())
            fields |= {"attention": "slices"} if sliced else {}
        return fields

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """Encode normalised clips [B, 3, T, H, W] (moved to the encoder's device) to tokens [B, N, D], float32.

        A still image is a clip of one frame. N is `facts.num_tokens(T, H, W)`; tokens of several layers
        (`facts.out_layers`) follow each other layer by layer.
        """
        if self.facts.out_layers:
            tokens = torch.cat(self.layers(clips, self.facts.out_layers), dim=1)
        else:
            shown = self._shown(clips)
            with self._autocast():
                tokens = self._scaled(self._called(shown))
        expected = (len(clips), self.facts.num_tokens(*clips.shape[2:]), self.embed_dim)
        if tokens.shape != expected:
            raise BenchError(
                f"gives tokens {list(tokens.shape)} of clips {list(clips.shape)}, its facts promise {list(expected)}",
                where=f"model {self.name}",
                fix="correct the encoder or its facts: patch_size, tubelet_size, special_tokens, embed_dim",
            )
        return tokens

    @torch.inference_mode()
    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """The normed tokens of several layers, a list of [B, N, D] float32 in the order of `out_layers`.

        Layers are counted from 0; `facts.layer_indices` are those there are. V-JEPA 1 and 2 apply their final norm to
        every layer, V-JEPA 2.1 has a norm for each of its four levels (protocol.md 1.1, 1.4). `clips` as for a call.
        Raises BenchError for a layer that does not exist, and for an encoder without layers.
        """
        self.facts.check_layers(out_layers)
        shown = self._shown(clips)
        with self._autocast():
            outputs = self._called.layers(shown, out_layers)
        return [self._scaled(tokens) for tokens in outputs]

    def _scaled(self, tokens: Tensor) -> Tensor:
        """What the module gives, in float32 and at `token_scale`."""
        return tokens.float() if self.token_scale == 1 else tokens.float() * self.token_scale

    def _shown(self, clips: Tensor) -> Tensor:
        """What the module gets of `clips`: on its device, still images repeated. Raises BenchError for other shapes."""
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise BenchError(f"an encoder takes clips [B, 3, T, H, W], not {list(clips.shape)}")
        self.grid(*clips.shape[2:])
        clips = clips.to(self.device, dtype=torch.float32)
        return clips.expand(-1, -1, self.facts.shown_frames(clips.shape[2]), -1, -1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32")


class _Called(Protocol):
    """A module; that of an encoder with layers has `layers` too."""

    def __call__(self, clips: Tensor) -> Tensor: ...

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]: ...


def describe_weights(read: Mapping[str, Any]) -> str:
    """What was read of a file (`EncoderFacts.weights`), in words; its notes apart."""
    prefix = f", prefix {read['prefix']}" if read["prefix"] else ""
    return f"{read['family']}, key {read['key']}{prefix}, {read['num_heads']} attention heads"


def transformer_flops(depth: int, embed_dim: int, mlp_dim: int, num_tokens: int) -> float:
    """Multiply-adds x 2 of the forward pass of a transformer's blocks on N tokens."""
    D, N = embed_dim, num_tokens
    return 2.0 * depth * (4 * N * D * D + 2 * N * D * mlp_dim + 2 * N * N * D)


def architecture_facts(kind: str, config: Any) -> dict[str, Any]:
    """The fields of an architecture dataclass, as they go into the digest and the record."""
    return {"kind": kind, **asdict(config)}
