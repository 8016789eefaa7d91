"""Image encoders of timm lifted to video: each frame is encoded alone, and the patches of all frames are the tokens.

    timm:NAME[+special][+time][+untrained][@FILE]

NAME is a model of timm with or without the tag of its weights. `+special` keeps class and register tokens, `+time`
adds a code of the frame's number, `+untrained` takes random weights of a fixed seed, `@FILE` takes weights from a file
instead of the Hugging Face hub.

B clips, T frames, H x W pixels, h x w patches of a frame, n tokens of it, P of them special, D channels.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError, nearest
from bench.core.tensors import default_num_heads, first_line, read_tensors
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec
from bench.encoders.hf_files import hub_access

OPTIONS = ("special", "time", "untrained")
"""Options, in the order in which a row's name has them."""


@dataclass(frozen=True)
class TimmSpec:
    """What follows `timm:` in a model spec, taken apart."""

    model: str
    """Name of the model, with the tag of its weights where one was given."""
    special: bool = False
    time: bool = False
    untrained: bool = False
    file: Path | None = None

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"model timm:{self.model}"

    @property
    def architecture(self) -> str:
        """The model's name without the tag of weights."""
        return self.model.partition(".")[0]

    def row_name(self, tag: str | None) -> str:
        """Name on the leaderboard: a spec again, with the tag of the hub's weights and a file without its folder."""
        hub = not self.untrained and self.file is None
        model = f"{self.architecture}.{tag}" if hub and tag else self.model
        options = "".join(f"+{option}" for option in OPTIONS if getattr(self, option))
        return f"timm:{model}{options}" + (f"@{self.file.name}" if self.file else "")


def parse(argument: str) -> TimmSpec:
    """Take apart what follows `timm:`. Raises BenchError for an unknown option or a contradiction."""
    where = f"model timm:{argument}"
    before, at, file = argument.partition("@")
    model, *options = before.split("+")
    for option in options:
        if option not in OPTIONS:
            raise BenchError(f"unknown option '+{option}'", where=where, fix=nearest(option, OPTIONS))
    if len(set(options)) < len(options):
        raise BenchError("an option is given twice", where=where)
    if at and not file:
        raise BenchError("no file after the @", where=where, fix="say timm:NAME@path/to/weights.safetensors")
    if file and "untrained" in options:
        raise BenchError("+untrained and a file of weights contradict each other", where=where, fix="drop one")
    return TimmSpec(
        model=model,
        special="special" in options,
        time="time" in options,
        untrained="untrained" in options,
        file=Path(file).expanduser() if file else None,
    )


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
        """Join the tokens of each clip's frames: [B*T, D, h, w] and [B*T, P, D] -> [B, T * (P + h*w), D]."""
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
    """Facts of a model that are known without its weights."""

    facts: EncoderFacts
    tag: str | None
    """timm's tag of the weights that the preprocessing belongs to."""
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


SHARE = 0.5
"""Size of the code against what tokens differ by: large enough to be read, too small to drown what a token says. On
synthetic tokens an attentive probe learned when something happened with a half, hardly with the whole."""


def add_frame_times(tokens: Tensor) -> Tensor:
    """Add the code of each frame's number to its tokens: [B, T, n, D] -> the same, float32. Without it a probe sees a
    set of frames, the same for a clip and its reverse.

    Tokens have any scale, so the code follows it: its root mean square is half (`SHARE`) that of the clip's tokens
    around their mean. The mean token of a clip does not change, hence neither does what a probe of mean-pooled tokens
    (`linear`, `knn`) sees; a probe that attends to tokens can distinguish frames.
    """
    tokens = tokens.float()
    spread = (tokens - tokens.mean(dim=(1, 2), keepdim=True)).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    code = frame_code(tokens.shape[1], tokens.shape[3]).to(tokens.device)
    return tokens + SHARE * spread * code[:, None]


