"""Probe files: official checkpoints (protocol.md 2.3), Hugging Face folders, and safetensors of our own.

A file is data, never code. Whatever is missing, unexpected or misshapen is an error that names the tensor.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import WEIGHTS, check_input
from bench.core.tensors import listing, plain_names, read_tensors
from bench.probing import actions, attentive, blocks, dense, huggingface, pooled
from bench.probing.attentive import AttentiveProbe
from bench.probing.blocks import BlockProbe
from bench.probing.class_names import are_numbers, names_in_order
from bench.probing.dense import DenseProbe
from bench.probing.loaded import LoadedProbe, check_shapes, head_outputs, head_width, matrix_shape
from bench.probing.mean import MeanProbe
from bench.probing.pooled import LinearProbe

DEAD_PREFIX = f"{attentive.BLOCK}.xattn.proj."
"""A projection that V-JEPA 1 files hold and the official probe never applies (protocol.md 4.1)."""
_MEMBER = re.compile(r"probes\.[0-9]{1,4}\.")
"""What the tensors of probes that answer together begin with."""
_LINEAR_NAMES = {pooled.WEIGHT, pooled.BIAS, "mean", "deviation"}


def save_probe(
    path: str | Path, probe: AttentiveProbe | DenseProbe | LinearProbe | MeanProbe, metadata: Mapping[str, str]
) -> None:
    """Write a probe as safetensors, atomically. `metadata` says where it comes from: recipe, task, encoder digest.

    Its key `classes`, JSON text, lists the names of the classes in order.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in probe.state_dict().items()}
    facts = dict(metadata)
    if isinstance(probe, AttentiveProbe):
        facts["num_heads"] = str(probe.num_heads)
    if isinstance(probe, MeanProbe):
        facts |= {"num_heads": str(probe.first.num_heads), "mean_of": "softmax"}
    if isinstance(probe, AttentiveProbe | DenseProbe | MeanProbe):
        facts |= {} if probe.token_scale == 1 else {"token_scale": str(probe.token_scale)}
    if isinstance(probe, BlockProbe):
        facts["norm_eps"] = str(probe.norm_eps)
    with atomic_write(Path(path)) as temporary:
        save_file(tensors, temporary, metadata=facts)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata that `save_probe` was given; empty for files of other makers."""
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        check_input(path, WEIGHTS)
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BenchError("not a readable probe file", where=str(path), fix="save the probe again") from error


def load_probe(path: str | Path, *, num_heads: int | None = None) -> LoadedProbe:
    """The frozen probe of a file: `probe(tokens)` takes tokens [B, N, D] to logits [B, C].

    `path` is a V-JEPA 1 checkpoint (`classifier`), a V-JEPA 2 one (`classifiers`, of which `probe(tokens)` is the
    first, and `probe(tokens, all_heads=True)` all of them, [heads, B, C]), a Hugging Face folder of an encoder with
    its classifier, or a file that bench saved. Official files do not say their number of attention heads: it is 16 for
    the official widths, and for others `num_heads` has to. Raises BenchError for whatever is not a complete probe, and
    where nothing tells its heads.
    """
    return read_probe(path, num_heads=num_heads)


def read_probe(path: str | Path, *, num_heads: int | None = None, encoder_heads: int | None = None) -> LoadedProbe:
    """As `load_probe`, with the heads that the encoder gives its probes where nothing else tells: official V-JEPA 1
    probes have as many as their encoder (protocol.md 4.1)."""
    if num_heads is not None and (type(num_heads) is not int or num_heads < 1):
        fix = "give a whole number, 1 or more"
        raise BenchError(f"a probe cannot have {num_heads!r} attention heads", where=str(path), fix=fix)
    path = Path(path).expanduser()
    if path.is_dir():
        return huggingface.load_folder(path, num_heads=num_heads)
    if not path.exists():
        raise BenchError("no such probe file", where=str(path), fix="check the path")
    content = read_tensors(path)
    metadata = read_metadata(path)
    layout, states = _state_dicts(content, path, own="protocol" in metadata, mean="mean_of" in metadata)
    heads, notes = [], []
    for index, state in enumerate(states):
        where = (
            f"{path}, {'probes' if 'mean_of' in metadata else 'classifiers'}[{index}]" if len(states) > 1 else str(path)
        )
        # Copies, because a file puts tensors at any address, and matrix products round by where their operands start:
        # a probe that was read answers as the one that was trained, bit for bit.
        tensors = {name: tensor.float().clone() for name, tensor in plain_names(state, path).items()}
        _refuse_other_probes(tensors, layout, where)
        head, note = _build(tensors, layout, metadata, (num_heads, encoder_heads), where)
        heads.append(head)
        notes += [note] if note and note not in notes else []
    answering: Sequence[AttentiveProbe | DenseProbe | LinearProbe | MeanProbe] = heads
    if "mean_of" in metadata:
        answering = [_mean(heads, metadata, path)]
    loaded = LoadedProbe(
        answering, layout=layout, class_names=_class_names(metadata, path), metadata=metadata, notes=notes
    )
    for index, part in enumerate(heads):
        if (head_outputs(part), head_width(part)) != (loaded.outputs, loaded.embed_dim):
            raise BenchError(f"classifiers[{index}] differs from the first in width or classes", where=str(path))
    if loaded.class_names is not None and len(loaded.class_names) != loaded.num_classes:
        raise BenchError(
            f"names {len(loaded.class_names)} classes for {loaded.num_classes} outputs",
            where=str(path),
            fix="save the probe again",
        )
    return loaded


def _state_dicts(
    content: Mapping[str, Any], path: Path, *, own: bool, mean: bool
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """The layout of a file, and the state dict of each of its heads."""
    if "classifiers" in content:
        states = content["classifiers"]
        if not isinstance(states, list | tuple) or not states or not all(map(_is_state_dict, states)):
            raise BenchError("'classifiers' is no list of state dicts", where=str(path), fix="download it again")
        return "V-JEPA 2", states
    if _is_state_dict(content.get("classifier")):
        return "V-JEPA 1", [content["classifier"]]
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise BenchError(
            f"no probe under the keys classifier or classifiers (the file's keys: {listing(content)})",
            where=str(path),
            fix="give an official probe checkpoint, a Hugging Face classifier folder, or a probe that bench saved",
        )
    if mean and all(_MEMBER.match(name) for name in content):
        members: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, tensor in content.items():
            _, number, rest = name.split(".", 2)
            members[int(number)][rest] = tensor
        return "bench", [members[number] for number in sorted(members)]
    return "bench" if own else "state dict", [content]


def _mean(probes: Sequence[Any], metadata: Mapping[str, str], path: Path) -> MeanProbe:
    """Probes of a file of our own that answer together."""
    if metadata["mean_of"] != "softmax" or not all(type(one) is AttentiveProbe for one in probes):
        raise BenchError("its probes do not make a mean", where=str(path), fix="save the probe again")
    return MeanProbe(probes)


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(tensor, Tensor) for tensor in value.values())


def _refuse_other_probes(tensors: Mapping[str, Tensor], layout: str, where: str) -> None:
    if any(name.startswith(huggingface.PREFIXES) for name in tensors):
        raise BenchError(
            "these are the weights of a Hugging Face folder",
            where=where,
            fix="give the folder itself, which holds config.json too",
        )
    if layout == "V-JEPA 1" and any(name.startswith(f"{blocks.BLOCKS}.") for name in tensors):
        raise BenchError(
            "this is a V-JEPA 1 probe of several blocks, which attend in another order; no such probe was released",
            where=where,
            fix="give a one-block probe (key classifier) or a V-JEPA 2 probe (key classifiers)",
        )


def _build(
    tensors: dict[str, Tensor],
    layout: str,
    metadata: Mapping[str, str],
    num_heads: tuple[int | None, int | None],
    where: str,
) -> tuple[AttentiveProbe | DenseProbe | LinearProbe, str]:
    """One head, and what a reader of its scores must know of it; `num_heads` as `_heads`."""
    if set(tensors) == _LINEAR_NAMES:
        classes, width = matrix_shape(tensors, pooled.WEIGHT, where)
        of_linear: dict[str, tuple[int, ...]] = {pooled.WEIGHT: (classes, width), pooled.BIAS: (classes,)}
        check_shapes(tensors, {**of_linear, "mean": (width,), "deviation": (width,)}, where)
        return LinearProbe(tensors), ""
    if dense.WEIGHT in tensors:
        return _dense(tensors, metadata, where), ""
    if layout != "V-JEPA 2":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(DEAD_PREFIX)}
    of_actions = f"{blocks.CLASSIFIERS[0]}.weight" in tensors
    names = blocks.CLASSIFIERS if of_actions else ("linear",)
    sizes = [matrix_shape(tensors, f"{name}.weight", where)[0] for name in names]
    width = matrix_shape(tensors, f"{names[0]}.weight", where)[1]
    # Counted, not read off the highest number: one made-up name must not ask for a billion blocks.
    joined = [name for name in tensors if name.startswith(f"{blocks.BLOCKS}.") and name.endswith(".attn.qkv.weight")]
    num_blocks = 1 + len(joined)
    shapes = actions.tensor_shapes(width, sizes, num_blocks) if of_actions else None
    check_shapes(tensors, shapes or blocks.tensor_shapes(width, sizes[0], num_blocks), where)
    heads, note = _heads(metadata, width, *num_heads, where)
    attentive.check_heads(width, heads)
    if num_blocks == 1 and not of_actions:
        probe = AttentiveProbe(tensors, heads)
    else:
        probe = BlockProbe(tensors, heads, norm_eps=_norm_eps(metadata, where))
    probe.token_scale = read_scale(metadata, where)
    return probe, note


def _dense(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str) -> DenseProbe:
    """A linear layer on every token: ours, or the head of another maker with the same names."""
    weight = tensors[dense.WEIGHT]
    if weight.ndim != 4:
        raise BenchError(f"{dense.WEIGHT} has shape {list(weight.shape)}, not [classes, channels, 1, 1]", where=where)
    shapes = dense.tensor_shapes(weight.shape[1], weight.shape[0], batch_norm=dense.SCALE in tensors)
    check_shapes(tensors, shapes, where)
    if dense.VARIANCE in tensors and bool((tensors[dense.VARIANCE] < 0).any()):
        raise BenchError(f"{dense.VARIANCE} has values below 0", where=where, fix="save the probe again")
    probe = DenseProbe(tensors)
    probe.token_scale = read_scale(metadata, where)
    return probe


def read_scale(metadata: Mapping[str, str], where: str) -> float:
    """The factor of the tokens that a file of our own states; 1 where it states none."""
    try:
        scale = float(metadata.get("token_scale", 1))
    except ValueError:
        scale = math.nan
    if not 2**-100 <= scale <= 2**100 or math.frexp(scale)[0] != 0.5:
        stated = metadata["token_scale"]
        raise BenchError(f"token_scale '{stated}' is no power of two", where=where, fix="save the probe again")
    return scale


def _heads(
    metadata: Mapping[str, str], width: int, given: int | None, of_encoder: int | None, where: str
) -> tuple[int, str]:
    """Attention heads as given, as the file says, of the official width or as the encoder gives its probes; and what to
    note."""
    stated = metadata.get("num_heads", "")
    heads = given or (int(stated) if re.fullmatch("[1-9][0-9]{,3}", stated) else None)
    heads = heads or attentive.OFFICIAL_NUM_HEADS.get(width)
    if heads:
        return heads, ""
    if of_encoder:
        return of_encoder, f"{of_encoder} attention heads of the probe, as its encoder has: its file does not say"
    raise BenchError(
        f"a probe of {width} channels, which is no official width: no file says into how many attention heads they"
        " divide",
        where=where,
        fix="state them: load_probe(FILE, num_heads=N)",
    )


def _norm_eps(metadata: Mapping[str, str], where: str) -> float:
    stated = metadata.get("norm_eps", str(attentive.NORM_EPS))
    if not re.fullmatch(r"[0-9]*[.]?[0-9]+(e-?[0-9]{1,3})?", stated) or not 0 < float(stated) < 1:
        raise BenchError(f"norm_eps '{stated}' of the metadata is no epsilon", where=where, fix="save the probe again")
    return float(stated)


def _class_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...] | None:
    """The names that a file of our own states; none where they are the labels themselves."""
    if "classes" not in metadata:
        return None
    try:
        stated = json.loads(metadata["classes"])
    except (ValueError, RecursionError) as error:
        raise BenchError("its class names are not JSON", where=str(path), fix="save the probe again") from error
    names = names_in_order(stated, where=path)
    return None if are_numbers(names) else names
