"""Which V-JEPA an encoder's tensors are, and what follows for heads, frames and resolution (protocol.md 2.2).

The evidence: names that only one family has, the predictor beside the encoder, the catalog name that was asked for.
Where more than one reading fits, the user is asked, and nothing is read; the answer is `--set encoder.KEY=VALUE`.

Shapes: N tokens of the stored positions, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bench.core.errors import BenchError, nearest
from bench.encoders import vjepa
from bench.encoders.catalog import ModelCard
from bench.encoders.layouts import Checkpoint
from bench.encoders.vjepa import Family, VitConfig

FAMILY_WORDS: dict[str, Family] = {"vjepa1": "V-JEPA", "vjepa2": "V-JEPA 2", "vjepa2.1": "V-JEPA 2.1"}
"""Families as a user states them."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is stated of a file's encoder; None for what the file is to tell."""

    family: Family | None = None
    num_heads: int | None = None
    """Attention heads of the encoder."""
    key: str | None = None
    """Where the encoder is in the file, such as `encoder`; parts of a path are separated by dots."""

    @property
    def names(self) -> list[str]:
        """The settings that were given."""
        return [f"encoder.{name}" for name, value in vars(self).items() if value is not None]


NOTHING = Stated()


def read_stated(given: Mapping[str, Any]) -> Stated:
    """What `given` states by the names of the fields; None counts as not given.

    Raises BenchError for another name, a family that is not known, heads that are no number, a key that is no text.
    """
    known = Stated.__dataclass_fields__
    values = {name: value for name, value in given.items() if value is not None}
    for name in values:
        if name not in known:
            raise BenchError(f"no setting 'encoder.{name}'", where="--set", fix=nearest(name, known))
    family, num_heads, key = (values.get(name) for name in ("family", "num_heads", "key"))
    if family is not None and (not isinstance(family, str) or family not in FAMILY_WORDS):
        raise _bad("family", family, nearest(str(family), FAMILY_WORDS))
    if num_heads is not None and (not isinstance(num_heads, int) or isinstance(num_heads, bool) or num_heads < 1):
        raise _bad("num_heads", num_heads, "give a whole number, 1 or more")
    if key is not None and (not isinstance(key, str) or not key):
        raise _bad("key", key, "give the name of an entry of the file, such as encoder")
    return Stated(family=None if family is None else FAMILY_WORDS[family], num_heads=num_heads, key=key)


def stated_settings(settings: Mapping[str, Any], *, only: bool = False) -> Stated:
    """What the settings `encoder.KEY` state; others are passed over, or with `only` a BenchError."""
    sections = {key: key.partition(".") for key in settings}
    for key, (section, _, _) in sections.items():
        if only and section != "encoder":
            raise BenchError(f"unknown setting '{key}'", where="--set", fix="settings here begin with encoder.")
    return read_stated({name: settings[key] for key, (section, _, name) in sections.items() if section == "encoder"})


def title(family: Family) -> str:
    """The name of a family as people say it: the first has a number too."""
    return "V-JEPA 1" if family == "V-JEPA" else family


def _bad(name: str, value: object, fix: str) -> BenchError:
    return BenchError(f"encoder.{name} cannot be {value!r}", where="--set", fix=fix)


_MULTILEVEL_NAMES = ("norms_block.", "patch_embed_img.", "img_mod_embed", "video_mod_embed")
_RELEASED_INPUT: dict[Family, tuple[int, int]] = {"V-JEPA 2": (64, 256), "V-JEPA 2.1": (64, 384)}
"""Frames and pixels that most released files of a family were trained on (protocol.md 1.3, 1.4)."""
_RELEASED_MASK_TOKENS = 10
"""Mask tokens of the released V-JEPA 2 predictors."""
_MASK_TOKENS_OF_1 = 2
"""Most mask tokens of a V-JEPA 1 predictor."""


