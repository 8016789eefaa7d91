"""Video encoders of transformers: VideoMAE, ViViT, TimeSformer, V-JEPA 2.

    hf:FOLDER            config.json, *.safetensors and the processor's configuration, as save_pretrained writes them
    hf:OWNER/NAME        the same from the Hugging Face hub or its local cache

Only safetensors are read and no code of a repository is run. B clips, T frames, N tokens, D channels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec
from bench.encoders.hf_files import (
    canonical_name,
    fill_biases,
    hub_access,
    preprocessing,
    ratio,
    read_configuration,
    whole,
)
from bench.encoders.huggingface import refuse_other_types, tensor_files, tensor_headers

PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
"""Where a processor's configuration is, the newer name first."""


@dataclass(frozen=True)
class Family:
    """How one family of transformers' video encoders is built and read."""

    model_class: str
    block_class: str
    """The class of the encoder's layers; where they are in the model changes from version to version."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of from_pretrained: parts without use here are left out."""
    encoder: str = ""
    """The part of the model that is the encoder; all of it where empty."""
    num_frames: str = "num_frames"
    """Field of the configuration that holds the frames of a clip."""
    resolution: str = "image_size"
    frame_steps: Mapping[int, int] = field(default_factory=dict)
    """Frames of a clip -> frames of the video between two of them, where the authors do not train with 4."""
    class_tokens: int = 0
    time_fastest: bool = False
    """Whether the tokens of one place follow each other, frame after frame."""
    any_num_frames: bool = False


FAMILIES = {
    "videomae": Family("VideoMAEModel", "VideoMAELayer"),
    # ViViT's pooler belongs to its classifier, whose files do not hold it.
    "vivit": Family("VivitModel", "VivitLayer", {"add_pooling_layer": False}, frame_steps={32: 2}, class_tokens=1),
    "timesformer": Family(
        "TimesformerModel", "TimesformerLayer", frame_steps={8: 32, 16: 16}, class_tokens=1, time_fastest=True
    ),
    "vjepa2": Family(
        "VJEPA2Model",
        "VJEPA2Layer",
        encoder="encoder",
        num_frames="frames_per_clip",
        resolution="crop_size",
        any_num_frames=True,
    ),
}
"""By the `model_type` of their configuration. The frame steps are those of the authors' training on Kinetics:

- VideoMAE, 16 frames 4 apart: `--num_frames 16 --sampling_rate 4`, MCG-NJU/VideoMAE, scripts/kinetics/*/pretrain.sh
- ViViT, 32 frames 2 apart: `num_frames = 32`, `stride = 2`, google-research/scenic, projects/vivit/configs/kinetics400
- TimeSformer, its HR and its L, 8, 16 and 96 frames 32, 16 and 4 apart: NUM_FRAMES and SAMPLING_RATE of
  facebookresearch/TimeSformer, configs/Kinetics/TimeSformer_divST_{8x32_224,16x16_448,96x4_224}.yaml

On Something-Something v2 VideoMAE takes 2 instead of 4 (scripts/ssv2), and TimeSformer spreads its frames over all of
the video (INV_UNIFORM_SAMPLE, configs/SSv2). No file that transformers writes identifies these weights.
"""


def hf_facts(argument: str) -> EncoderFacts:
    """Read the facts in the configuration files.

    Raises BenchError where transformers is missing, nothing is found, the model is of another family, or its
    preprocessing is not known here.
    """
    transformers = _transformers(argument)
    source, name = _source(argument), "config.json"
    try:
        with hub_access():
            here = isinstance(source, Path)
            read_configuration(Path(source) / name if here else Path(transformers.utils.cached_file(source, name)))
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except BenchError:
        raise
    except Exception as error:  # whatever the libraries say of a damaged file
        raise _unreachable(argument, error) from error
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise BenchError(
            f"'{config.model_type}' is no video encoder that is known here",
            where=f"model hf:{argument}",
            fix=f"known: {', '.join(FAMILIES)}; for another, write a function (docs/extending.md)",
        )
    facts = _facts(argument, config, family)
    if isinstance(source, Path):
        _check_headers(source, facts)
    return facts


