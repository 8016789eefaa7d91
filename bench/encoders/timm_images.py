"""Image encoders of timm lifted to video: each frame is encoded alone, and the patches of all frames are the tokens.

    timm:NAME[+special][+time][+untrained][@FILE]

NAME is a model of timm with or without the tag of its weights. `+special` keeps class and register tokens, `+time`
adds a code of the frame's number (`bench.encoders.frame_times`), `+untrained` takes random weights of a fixed seed,
`@FILE` takes weights from a file instead of the Hugging Face hub.

B clips, T frames, H x W pixels, h x w patches of a frame, P special tokens, D channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.tensors import default_num_heads
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec
from bench.encoders.frame_times import add_frame_times
from bench.encoders.timm_spec import TimmSpec, parse
from bench.encoders.timm_weights import create, with_weights

NUM_FRAMES = 16
"""Frames of a clip where nothing else is asked for: as many as V-JEPA 1 sees. Images have none of their own."""


def timm_facts(argument: str) -> EncoderFacts:
    """What is known of a timm encoder before its weights are read. Raises BenchError for an unknown model, and for one
    that gives no regular grid of tokens or wants a preprocessing that is not known here."""
    return _describe(parse(argument)).facts


def load_timm(argument: str) -> Encoder:
    """The frozen timm encoder with its weights. Raises BenchError as `timm_facts`, and where the weights cannot be had
    or do not fit."""
    spec = parse(argument)
    described = _describe(spec)
    model, weights = with_weights(spec, described.options)
    report = {
        "weights": weights,
        "preprocessing_of": f"timm {spec.architecture}.{described.tag}" if described.tag else "timm's defaults",
        "special_tokens": f"{described.facts.special_tokens} a frame kept" if spec.special else "dropped",
        "frame_times": "sin-cos code added" if spec.time else "none: a probe sees a set of frames without order",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return Encoder(described.facts, FrameTokens(model, spec, normed=described.normed), report=report)


class FrameTokens(nn.Module):
    """A timm model as a video encoder: clips [B, 3, T, H, W] -> tokens [B, T * (P + h*w), D], frame after frame."""

    def __init__(self, model: nn.Module, spec: TimmSpec, *, normed: bool) -> None:
        super().__init__()
        self.model, self.special, self.time, self.normed = model, spec.special, spec.time, normed

    def forward(self, clips: Tensor) -> Tensor:
        return self._tokens(clips, 1)[0]

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """The same of several of the model's layers, each with the final norm: [B, N, D] in the order asked for."""
        wanted = sorted(set(out_layers))
        tokens = dict(zip(wanted, self._tokens(clips, wanted), strict=True))
        return [tokens[index] for index in out_layers]

    def _tokens(self, clips: Tensor, indices: int | Sequence[int]) -> list[Tensor]:
        images = clips.transpose(1, 2).flatten(0, 1)
        found = feature_maps(self.model, images, indices, special=self.special, normed=self.normed)
        return [self._lifted(feature_map, prefix, len(clips)) for feature_map, prefix in found]

    def _lifted(self, feature_map: Tensor, prefix: Tensor, num_clips: int) -> Tensor:
        """Of the frames of all clips: [B*T, D, h, w] and [B*T, P, D] -> [B, T * (P + h*w), D]."""
        tokens = torch.cat([prefix, feature_map.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens.view(num_clips, -1, *tokens.shape[1:])
        return (add_frame_times(tokens) if self.time else tokens).flatten(1, 2)


def feature_maps(
    model: Any, images: Tensor, indices: int | Sequence[int] | None, *, special: bool, normed: bool
) -> list[tuple[Tensor, Tensor]]:
    """Feature maps [n, D, h, w] of a timm model for images [n, 3, H, W], each with its special tokens [n, P, D] where
    they are asked for, else [n, 0, D].

    `indices` are its layers, counted from 0 and rising; a number is that of last ones, None stands for all. `normed`
    applies the model's final norm, as its `forward_features` does.
    """
    asked = {"return_prefix_tokens": True} if special else {}
    found = model.forward_intermediates(images, indices=indices, norm=normed, intermediates_only=True, **asked)
    return list(found) if special else [(each, each.new_empty(len(images), 0, each.shape[1])) for each in found]


@dataclass(frozen=True)
class _Description:
    """What a model without its weights tells."""

    facts: EncoderFacts
    tag: str | None
    """Of the weights that the preprocessing belongs to."""
    options: Mapping[str, Any]
    """What timm is to build the model with."""
    normed: bool
    """Whether the model can norm its last feature map; some hierarchical ones norm after pooling only."""


def _describe(spec: TimmSpec) -> _Description:
    with torch.device("meta"):
        model = create(spec, num_classes=0)
        options: dict[str, Any] = {}
        if "dynamic_img_size" in inspect.signature(type(model).__init__).parameters:
            options["dynamic_img_size"] = True
            model = create(spec, num_classes=0, **options)
    _check_features(spec, model)
    input_spec = _input_spec(spec, model)
    layers, normed, flops = _trace(spec, model, input_spec.resolution)
    feature_map, prefix = layers[-1]
    (embed_dim, height, width), num_special = feature_map.shape[1:], prefix.shape[1]
    # Hierarchical models have layers of other widths and grids, which cannot stand in for the last one.
    alike = all(other.shape == feature_map.shape for other, _ in layers)
    tag = model.pretrained_cfg.get("tag")
    if height != width or input_spec.resolution % height:
        raise BenchError(
            f"its {height}x{width} features of {input_spec.resolution} pixels are no regular grid of patches",
            where=spec.where,
            fix="take another model",
        )
    facts = EncoderFacts(
        name=spec.row_name(tag),
        embed_dim=embed_dim,
        num_heads=default_num_heads(embed_dim),
        patch_size=input_spec.resolution // height,
        tubelet_size=1,
        input_spec=input_spec,
        architecture={
            "kind": "timm",
            "name": spec.architecture,
            "normed": normed,
            "special_tokens": num_special,
            "time": spec.time,
        },
        layer_indices=tuple(range(len(layers))) if alike else (),
        special_tokens=num_special,
        fixed_resolution=bool(model.pretrained_cfg.get("fixed_input_size")) and not options,
        flops_per_token=flops / (num_special + height * width),
    )
    return _Description(facts, tag, options, normed)


def _check_features(spec: TimmSpec, model: Any) -> None:
    where = spec.where
    if not hasattr(model, "forward_intermediates"):
        raise BenchError("timm gives no feature map of this model", where=where, fix="take another model")
    given = "return_prefix_tokens" in inspect.signature(model.forward_intermediates).parameters
    number = getattr(model, "num_prefix_tokens", 0) if given else 0
    if spec.special and not number:
        raise BenchError("timm gives no special tokens of this model", where=where, fix="drop +special")


def _input_spec(spec: TimmSpec, model: Any) -> InputSpec:
    """The input that the weights were made for, from timm's own configuration of them."""
    from timm.data import resolve_model_data_config

    data = resolve_model_data_config(model)
    _, height, width = data["input_size"]
    if height != width or data["crop_mode"] not in ("center", "squash"):
        raise BenchError(
            f"its weights want {height}x{width} pixels, crop mode {data['crop_mode']}",
            where=spec.where,
            fix="square input in crop mode center or squash is supported",
        )
    return InputSpec(
        num_frames=NUM_FRAMES,
        resolution=height,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        crop=data["crop_pct"],
        squash=data["crop_mode"] == "squash",
    )


def _trace(spec: TimmSpec, model: Any, resolution: int) -> tuple[list[tuple[Tensor, Tensor]], bool, float]:
    """All `feature_maps` of one image as shapes without values, whether they can be normed, and what the last costs."""
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.empty(1, 3, resolution, resolution, device="meta")
    where = spec.where
    for normed in (True, False):
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                feature_maps(model, image, 1, special=spec.special, normed=normed)
            layers = feature_maps(model, image, None, special=spec.special, normed=normed)
            return layers, normed, counter.get_total_flops()
        except AssertionError:
            continue  # how some of timm's models say that they cannot norm their feature maps
        except RuntimeError as error:
            what = f"its tokens cannot be told without its weights ({str(error).splitlines()[0]})"
            raise BenchError(what, where=where, fix="take another model") from error
    raise BenchError("timm gives no feature map of this model", where=where, fix="take another model")