def frame_code(num_frames: int, embed_dim: int) -> Tensor:
    """The sin-cos code of V-JEPA's positions (protocol.md 1.1) of 0..T-1, without its mean over the frames and with a
    root mean square of 1: [T, D] float32. Zero for a single frame.

    Most channels of the plain code turn so slowly that they are a constant over a clip, which would only add to every
    token alike.
    """
    if num_frames == 1:
        return torch.zeros(1, embed_dim)
    half = -(-embed_dim // 2)
    omega = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(num_frames, dtype=torch.float64)[:, None] * omega
    code = torch.cat([angles.sin(), angles.cos()], dim=1)[:, :embed_dim]
    code = code - code.mean(dim=0)
    return (code / code.square().mean().sqrt()).float()


SEED = 0
STATE_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights in their files; the moving average first, as timm reads them."""


def create(spec: TimmSpec, **options: Any) -> Any:
    """A model of timm; they have no type in common that knows what all of them can do."""
    try:
        import timm
    except ImportError as error:
        raise BenchError(f"timm cannot be imported ({error})", where=spec.where, fix="pip install timm") from error
    _check_name(spec)
    return timm.create_model(spec.model, **options).eval().requires_grad_(False)


def _check_name(spec: TimmSpec) -> None:
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(spec.architecture):
        kind, wanted, known = "model", spec.architecture, timm.list_models()
    else:
        try:
            get_pretrained_cfg(spec.model)
            return
        except RuntimeError:
            names = timm.list_models(f"{spec.architecture}.*", pretrained=True)
            kind, wanted, known = "weights", spec.model, names
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.0)
    raise BenchError(
        f"timm {timm.__version__} has no {kind} '{wanted}'",
        where=spec.where,
        fix=f"nearest: {', '.join(close)}" if close else f"say timm:{spec.architecture}",
    )


def with_weights(spec: TimmSpec, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The model that `spec` names, without its classifier, and where its weights come from. `options` go to timm."""
    if spec.untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return create(spec, num_classes=0, **options), f"untrained, seed {SEED}"
    if spec.file:
        return from_file(spec, spec.file, options), f"file {spec.file.name}"
    model = from_hub(spec, options)
    return model, str(model.pretrained_cfg.get("hf_hub_id") or model.pretrained_cfg.get("url"))


def from_hub(spec: TimmSpec, options: Mapping[str, Any]) -> Any:
    """With the weights that timm names, from the hub or its local cache. Built with its classifier, so that timm loads
    strictly; then without."""
    fix = (
        "with a network it is downloaded once; without, copy the hub's cache (HF_HOME) here, or download"
        f" model.safetensors elsewhere and say timm:{spec.model}@FILE; +untrained needs none"
    )
    with hub_access() as online:
        try:
            model = create(spec, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            nowhere = isinstance(error, OSError) and not online
            reason = "none in the hub's cache, and no connection" if nowhere else first_line(error)
            raise BenchError(f"no weights: {reason}", where=spec.where, fix=fix) from error
    model.reset_classifier(0)
    return model


def from_file(spec: TimmSpec, file: Path, options: Mapping[str, Any]) -> Any:
    """With the weights of a file: every tensor of the encoder there and none too many, whatever its classifier."""
    from timm.models import clean_state_dict, get_pretrained_cfg

    content = read_tensors(file)
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        raise BenchError(
            f"'{wrong[0]}' is a {type(state[wrong[0]]).__name__}, not a tensor",
            where=str(file),
            fix=f"give a state dict, bare or under {', '.join(STATE_KEYS)}",
        )
    classifier = getattr(get_pretrained_cfg(spec.model), "classifier", None) or ()
    heads = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    state = {name: value for name, value in clean_state_dict(state).items() if not name.startswith(heads)}
    try:
        # Without the name of a classifier, timm's own loader is strict for an encoder without one.
        overlay = {"state_dict": state, "classifier": None}
        model = create(spec, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:
        raise BenchError(
            f"its tensors are not those of {spec.architecture}: {' '.join(str(error).split())[:300]}",
            where=str(file),
            fix="give the file that belongs to the model, in timm's layout",
        ) from error
    model.pretrained_cfg.pop("state_dict")  # a second copy
    return model
