"""The options of a run, and checks that refuse those that cannot be combined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from bench.cards.load import Axis
from bench.core import machine as environment
from bench.core.errors import BenchError, nearest
from bench.core.remote import remote_url
from bench.core.types import FrameOrder
from bench.encoders import Precision
from bench.video.decode import check_decoder

Decoder = Literal["auto", "decord", "pyav"]
ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


def read_orders(given: Any) -> tuple[FrameOrder, ...]:
    """The value of --controls: names, or one text with commas. Raises BenchError for a name that is none."""
    names = split_words(given)
    for name in names:
        if name not in ORDERS:
            raise BenchError(f"unknown control '{name}'", where="--controls", fix=nearest(name, ORDERS))
    return cast("tuple[FrameOrder, ...]", tuple(order for order in ORDERS if order in names))


def split_words(given: Any) -> list[str]:
    """The values of an option that was given as a text with commas, as several values, or as one; none for None."""
    if given is None:
        return []
    words = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    return [str(word).strip() for word in words if str(word).strip()]


def read_shares(given: Any) -> tuple[float, ...]:
    """The value of --labels: shares between 0 and 1 as `5%` or 0.05, or one text with commas; the largest first.

    Raises BenchError for anything else, and for 100 %, which is the run itself.
    """
    return tuple(sorted({_share(word) for word in split_words(given)}, reverse=True))


def _share(word: str) -> float:
    number, percent, rest = word.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share < 1:
        fix = "give shares below 100 %, such as 5%,10%,50%"
        raise BenchError(f"'{word}' is not a part of the labels", where="--labels", fix=fix)
    return share


_MOST_SEEDS = 100


def percent(share: float) -> str:
    """A share as the user wrote it: `5%`."""
    return f"{100 * share:g}%"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user can ask of a run. The names are those of the command line."""

    task: str = "digits-motion"
    model: str = "random"
    probe: str = "attentive"
    probe_weights: Path | None = None
    """File of a released probe: it is scored as it is, and none is trained."""
    probe_classes: Path | None = None
    """Names of that probe's classes, in its order."""
    data: Path | None = None
    train: Path | None = None
    val: Path | None = None
    axis: Axis | None = None
    name: str | None = None
    """Name of a custom task on the leaderboard."""
    clip: str | None = None
    """Which of the card's clip protocols, by its name in `clips`."""
    cache: Path | None = None
    results: Path = Path("results")
    device: str = "auto"
    precision: str = "auto"
    """`fastest`: what this machine is measured to be fastest in."""
    compile: Literal["off", "auto", "on"] = "off"
    """Whether the encoder runs under torch.compile; `auto`: where it is measured to be faster."""
    token_bits: Literal[8, 16] = 16
    """Size of a channel of a stored token: 8 bits have one scale for each token (bench.features.store)."""
    decoder: Decoder = "auto"
    workers: int | None = None
    batch_size: int | None = None
    timeout_s: float = 60.0
    """A video that takes longer to decode is a failed sample."""
    seed: int = 0
    seeds: int | None = None
    """Probes that are trained, each from a seed of its own; as many as the recipe says where empty."""
    limit: int | None = None
    max_failed: float = 0.01
    """Largest share of unreadable samples of a split, 0 to 1."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`probe.KEY`, `clip.KEY` and `task.KEY` overrides of the cards; `encoder.KEY` says what a file of weights leaves
    open."""
    controls: Annotated[tuple[FrameOrder, ...], BeforeValidator(read_orders)] = ()
    """Orders of a clip's frames that probes are scored on besides the clips as they are."""
    labels: Annotated[tuple[float, ...], BeforeValidator(read_shares)] = ()
    """Shares of the training samples that probes are trained on besides all, above 0 and below 1."""


def make_options(given: Mapping[str, Any]) -> RunOptions:
    """Options from keyword arguments; an unknown one is an error with the nearest name."""
    known = {f.name for f in fields(RunOptions)}
    for key in given:
        if key not in known:
            raise BenchError(f"unknown option '{key}'", fix=nearest(key, known))
    try:
        options = TypeAdapter(RunOptions).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BenchError(f"{first['msg']}, not {first['input']!r}", where=f"--{name.replace('_', '-')}") from error
    names = ("probe_weights", "probe_classes", "data", "train", "val", "cache", "results")
    paths = {name: getattr(options, name) for name in names}
    if url := remote_url(options.results):
        raise BenchError("records are kept on a local disk", where=f"--results {url}", fix="give a local folder")
    return replace(options, **{name: path.expanduser() for name, path in paths.items() if path})


def is_measured(options: RunOptions) -> bool:
    """Whether how the encoder computes is settled by measurement when its weights are there (bench.pipeline.speed)."""
    return options.precision == "fastest" or options.compile != "off"


def first_precision(options: RunOptions, device: str) -> Precision:
    """The precision until `fastest` has been measured: that of `auto`."""
    wanted = "auto" if options.precision == "fastest" else options.precision
    return environment.choose_precision(wanted, device)


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings `NAME.KEY`, by their keys."""
    return {k.partition(".")[2]: v for k, v in settings.items() if k.partition(".")[0] == name}


def check_options(options: RunOptions) -> None:
    """Raise BenchError for options that no run can have, or that mean nothing together."""
    _check_numbers(options)
    _check_given(options)
    check_decoder(options.decoder)


def _check_given(options: RunOptions) -> None:
    """A released probe is not trained: what concerns training alone is refused rather than ignored."""
    if options.probe_weights is None:
        if options.probe_classes is not None:
            raise BenchError("--probe-classes is for --probe-weights", fix="drop it, or give the probe's file too")
        return
    useless = [f"--probe {options.probe}"] if options.probe != RunOptions.probe else []
    useless += ["--train"] if options.train else []
    useless += [f"--seeds {options.seeds}"] if (options.seeds or 1) > 1 else []
    useless += [
        f"--set {key}" for key in options.settings if key.partition(".")[0] == "probe" and key != "probe.num_heads"
    ]
    if useless:
        raise BenchError(f"{useless[0]} means nothing with --probe-weights: nothing is trained", fix="drop one of them")


def _check_numbers(options: RunOptions) -> None:
    lowest = {"limit": 2, "workers": 0, "batch_size": 1, "seed": 0, "seeds": 1}
    for name, least in lowest.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise BenchError(f"--{name.replace('_', '-')} {value} is too small", fix=f"at least {least}")
    if (options.seeds or 1) > _MOST_SEEDS:
        raise BenchError(f"--seeds {options.seeds} is too many", fix=f"at most {_MOST_SEEDS}")
    if options.seed >= 2**32:
        raise BenchError(f"--seed {options.seed} is too large", fix="less than 4294967296")
    if not (math.isfinite(options.timeout_s) and options.timeout_s > 0):
        raise BenchError(f"--timeout-s {options.timeout_s} is no time", fix="give seconds above 0, such as 60")
    if not 0 <= options.max_failed <= 1:
        raise BenchError(f"--max-failed {options.max_failed} is not a share", fix="give 0 to 1, such as 0.01")
