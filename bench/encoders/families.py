"""Which V-JEPA an encoder's tensors are, and what follows for heads, frames and resolution (protocol.md 2.2).

The evidence in the order of its strength: names that only one family has, the predictor beside the encoder, the card of
the catalog. What is assumed for lack of evidence is said in a note.

Shapes: N tokens of the stored positions, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.encoders import vjepa
from bench.encoders.catalog import ModelCard
from bench.encoders.layouts import Checkpoint
from bench.encoders.vjepa import Family, VitConfig
from bench.errors import BenchError

_MULTILEVEL_NAMES = ("norms_block.", "patch_embed_img.", "img_mod_embed", "video_mod_embed")
_RELEASED_INPUT: dict[Family, tuple[int, int]] = {"V-JEPA 2": (64, 256), "V-JEPA 2.1": (64, 384)}
"""Frames and pixels that most released files of a family were trained on (protocol.md 1.3, 1.4)."""
_RELEASED_MASK_TOKENS = 10
"""Of the released V-JEPA 2 predictors."""


def family_of(checkpoint: Checkpoint, card: ModelCard | None = None) -> tuple[Family, list[str]]:
    """The family of an encoder, and notes on what had to be assumed; `card` decides only where the file cannot.

    Raises BenchError for an encoder that is no V-JEPA.
    """
    names, predictor = checkpoint.tensors, checkpoint.predictor
    if any(name.startswith(_MULTILEVEL_NAMES) for name in names):
        return "V-JEPA 2.1", []
    if "cls_token" in names:
        raise BenchError(
            "this is an image encoder's checkpoint (class token), not V-JEPA",
            where=str(checkpoint.path),
            fix="give a V-JEPA video encoder checkpoint",
        )
    mask_tokens = sum(name.startswith("mask_tokens.") for name in predictor)
    if predictor and ("predictor_pos_embed" not in predictor or mask_tokens > 2):
        told = "pos_embed" not in names or checkpoint.is_action_conditioned or mask_tokens == _RELEASED_MASK_TOKENS
        return "V-JEPA 2", [] if told else ["stored positions passed over, rotary ones assumed as V-JEPA 2 has"]
    if predictor:
        return "V-JEPA", []
    if "pos_embed" not in names:
        told = card is not None and card.family == "V-JEPA 2"
        return "V-JEPA 2", [] if told else ["no stored positions in the file: rotary ones assumed as V-JEPA 2 has"]
    if card and card.family in ("V-JEPA", "V-JEPA 2"):
        family: Family = "V-JEPA" if card.family == "V-JEPA" else "V-JEPA 2"
        return family, [f"no predictor in the file to tell V-JEPA 1 from 2: read as {family}, as {card.name} is"]
    return "V-JEPA", ["no predictor in the file to tell V-JEPA 1 from 2: read as 1"]


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
