"""The preprocessing that a processor of transformers does, from its configuration file to an encoder's input spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.core.errors import BenchError
from bench.encoders.contract import IMAGENET_MEAN, IMAGENET_STD
from bench.video.views import OFFICIAL_CROP, Interpolation

_HALVES = (0.5, 0.5, 0.5)
_COMMON: Mapping[str, Any] = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "resample": 2,
    "rescale_factor": 1 / 255,
    "offset": False,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": _HALVES,
    "image_std": _HALVES,
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "videomae": _COMMON,
    "timesformer": _COMMON,
    "vivit": {**_COMMON, "size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
    "vjepa2": {**_COMMON, "crop_size": 256, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
}
"""What the processors of each family do where their file is silent (transformers 4.53 to 5.23)."""

_LONGEST_SIDE = 10_000
_LEAST_STD = 1e-4
_RESAMPLE: Mapping[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
"""Pillow's numbers of its filters."""


def preprocessing(given: Mapping[str, Any], family: str, resolution: int, where: str) -> dict[str, Any]:
    """The fields `mean`, `std`, `interpolation`, `crop` and `squash` of an InputSpec for the configuration `given` of a
    processor and a model that takes `resolution` pixels. Raises BenchError for what is not supported.

    Pixels reach the model as ((x * factor - offset) - mean) / std; here they are (x / 255 - mean) / std. The crop lies
    as torchvision rounds it, the resize is Pillow's: transformers' own code for tensors differs by a pixel or a level
    of 255.
    """
    try:
        return _preprocessing(given, family, resolution, where)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, OverflowError) as error:
        fix = "give the processor's configuration that its authors published"
        raise BenchError(f"cannot be read as a processor's configuration ({error})", where=where, fix=fix) from error


def _preprocessing(given: Mapping[str, Any], family: str, resolution: int, where: str) -> dict[str, Any]:
    config = {**_DEFAULTS[family], **{key: value for key, value in given.items() if value is not None}}
    if config["resample"] not in _RESAMPLE or not config["do_resize"]:
        raise BenchError(
            f"the processor's resize (do_resize {config['do_resize']}, resample {config['resample']}) is not supported",
            where=where,
            fix=f"do_resize true with resample {', '.join(map(str, _RESAMPLE))} is",
        )
    short, squash = _resized(config["size"], where)
    cropped = _side(config["crop_size"], where) if config["do_center_crop"] else min(short, resolution)
    if cropped != resolution or (short < cropped and family != "vjepa2"):
        raise BenchError(
            f"the processor resizes to {short} and crops to {cropped} pixels, the model takes {resolution}",
            where=where,
            fix="mend preprocessor_config.json",
        )
    factor = config["rescale_factor"] * 255 if config["do_rescale"] else 255.0
    offset = 1.0 if config["offset"] and config["do_rescale"] else 0.0
    means = config["image_mean"] if config["do_normalize"] else (0.0, 0.0, 0.0)
    stds = config["image_std"] if config["do_normalize"] else (1.0, 1.0, 1.0)
    if len(means) != 3 or len(stds) != 3 or not min(stds) >= _LEAST_STD or not factor > 0 or short > _LONGEST_SIDE:
        raise ValueError(f"mean {means}, std {stds}, factor {factor:g}, {short} pixels")
    return {
        "mean": tuple((offset + mean) / factor for mean in means),
        "std": tuple(std / factor for std in stds),
        "interpolation": _RESAMPLE[config["resample"]],
        # The processor of V-JEPA 2 puts the official share in place of whatever size its file states.
        "crop": OFFICIAL_CROP if family == "vjepa2" else _share(cropped, short),
        "squash": squash,
    }


def _resized(size: Any, where: str) -> tuple[int, bool]:
    """The short side after the resize, pixels, and whether both sides are resized to it."""
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), False
    return _side(size, where), isinstance(size, Mapping)


def _side(size: Any, where: str) -> int:
    if isinstance(size, int):
        return size
    side = size.get("height") if isinstance(size, Mapping) else None
    if side is None or side != size.get("width"):
        raise BenchError(f"the processor's size {size} is not a square's", where=where, fix="give height = width")
    return int(side)


def _share(cropped: int, short: int) -> float:
    """The share of the short side that makes floor(cropped / share) the short side again, rounding and all."""
    share = cropped / short
    return share if math.floor(cropped / share) == short else math.nextafter(share, 0.0)