def family_of(
    checkpoint: Checkpoint, card: ModelCard | None = None, stated: Family | None = None
) -> tuple[Family | None, list[str]]:
    """The family of an encoder, and notes on what a reader must know of it; None where more than one fits.

    `card` is that of the catalog name which the file was asked for by. What is stated goes before the evidence of a
    predictor, which a note then tells. Raises BenchError for an encoder that is no V-JEPA, and where the encoder's own
    tensors contradict what is stated.
    """
    notes: list[str] = []
    told = _told_by_names(checkpoint)
    if told is None:
        told, notes = _told_by_predictor(checkpoint)
    if told is None and card is not None and card.family in FAMILY_WORDS.values():
        told = cast("Family", card.family)
    if stated is None or stated == told:
        return told, [] if stated else notes
    if "V-JEPA 2.1" in (told, stated):
        what = f"{title(stated)} is stated, and the {checkpoint.title} has {'' if told == 'V-JEPA 2.1' else 'not '}"
        raise BenchError(
            f"{what}the tensors that only V-JEPA 2.1 has ({', '.join(_MULTILEVEL_NAMES)})",
            where=str(checkpoint.path),
            fix="drop encoder.family, or state another",
        )
    return stated, [f"read as {title(stated)}, as stated; by its predictor it is {title(told)}"] if told else []


def _told_by_names(checkpoint: Checkpoint) -> Family | None:
    names = checkpoint.tensors
    if any(name.startswith(_MULTILEVEL_NAMES) for name in names):
        return "V-JEPA 2.1"
    if "cls_token" in names:
        raise BenchError(
            "this is an image encoder's checkpoint (class token), not V-JEPA",
            where=str(checkpoint.path),
            fix="give a V-JEPA video encoder checkpoint",
        )
    return None


def _told_by_predictor(checkpoint: Checkpoint) -> tuple[Family | None, list[str]]:
    """What the predictor beside the encoder tells, if it is one of V-JEPA; and how, where that is weak."""
    predictor, has_positions = checkpoint.predictor, "pos_embed" in checkpoint.tensors
    if checkpoint.has_empty_predictor:
        # Training code writes what the model holds. The released V-JEPA 2 files, which hold positions without a use,
        # hold their predictor too.
        family: Family = "V-JEPA" if has_positions else "V-JEPA 2"
        what = f"holds {'' if has_positions else 'no '}positions"
        return family, [f"read as {title(family)}: a training run whose encoder {what}, its predictor is empty"]
    mask_tokens = sum(name.startswith("mask_tokens.") for name in predictor)
    if not mask_tokens and not checkpoint.predictor_depth:  # another architecture's, or none
        return None, []
    if "predictor_pos_embed" not in predictor or mask_tokens == _RELEASED_MASK_TOKENS:
        return "V-JEPA 2", []
    if mask_tokens <= _MASK_TOKENS_OF_1:
        return "V-JEPA", []
    return (None if has_positions else "V-JEPA 2"), []


def open_question(
    checkpoint: Checkpoint, family: Family | None, sizes: Mapping[str, int], *, heads_are_open: bool
) -> BenchError:
    """What the file leaves open, in one line, and how to state it."""
    what, fix = [], []
    if family is None:
        fits = (
            "fits V-JEPA 1, which reads its stored positions, and V-JEPA 2, which passes them over"
            if "pos_embed" in checkpoint.tensors
            else "holds no positions: V-JEPA 2 has none, nor has a V-JEPA 1 that lost them, nor have other transformers"
        )
        what.append(fits)
        fix.append("--set encoder.family=vjepa2 (or vjepa1)")
    if heads_are_open and not (family is None and num_heads_of("V-JEPA 2", sizes)):  # else the family settles them
        read_as = f"is a {title(family)} encoder and " if family else ""
        width, depth = sizes["embed_dim"], sizes["depth"]
        what.append(
            f"{read_as}has {width} channels and {depth} blocks, which is no size with a name: no file says into how"
            " many attention heads they divide"
        )
        fix.append("--set encoder.num_heads=N")
    return BenchError(
        f"the encoder ({checkpoint.title}) {'; it '.join(what)}",
        where=str(checkpoint.path),
        fix=f"state it: {' '.join(fix)}",
    )


def heads_of(
    family: Family | None, sizes: Mapping[str, int], card: ModelCard | None, stated: int | None
) -> tuple[int | None, list[str]]:
    """Attention heads: as stated, or those of the size with a name; None where neither tells. And what to note."""
    usual = num_heads_of(family, sizes) if family else None
    config = card_config(card) if card else None
    usual = usual or (config.num_heads if config else None)
    if stated is None or stated == usual:
        return usual, []
    return stated, [f"{stated} attention heads, as stated; others of its size have {usual}"] if usual else []