def load_hf(argument: str) -> Encoder:
    """The frozen encoder. Raises BenchError as `hf_facts`, and where safetensors are missing or lack a tensor."""
    facts = hf_facts(argument)
    family = FAMILIES[facts.architecture["kind"].removeprefix("hf-")]
    transformers = _transformers(argument)
    model_class = getattr(transformers, family.model_class)
    try:
        with hub_access(), _quiet(transformers):
            model, report = model_class.from_pretrained(
                _source(argument),
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, which is not ignored
                **family.options,
            )
    except Exception as error:  # whatever the libraries say of a damaged file
        raise _unreachable(argument, error) from error
    source = _source(argument)
    if not isinstance(source, Path):  # its files have come meanwhile
        _check_headers(_snapshot(source), facts)
    revision = getattr(model.config, "_commit_hash", None)
    # Names, or with newer versions names with both shapes.
    misshapen = [entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"]]
    missing = sorted({*report["missing_keys"], *misshapen})
    missing = [name for name in missing if name.startswith(family.encoder)]
    if family is FAMILIES["videomae"]:
        missing = fill_biases(model, missing, lambda name: _file(argument, name))
    if missing:
        raise BenchError(
            f"{len(missing)} tensors of the encoder are missing or misshapen, first {missing[0]}",
            where=f"model hf:{argument}",
            fix="the files are of another architecture or damaged",
        )
    encoder = model.get_submodule(family.encoder).float()
    module = VideoTokens(encoder, model.main_input_name, family, facts.input_spec.num_frames)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return Encoder(
        facts,
        module,
        report={"weights": argument, "revision": revision or "local files", "parameters": parameters},
    )


def _check_headers(folder: Path, facts: EncoderFacts) -> None:
    """Raise BenchError where the files hold other values than floating-point numbers, or far fewer of them than the
    configuration asks for: transformers would convert the first, and make room for the second."""
    headers = [header for file in set(tensor_files(folder).values()) for header in tensor_headers(file).items()]
    refuse_other_types({name: kind for name, (_, kind) in headers if re.search(r"\.(weight|bias)$", name)}, folder)
    D, architecture = facts.embed_dim, facts.architecture
    asked = architecture["depth"] * (4 * D * D + 2 * D * architecture["mlp_dim"])
    held = sum(math.prod(shape) for _, (shape, _) in headers)
    if asked > held:
        raise BenchError(
            f"config.json asks for {asked:,} weights, and the files hold {held:,}",
            where=str(folder),
            fix="put the config and the weights of one model into the folder",
        )


def _snapshot(repository: str) -> Path:
    """The folder of the local cache that holds the files of a repository."""
    from huggingface_hub import snapshot_download

    with hub_access():
        return Path(snapshot_download(repository, local_files_only=True))


class VideoTokens(nn.Module):
    """A model of transformers as an encoder: clips [B, 3, T, H, W] -> tokens [B, N, D] in (t, h, w) raster order."""

    def __init__(self, model: nn.Module, input_name: str, family: Family, num_frames: int) -> None:
        super().__init__()
        self.model, self.input_name, self.family, self.num_frames = model, input_name, family, num_frames

    def forward(self, clips: Tensor) -> Tensor:
        frames = self._frames(clips)
        return self._tokens(self._hidden(frames), frames)

    def canonical_name(self, name: str) -> str | None:
        return canonical_name(self.family.model_class, name)

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """What leaves several layers, each with the model's final norm if it has one: [B, N, D] in the order asked for.

        These are the `hidden_states` of transformers, which its encoder of V-JEPA 2 gives as a part of the whole model
        only: so they are taken where they leave the layers.
        """
        frames = self._frames(clips)
        blocks = [module for module in self.model.modules() if type(module).__name__ == self.family.block_class]
        norm = getattr(self.model, "layernorm", None) or nn.Identity()  # VideoMAE's classifiers norm after pooling
        left: dict[int, Tensor] = {}
        with ExitStack() as hooks:
            for index in set(out_layers):
                hooks.enter_context(_kept(blocks[index], index, left))
            self._hidden(frames)
        return [self._tokens(norm(left[index]), frames) for index in out_layers]

    def _frames(self, clips: Tensor) -> Tensor:
        frames = clips.transpose(1, 2)
        # A still image is a video that stands still.
        return frames.expand(-1, self.num_frames, -1, -1, -1) if frames.shape[1] == 1 else frames

    def _hidden(self, frames: Tensor) -> Tensor:
        hidden: Tensor = self.model(**{self.input_name: frames}).last_hidden_state
        return hidden

    def _tokens(self, hidden: Tensor, frames: Tensor) -> Tensor:
        tokens = hidden[:, self.family.class_tokens :]
        return time_slowest(tokens, frames.shape[1]) if self.family.time_fastest else tokens


@contextmanager
def _kept(block: nn.Module, index: int, left: dict[int, Tensor]) -> Iterator[None]:
    """While it lasts, what leaves `block` is put into `left` under `index`."""

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        left[index] = output[0] if isinstance(output, tuple) else output  # versions differ

    handle = block.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def time_slowest(tokens: Tensor, num_frames: int) -> Tensor:
    """Tokens [B, h*w*T, D], place after place, -> [B, T*h*w, D], frame after frame."""
    B, N, D = tokens.shape
    return tokens.reshape(B, N // num_frames, num_frames, D).transpose(1, 2).reshape(B, N, D)


def _facts(argument: str, config: Any, family: Family) -> EncoderFacts:
    where = f"model hf:{argument}"
    if getattr(config, "attention_type", "") == "space_only":
        raise BenchError("attention_type space_only keeps frames apart, which is not supported", where=where)
    num_frames = whole(getattr(config, family.num_frames), family.num_frames, where)
    resolution = _square(getattr(config, family.resolution), where)
    tubelet, patch = _tubelet(config, where)
    embed_dim, num_heads, depth = (
        whole(getattr(config, name), name, where, least)
        for name, least in (("hidden_size", 1), ("num_attention_heads", 1), ("num_hidden_layers", 0))
    )
    mlp_dim = getattr(config, "intermediate_size", None)
    if mlp_dim is None:
        mlp_dim = int(embed_dim * ratio(config.mlp_ratio, "mlp_ratio", where))
    spec = InputSpec(
        num_frames=num_frames,
        resolution=resolution,
        frame_step=family.frame_steps.get(num_frames, InputSpec.frame_step),
        **preprocessing(_processor_config(argument), config.model_type, resolution, where),
    )
    return EncoderFacts(
        name=_row_name(argument),
        embed_dim=embed_dim,
        num_heads=num_heads,
        patch_size=patch,
        tubelet_size=tubelet,
        input_spec=spec,
        architecture={
            "kind": f"hf-{config.model_type}",
            "depth": depth,
            "mlp_dim": whole(mlp_dim, "intermediate_size", where),
            "num_heads": num_heads,
            "patch": [tubelet, patch, patch],
            "native": [num_frames, resolution, resolution],
            "activation": config.hidden_act,
            "norm_eps": config.layer_norm_eps,
            "attention": getattr(config, "attention_type", "joint"),
        },
        layer_indices=tuple(range(depth)),
        still_frames=num_frames,
        fixed_num_frames=not family.any_num_frames,
        fixed_resolution=True,
    )


def _tubelet(config: Any, where: str) -> tuple[int, int]:
    """Frames and pixels of a patch's side, from a configuration that gives one or both in one of three ways."""
    tubelet = getattr(config, "tubelet_size", 1)
    if isinstance(tubelet, list | tuple):
        return whole(next(iter(tubelet), None), "tubelet_size", where), _square(tubelet[1:], where)
    return whole(tubelet, "tubelet_size", where), _square(config.patch_size, where)


def _square(size: Any, where: str) -> int:
    sides = [whole(side, "a side", where) for side in (size if isinstance(size, list | tuple) else [size])]
    if len(set(sides)) != 1:
        raise BenchError(f"{'x'.join(map(str, sides))} is not square, which is not supported", where=where)
    return sides[0]


def _file(argument: str, name: str) -> Path | None:
    """A file of the folder, or of the repository by way of the hub's cache; None where it has none of this name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    source = _source(argument)
    if isinstance(source, Path):
        return source / name if (source / name).exists() else None
    try:
        with hub_access():
            return Path(hf_hub_download(source, name))
    except EntryNotFoundError:
        return None


def _processor_config(argument: str) -> Mapping[str, Any]:
    for name in PROCESSOR_FILES:
        try:
            path = _file(argument, name)
            if path is not None:
                return read_configuration(path)
        except (OSError, ValueError) as error:
            raise _unreachable(argument, error) from error
    raise BenchError(
        f"no {PROCESSOR_FILES[1]}, which says what the weights are to see",
        where=f"model hf:{argument}",
        fix="put it beside config.json: the processor's save_pretrained writes it",
    )


def _transformers(argument: str) -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise BenchError(
            "transformers is not installed", where=f"model hf:{argument}", fix="pip install 'vjepa-bench[hf]'"
        ) from error
    module: ModuleType = transformers
    return module


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Without bars and load reports: what is missing is an error here, what is left over a classifier or decoder."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _source(argument: str) -> Path | str:
    """A folder that is there, or else the name of a repository."""
    folder = Path(argument).expanduser()
    if argument and folder.is_dir():
        if not (folder / "config.json").exists():
            raise BenchError("no config.json in this folder", where=str(folder), fix="give what save_pretrained wrote")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", argument):
        raise BenchError(
            "neither a folder nor the name of a repository",
            where=f"model hf:{argument}",
            fix="say hf:path/to/folder or hf:OWNER/NAME",
        )
    return argument


def _row_name(argument: str) -> str:
    source = _source(argument)
    return f"hf:{source.resolve().name}" if isinstance(source, Path) else f"hf:{source}"


def _unreachable(argument: str, error: Exception) -> BenchError:
    """One line of what transformers and the hub say in many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    fix = "the folder must hold config.json and *.safetensors"
    if isinstance(_source(argument), str):
        fix = (
            f"check the name and the network; without one, run `hf download {argument} --local-dir FOLDER` elsewhere"
            " and say hf:FOLDER; a repository without safetensors is to be converted with save_pretrained first"
        )
    return BenchError(lines[0], where=f"model hf:{argument}", fix=fix)
