"""What is read beside a model of transformers: its configuration, its preprocessing, and tensors under other names.

Configurations are data, checked before anything is made of the sizes that they state. The hub is asked quietly, and not
at all where there is no network.
"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors import safe_open
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.inputs import CONFIGURATION, read_json
from bench.encoders.contract import IMAGENET_MEAN, IMAGENET_STD
from bench.video.views import OFFICIAL_CROP, Interpolation

_LARGEST = 10**6
"""No size, number of classes or position of a video encoder is larger; transformers makes a name for each class."""
_LARGEST_RATIO = 1000
_FIX = "give the configuration that its authors published"


def read_configuration(path: Path) -> dict[str, Any]:
    """The fields of a JSON file. Raises BenchError for other content, and for a number that is none or absurd."""
    content = read_json(path, CONFIGURATION)
    if not isinstance(content, dict):
        raise BenchError(f"holds a {type(content).__name__}, not an object", where=str(path), fix=_FIX)
    for name, number in _numbers("", content):
        if not abs(number) <= _LARGEST:  # not a number is no less
            raise BenchError(f"{name[:60]} is no number up to {_LARGEST:,}", where=str(path), fix=_FIX)
    return content


def whole(value: Any, name: str, where: str, least: int = 1) -> int:
    """A size that a configuration states. Raises BenchError where it is no whole number, or less than `least`."""
    if type(value) is not int or value < least:
        raise BenchError(f"{name} is {str(value)[:60]}, not a whole number from {least}", where=where, fix=_FIX)
    return value


def ratio(value: Any, name: str, where: str) -> float:
    """A factor that a configuration states. Raises BenchError where it is no number above 0, or is absurd."""
    if type(value) not in (int, float) or not 0 < value <= _LARGEST_RATIO:
        raise BenchError(f"{name} is {str(value)[:60]}, not a number above 0", where=where, fix=_FIX)
    return float(value)


def _numbers(name: str, content: Any) -> Iterator[tuple[str, float]]:
    """Every number in a JSON value, and the names that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(f"{name}.{key}" if name else str(key), value)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(name, value)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield name, content


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


# VideoMAE's `q_bias` and `v_bias` became `query.bias` and `value.bias` in transformers 5.5, with a `key.bias` beside
# them until 5.12 or later; ViViT's layers were written anew between 5.8 and 5.12, with other names for all they hold.
_VIDEOMAE = {
    r"(attention\.attention)\.q_bias$": r"\1.query.bias",
    r"(attention\.attention)\.v_bias$": r"\1.value.bias",
}
_VIVIT = {
    r"\bencoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(uery|ey|alue)\.": r"layers.\1.attention.\2_proj.",
    r"\bencoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.o_proj.",
    r"\bencoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.fc1.",
    r"\bencoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.fc2.",
    r"\bencoder\.layer\.(\d+)\.layernorm_": r"layers.\1.layernorm_",
}
_RENAMED = {"VideoMAEModel": _VIDEOMAE, "VivitModel": _VIVIT}
_NO_EFFECT = re.compile(r"attention\.attention\.key\.bias$")
"""VideoMAE's: it adds the same to all scores of a query, which the softmax cancels."""


def canonical_name(model_class: str, name: str) -> str | None:
    """The name of a parameter in transformers 5.24, whatever the installed version calls it: an encoder is known by its
    weights under their names, and must be the same encoder after an upgrade. None where the tokens do not depend on it.
    """
    if model_class == "VideoMAEModel" and _NO_EFFECT.search(name):
        return None
    for pattern, renamed in _RENAMED.get(model_class, {}).items():
        name = re.sub(pattern, renamed, name)
    return name


@contextmanager
def hub_access() -> Iterator[bool]:
    """While it lasts, huggingface_hub keeps its warnings to itself, and reads its cache alone where the hub's name
    cannot be resolved: by itself it would ask six times in 23 s for each file, one that is in the cache included.

    Gives whether the hub is asked at all.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    verbosity, offline = logging.get_verbosity(), constants.HF_HUB_OFFLINE
    online = not offline and _can_be_found(constants.ENDPOINT)
    logging.set_verbosity(ERROR)
    constants.HF_HUB_OFFLINE = not online
    try:
        yield online
    finally:
        logging.set_verbosity(verbosity)
        constants.HF_HUB_OFFLINE = offline


def _can_be_found(address: str) -> bool:
    """Whether the name in an address has a number; behind a proxy, it is the proxy that looks it up."""
    parts = urlsplit(address)
    if parts.scheme in getproxies():
        return True
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
    except OSError:
        return False
    return True


_OTHER_NAMES = {"query.bias": "q_bias", "value.bias": "v_bias", "q_bias": "query.bias", "v_bias": "value.bias"}
_ENDS = re.compile(r"(?<=attention\.attention\.)(query\.bias|value\.bias|key\.bias|q_bias|v_bias)$")
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_PREFIX = "videomae."
"""Begins the names of the encoder's tensors in files of larger models."""


def fill_biases(model: nn.Module, missing: Sequence[str], fetch: Callable[[str], Path | None]) -> list[str]:
    """Give a VideoMAE its `missing` biases from the files, under the other name; returns the tensors still missing. Up
    to 5.22, no version of transformers reads the names of the others.

    `fetch` takes the name of a file to its path, None where there is none. A key's bias adds the same to all scores of
    a query, which the softmax cancels: it is zero where the files have none.
    """
    if not any(_ENDS.search(name) for name in missing):
        return list(missing)
    held = _files(fetch)
    left = []
    for name in missing:
        match = _ENDS.search(name)
        found = _read(held, name[: match.start()] + _OTHER_NAMES.get(match[0], match[0])) if match else None
        if match and match[0] == "key.bias" and found is None:
            found = torch.zeros_like(model.get_parameter(name))
        if found is None or found.shape != model.get_parameter(name).shape:
            left.append(name)
            continue
        with torch.no_grad():
            model.get_parameter(name).copy_(found)
    return left


def _files(fetch: Callable[[str], Path | None]) -> dict[str, Path]:
    """Every tensor in the files, and the file that holds it."""
    index = fetch(_INDEX)
    names = set(read_json(index, CONFIGURATION)["weight_map"].values()) if index else {_WEIGHTS}
    held = {}
    for path in filter(None, map(fetch, sorted(names))):
        with safe_open(path, framework="pt") as file:
            held.update(dict.fromkeys(file.keys(), path))
    return held


def _read(held: Mapping[str, Path], name: str) -> Tensor | None:
    for known in (name, _PREFIX + name):
        if known in held:
            with safe_open(held[known], framework="pt") as file:
                tensor: Tensor = file.get_tensor(known)
                return tensor
    return None