def num_heads_of(family: Family, sizes: Mapping[str, int]) -> int | None:
    """Attention heads of the size with a name that has these widths; None where there is none.

    Width 1408 has 16 heads in V-JEPA 1 and 22 in 2 and 2.1 (protocol.md 1.1, 1.3).
    """
    others = ("vit_giant_xformers", "vit_gigantic_xformers") if family == "V-JEPA" else ("vit_giant", "vit_gigantic")
    fields = ("embed_dim", "depth", "patch_size")
    for name, size in vjepa.SIZES.items():
        if name not in others and all(getattr(size, field) == sizes[field] for field in fields):
            return size.num_heads
    return None


def card_config(card: ModelCard) -> VitConfig | None:
    """The architecture that a card of the catalog states; None where it states no size."""
    if card.size is None:
        return None
    return replace(
        vjepa.SIZES[card.size],
        num_frames=card.num_frames,
        resolution=card.resolution,
        use_rope=card.family != "V-JEPA",
        multilevel=card.family == "V-JEPA 2.1",
    )


def rotary_input(
    checkpoint: Checkpoint, family: Family, sizes: Mapping[str, int], card: ModelCard | None
) -> tuple[int, int, list[str]]:
    """Frames and resolution that an encoder with rotary positions was trained on, and notes on what was assumed.

    Nothing that it computes depends on them: it is from the card, from stored positions that it carries unused, or
    else what most released files of its family have.
    """
    stated = card_config(card) if card else None
    if stated and (stated.family, stated.embed_dim, stated.depth) == (family, sizes["embed_dim"], sizes["depth"]):
        return stated.num_frames, stated.resolution, []
    code = checkpoint.tensors.get("pos_embed")
    grid = _grid_of(code) if code is not None and code.ndim == 3 else None
    if grid:
        return grid[0][0] * sizes["tubelet_size"], grid[0][1] * sizes["patch_size"], []
    frames, resolution = _RELEASED_INPUT[family]
    return frames, resolution, [f"the file does not say its input: {frames} frames of {resolution} px assumed"]


def identify_positions(path: Path, pos_embed: Tensor) -> tuple[tuple[int, int, int], bool]:
    """The (t, h, w) grid whose sin-cos code the stored positions [1, N, D] are, and its `uniform_power`.

    N alone does not tell the grid (64 tokens are 4x4x4 or 1x8x8); the values do.
    """
    found = _grid_of(pos_embed)
    if found and is_sincos(pos_embed, *found):
        return found
    raise BenchError(
        f"'pos_embed' {list(pos_embed.shape)} is not the sin-cos code of any (t, h, h) grid, so frames and resolution"
        " cannot be told",
        where=str(path),
        fix="give a V-JEPA 1 encoder checkpoint",
    )


def is_sincos(pos_embed: Tensor, grid: tuple[int, int, int], uniform_power: bool) -> bool:
    """Whether [1, N, D] is the sin-cos code of a grid."""
    if not pos_embed.is_floating_point():
        return False
    table = vjepa.sincos_positions(pos_embed.shape[2], grid, uniform_power=uniform_power)
    return table.shape == pos_embed.shape and _agree(pos_embed, table)


def _grid_of(pos_embed: Tensor) -> tuple[tuple[int, int, int], bool] | None:
    """The grid whose code stands along the first token's row, column and time; None where there is none.

    Three lines tell the grid without its table, which for long clips is a third of a gigabyte and more.
    """
    if not pos_embed.is_floating_point():
        return None
    num_tokens, dim = pos_embed.shape[1:]
    for side in range(int(num_tokens**0.5), 0, -1):
        if num_tokens % (side * side):
            continue
        grid = (num_tokens // (side * side), side, side)
        volume = pos_embed[0].reshape(*grid, dim)
        lines = (volume[:, 0, 0], volume[0, :, 0], volume[0, 0, :])
        shapes = ((grid[0], 1, 1), (1, side, 1), (1, 1, side))
        for uniform_power in (True, False):
            codes = [vjepa.sincos_positions(dim, shape, uniform_power=uniform_power)[0] for shape in shapes]
            if all(_agree(line, code) for line, code in zip(lines, codes, strict=True)):
                return grid, uniform_power
    return None


def _agree(stored: Tensor, table: Tensor) -> bool:
    # The moving average rounds at every step, which moves the stored positions by up to 1e-4 in a long training run.
    tolerance = max(1e-3, 2 * torch.finfo(stored.dtype).eps)
    return torch.allclose(stored.float(), table, atol=tolerance)
