"""The options that commands share, and how their values are read."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import BenchError

Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task: a name from `bench tasks`, the path of a card, or custom. Repeat, or a,b."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Encoder: a checkpoint file, a wildcard such as 'run/epoch*.pth.tar', a name from `bench models`, "
        "timm:NAME, hf:FOLDER_OR_REPOSITORY, or package.module:function; NAME=... names its row. Repeat, or a,b.",
    ),
]
Probe = Annotated[str, typer.Option(help="Recipe: a name from `bench probes`, or the path of a card.")]
ProbeWeights = Annotated[
    Path | None,
    typer.Option(
        help="Score this probe instead of training one: an official checkpoint, a Hugging Face classifier folder, or "
        "probe.safetensors of an earlier run. Only the test list is read."
    ),
]
ProbeClasses = Annotated[
    Path | None,
    typer.Option(help="Names of the given probe's classes in its order: one a line, or JSON or YAML (id: name)."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the data, laid out as `bench tasks NAME` shows, or its address (s3://BUCKET/FOLDER); relative "
        "paths of lists start here."
    ),
]
Train = Annotated[
    Path | None, typer.Option(help="Training annotations: the task's official file, or a list of `path label` lines.")
]
Val = Annotated[
    Path | None, typer.Option(help="Test annotations: the task's official file, or a list of `path label` lines.")
]
Clip = Annotated[
    str | None,
    typer.Option(help="Clip protocol of a paper, by its name in `bench tasks NAME`. Default: the card's own."),
]
Axis = Annotated[str | None, typer.Option(help="For --task custom: motion, appearance or anticipation.")]
Name = Annotated[str | None, typer.Option(help="For --task custom: its name on the leaderboard.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Where features are kept: a folder, or an address (s3://BUCKET/FOLDER). Default: BENCH_CACHE, or the user "
        "cache."
    ),
]
Results = Annotated[Path, typer.Option(help="Where records go.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with code 2 where a record is left out.")]
ResultFolders = Annotated[list[Path] | None, typer.Option("--results", help="Folder of records. Repeat to merge.")]
Device = Annotated[str, typer.Option(help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fastest (measured), fp32, bf16, fp16.")]
Compile = Annotated[
    str, typer.Option(help="torch.compile: off, auto (where it is measured to be faster), on. See docs/performance.md.")
]
TokenBits = Annotated[
    int, typer.Option(help="Bits of a channel of a cached token: 16, or 8 with a scale for each token (half the disk).")
]
Decoder = Annotated[str, typer.Option(help="auto (PyAV), decord, pyav.")]
Workers = Annotated[int | None, typer.Option(max=4096, help="Decoding processes. Default: one a core. 0: no watchdog.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        max=10**6, help="Clips in one encoder batch on a GPU. Default: by token count. A CPU always takes one."
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds after which a video counts as unreadable.")]
Seed = Annotated[int, typer.Option(help="Seed of held-out samples, probe weights and sample order.")]
Seeds = Annotated[
    int | None,
    typer.Option(
        help="Train so many probes, each from a seed of its own; their mean is the score. By default as recipes say."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Use at most N random samples of each split.")]
MaxFailed = Annotated[float, typer.Option(help="Largest share of unreadable samples before the run is refused.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change a card: probe.lr=1e-3, clip.segments=2. Or say what the encoder's file leaves open: "
        "encoder.num_heads=3, encoder.family=vjepa2, encoder.key=target_encoder. Repeatable.",
    ),
]
EncoderSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Say what the encoder's file leaves open: encoder.num_heads=3, encoder.family=vjepa2, "
        "encoder.key=target_encoder. Repeatable.",
    ),
]
Controls = Annotated[
    str | None,
    typer.Option(
        metavar="ORDERS",
        help="Score probes on clips in other frame orders too, some of ordered,shuffled,static,reversed: a probe "
        "trained and tested on each (a), and the probe of ordered clips tested on each (b).",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="SHARES",
        help="Score probes trained on these shares of the labels too, such as 5%,10%,50%: three draws of each.",
    ),
]
Slurm = Annotated[
    str | None,
    typer.Option(
        help="Submit one job for each model on each task to Slurm and return: partition=gpu,gpus_per_node=1,... "
        "(docs/scale.md)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
OnlyTasks = Annotated[list[str] | None, typer.Option("--task", help="Only these tasks.")]
OnlyModels = Annotated[list[str] | None, typer.Option("--model", help="Only models like this: 'vjepa*'.")]
OnlyProbes = Annotated[list[str] | None, typer.Option("--probe", help="Only these probes; wildcards work.")]
Sort = Annotated[
    str | None,
    typer.Option(
        help="Sort by a task, TASK/PROBE, motion, appearance, anticipation, model or cost. Default: the scores "
        "that models share."
    ),
]
Reference = Annotated[str | None, typer.Option(help="Show the differences from this model, paired.")]
Published = Annotated[bool, typer.Option("--published", help="Add published numbers with their source.")]

_OF_A_RUN: dict[str, tuple[Any, Any]] = {
    "task": (Tasks, None),
    "model": (Models, None),
    "probe": (Probe, "attentive"),
    "probe_weights": (ProbeWeights, None),
    "probe_classes": (ProbeClasses, None),
    "data": (Data, None),
    "train": (Train, None),
    "val": (Val, None),
    "axis": (Axis, None),
    "name": (Name, None),
    "clip": (Clip, None),
    "cache": (Cache, None),
    "results": (Results, Path("results")),
    "device": (Device, "auto"),
    "precision": (Precision, "auto"),
    "compile": (Compile, "off"),
    "token_bits": (TokenBits, 16),
    "decoder": (Decoder, "auto"),
    "workers": (Workers, None),
    "batch_size": (BatchSize, None),
    "timeout_s": (Timeout, 60.0),
    "seed": (Seed, 0),
    "seeds": (Seeds, None),
    "limit": (Limit, None),
    "max_failed": (MaxFailed, 0.01),
    "settings": (Settings, None),
    "controls": (Controls, None),
    "labels": (Labels, None),
}
"""The options of a run, by the names of `bench.tasks.options.RunOptions`: (type, default)."""

Command = Callable[..., None]
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def run_options(*, without: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Let a command take the options of a run for its `**arguments`, but those of `without` and those it has itself.

    In its help they stand behind the options that it requires and before its others.
    """

    def give(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [each.replace(kind=_KEYWORD) for name, each in signature.parameters.items() if name != "arguments"]
        required = [each for each in own if each.default is each.empty]
        shared = [
            inspect.Parameter(name, _KEYWORD, default=default, annotation=kind)
            for name, (kind, default) in _OF_A_RUN.items()
            if name not in {*without, *signature.parameters}
        ]
        parameters = [*required, *shared, *(each for each in own if each not in required)]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return give


def split_names(option: str, values: list[str] | None, default: tuple[str, ...]) -> list[str]:
    """The values of a repeatable option; commas separate, except in the name of a file that exists.

    A model with wildcards stands for the files that match, epoch2 before epoch10.
    """
    if values is None:
        return list(default)
    names = [part for value in values for part in ([value] if _is_file(value) else value.split(",")) if part]
    if not names:
        raise BenchError("no name given", where=option, fix="drop the option for the default, or name something")
    return names if option != "--model" else _models(names)


def _is_file(value: str) -> bool:
    return Path(value).is_file() or Path(value.partition("=")[2]).is_file()


def _models(names: list[str]) -> list[str]:
    """The specs of `names`, wildcards resolved. Raises BenchError where two models would get one name of the user's."""
    specs = [spec for name in names for spec in _matching(name)]
    if not any("=" in spec for spec in specs):
        return specs
    from bench.encoders.loading import named

    rows = list(dict.fromkeys(map(named, specs)))
    shown = [row or spec for row, spec in rows]
    twice = next((row for row, _ in rows if row and shown.count(row) > 1), None)
    if twice:
        raise BenchError(f"'{twice}' names two models", where="--model", fix="give each a name of its own")
    return specs


def _matching(name: str) -> list[str]:
    """What a name with wildcards stands for, epoch2 before epoch10; any other name itself."""
    from bench.analysis.checkpoint_curve import has_wildcard, matching_files

    if not has_wildcard(name):
        return [name]
    if "=" not in name or glob.glob(name):  # noqa: PTH207 - Path.glob takes no "/a/*"
        return matching_files(name)
    from bench.encoders.loading import named

    row, pattern = named(name)
    files = matching_files(pattern)
    if row and len(files) > 1:
        what = f"'{row}' would name the {len(files)} files that match '{pattern}'"
        raise BenchError(what, where="--model", fix="name one file, or leave the name out")
    return [f"{row}={file}" if row else file for file in files]


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    import yaml

    from bench.core.inputs import parse_yaml

    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BenchError(
                f"'{pair}' is not key=value",
                where="--set",
                fix="such as --set lr=1e-3 for a preset, --set probe.lr=1e-3 for a card",
            )
        try:
            parsed = parse_yaml(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BenchError(f"'{value}' cannot be read", where=f"--set {key}", fix="quote text") from error
        settings[key] = _numbers(parsed)
    return settings


def _numbers(value: Any) -> Any:
    """The value with numbers in place of texts that look like one: YAML 1.1 takes 1e-3 for text."""
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> float | int | str:
    try:
        number = float(text)
        return int(number) if number.is_integer() else number
    except ValueError:
        return text


def options_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of RunOptions among a command's arguments, with `settings` read; tasks and models stay as given."""
    named = {name: value for name, value in arguments.items() if name in _OF_A_RUN}
    return {**named, "settings": parse_settings(named["settings"])}


def split_words(option: str, values: list[str] | None) -> list[str]:
    """The values of a repeatable option, separated by commas. Unlike those of `split_names`, they never name files."""
    words = [word for value in values or [] for word in value.split(",") if word]
    if values and not words:
        raise BenchError("no name given", where=option, fix="drop the option, or name something")
    return words
