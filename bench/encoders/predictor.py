"""The predictor of a checkpoint, from the context's tokens to what stands at the masked places (arXiv 2404.08471,
section 3; protocol.md 1.2, 1.3); and encoder with predictor as one encoder.

As one, the predictor is shown all tokens of the clip and asked for those of one step of time (a tubelet), `ahead` steps
after the last; they follow the clip's tokens. So reads the official EPIC-KITCHENS-100 probe (protocol.md 4.4).

Shapes: B clips, n context tokens, m target tokens, N = t*h*w tokens of the full grid or of a clip, D encoder channels,
P predictor channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.encoders import Choice, Encoder, EncoderFacts
from bench.encoders.layouts import Checkpoint, check_shapes, read_checkpoint
from bench.encoders.loading import FILE
from bench.encoders.vjepa import (
    Block,
    VisionTransformer,
    gather_tokens,
    rotary_channels,
    rotary_table,
    rotation_at,
    sincos_positions,
)


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Everything that fixes the shape of the predictor."""

    encoder_dim: int
    """D, channels of the encoder's tokens."""
    out_dim: int
    """Channels of what is predicted: D for features, the values of a patch for pixels."""
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 16
    grid: tuple[int, int, int] = (8, 14, 14)
    """(t, h, w) token grid that the masks index."""
    num_mask_tokens: int = 2
    uniform_power: bool = True
    use_rope: bool = False
    """Rotary positions inside attention (V-JEPA 2) in place of a stored position code."""


class Predictor(nn.Module):
    """A narrow transformer over context tokens and mask tokens. Tensor names are the official ones."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        if config.use_rope:
            rotary_channels(width // config.num_heads)
        else:
            positions = sincos_positions(width, config.grid, uniform_power=config.uniform_power)
            self.predictor_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.predictor_embed = nn.Linear(config.encoder_dim, width)
        self.mask_tokens = nn.ParameterList(torch.zeros(1, 1, width) for _ in range(config.num_mask_tokens))
        self.predictor_blocks = nn.ModuleList(Block(width, config.num_heads, 4 * width) for _ in range(config.depth))
        self.predictor_norm = nn.LayerNorm(width, eps=1e-6)
        self.predictor_proj = nn.Linear(width, config.out_dim)

    def forward(self, context: Tensor, context_mask: Tensor, target_mask: Tensor, mask_index: int = 0) -> Tensor:
        """Tokens [B, n, D] at `context_mask` [B, n] -> predictions [B, m, out_dim] at `target_mask` [B, m].

        `mask_index` says which kind of mask it is; each kind has a mask token of its own.
        """
        seen = self.predictor_embed(context)
        hidden = self.mask_tokens[mask_index % len(self.mask_tokens)].expand(*target_mask.shape, -1)
        rotation = None
        if self.config.use_rope:
            table = rotary_table(self.config.grid, self.config.embed_dim // self.config.num_heads, context.device)
            rotation = rotation_at(table, torch.cat([context_mask, target_mask], dim=1))
        else:
            positions = self.predictor_pos_embed.expand(len(context), -1, -1)
            seen = seen + gather_tokens(positions, context_mask)
            hidden = hidden + gather_tokens(positions, target_mask)
        x = torch.cat([seen, hidden], dim=1)
        for block in self.predictor_blocks:
            x = block(x, rotation)
        out: Tensor = self.predictor_proj(self.predictor_norm(x[:, seen.shape[1] :]))
        return out


_OFFICIAL_WIDTH = 384
_OFFICIAL_HEADS = 12
"""Heads of V-JEPA 2 predictors (protocol.md 1.3); those of V-JEPA 1 have as many as their encoder."""
_MASK_INDEX = 1
"""Index of the mask token that the official code asks with."""


@dataclass(frozen=True)
class Ahead:
    """The places that a predictor is asked for."""

    grid: tuple[int, int, int]
    """(t, h, w) tokens of the clip."""
    steps: int
    """Token steps from the first one after the clip to the one that is predicted; 0 predicts the first."""


class EncoderWithPredictor(nn.Module):
    """Clips [B, 3, T, H, W] -> the clip's tokens, then the predicted ones: [B, N + h*w, D]."""

    def __init__(self, encoder: VisionTransformer, predictor: Predictor, ahead: Ahead) -> None:
        super().__init__()
        self.encoder, self.predictor, self.ahead = encoder, predictor, ahead

    def forward(self, clips: Tensor) -> Tensor:
        if self.encoder.grid(clips) != self.ahead.grid:
            raise ValueError(f"clips of {self.encoder.grid(clips)} tokens, the predictor is asked for {self.ahead}")
        tokens: Tensor = self.encoder(clips)
        steps, height, width = self.ahead.grid
        step = height * width
        seen = torch.arange(steps * step, device=tokens.device).expand(len(tokens), -1)
        asked = torch.arange(step, device=tokens.device).expand(len(tokens), -1) + (steps + self.ahead.steps) * step
        return torch.cat([tokens, self.predictor(tokens, seen, asked, _MASK_INDEX)], dim=1)


def steps_ahead(seconds: float, fps: float, tubelet_size: int) -> int:
    """Steps of time from the end of a clip to what is to be foreseen: 4 for one second at 8 frames a second."""
    return int(seconds * fps / tubelet_size)


def describe_with_predictor(choice: Choice, grid: tuple[int, int, int], steps: int) -> EncoderFacts:
    """What is known of an encoder together with its predictor, asked `steps` after clips of a (t, h, w) `grid` of
    tokens. Raises BenchError where there is no predictor that can tell."""
    facts = choice.facts()
    checkpoint, config = _predictor_of(choice, facts, Ahead(grid, steps))
    _empty(checkpoint, config)
    return _joined_facts(facts, config, steps)


def load_with_predictor(choice: Choice, grid: tuple[int, int, int], steps: int, device: str) -> Encoder:
    """The frozen encoder and predictor that `describe_with_predictor` describes. Raises BenchError as it."""
    encoder, ahead = choice.load(), Ahead(grid, steps)
    checkpoint, config = _predictor_of(choice, encoder.facts, ahead)
    predictor = _empty(checkpoint, config)
    weights = {name: tensor for name, tensor in checkpoint.predictor.items() if name in predictor.state_dict()}
    predictor.load_state_dict({name: tensor.to(torch.float32) for name, tensor in weights.items()}, assign=True)
    if not isinstance(encoder.module, VisionTransformer):
        raise ValueError(f"{choice.spec} is no V-JEPA encoder")
    module = EncoderWithPredictor(encoder.module, predictor, ahead)
    facts = _joined_facts(encoder.facts, config, steps)
    return Encoder(facts, module, report={**encoder.report, "notes": facts.weights["notes"]}).to(device)


def _joined_facts(facts: EncoderFacts, config: PredictorConfig, steps: int) -> EncoderFacts:
    architecture = {**facts.architecture, "predictor": asdict(config), "steps_ahead": steps, "mask_index": _MASK_INDEX}
    weights = dict(facts.weights)
    if config.use_rope and config.embed_dim != _OFFICIAL_WIDTH:
        note = f"its predictor of {config.embed_dim} channels is read with {config.num_heads} attention heads"
        weights["notes"] = [*weights["notes"], note]
    return replace(facts, architecture=architecture, predicted_steps=1, layer_indices=(), weights=weights)


def _predictor_of(choice: Choice, facts: EncoderFacts, ahead: Ahead) -> tuple[Checkpoint, PredictorConfig]:
    """The checkpoint, and the shape of its predictor. Raises BenchError where it cannot be asked."""
    (kind, resolved), spec = choice.resolve(), choice.spec
    family = {"vjepa1": "V-JEPA", "vjepa2": "V-JEPA 2"}.get(str(facts.architecture.get("kind")))
    if kind is not FILE or family is None:
        raise _no_predictor(spec, "only checkpoint files of V-JEPA 1 and 2 have a predictor that can be asked")
    key = choice.stated.key or (resolved.card.key if resolved.card else None)
    checkpoint = read_checkpoint(Path(resolved.argument).expanduser(), key=key)
    tensors = checkpoint.predictor
    if checkpoint.is_action_conditioned:
        raise _no_predictor(spec, "its predictor is asked with a robot's actions")
    if "predictor_embed.weight" not in tensors or "predictor_proj.weight" not in tensors:
        raise _no_predictor(spec, "the checkpoint holds no predictor")
    width, encoder_dim = tensors["predictor_embed.weight"].shape
    config = PredictorConfig(
        encoder_dim=encoder_dim,
        out_dim=len(tensors["predictor_proj.weight"]),
        embed_dim=width,
        depth=checkpoint.predictor_depth,
        num_heads=_num_heads(checkpoint, facts, family),
        grid=(ahead.grid[0] + ahead.steps + 1, *ahead.grid[1:]),
        num_mask_tokens=sum(name.startswith("mask_tokens.") for name in tensors),
        use_rope=family == "V-JEPA 2",
        uniform_power=bool(facts.architecture["uniform_power"]),
    )
    if config.out_dim != facts.embed_dim:
        raise _no_predictor(spec, f"its predictor gives {config.out_dim} channels, not the encoder's {facts.embed_dim}")
    if not config.use_rope:
        config = replace(config, grid=_stored_grid(spec, facts, tensors, config.grid))
    return checkpoint, config


def _num_heads(checkpoint: Checkpoint, facts: EncoderFacts, family: str) -> int:
    """Attention heads, which shapes do not tell: as this project's files state, or the official number."""
    head = checkpoint.own.head if checkpoint.own and isinstance(checkpoint.own.head, dict) else {}
    stated = head.get("num_heads")
    if isinstance(stated, int) and stated > 0:
        return stated
    return _OFFICIAL_HEADS if family == "V-JEPA 2" else int(facts.architecture["num_heads"])


def _stored_grid(
    spec: str, facts: EncoderFacts, predictor: Mapping[str, Tensor], needed: tuple[int, int, int]
) -> tuple[int, int, int]:
    """The grid of the stored positions of a V-JEPA 1 predictor, which end with the frames that it was trained on."""
    native = facts.grid(facts.input_spec.num_frames, facts.input_spec.resolution, facts.input_spec.resolution)
    stored = predictor.get("predictor_pos_embed")
    if stored is not None and stored.ndim == 3 and stored.shape[1] != math.prod(native):
        why = f"its stored positions are {stored.shape[1]}, and a grid of {native} has {math.prod(native)}"
        raise _no_predictor(spec, f"{why}: it was trained at another resolution")
    if native[1:] != needed[1:] or needed[0] > native[0]:
        raise _no_predictor(
            spec, f"its stored positions are a grid of {native}, and what is asked lies outside: {needed}"
        )
    return native


def _empty(checkpoint: Checkpoint, config: PredictorConfig) -> Predictor:
    """The predictor without values. Raises BenchError naming tensors that are missing, unexpected or misshapen."""
    where = f"{checkpoint.path} [predictor]"
    if config.embed_dim % config.num_heads:
        raise BenchError(f"{config.embed_dim} channels do not divide into {config.num_heads} heads", where=where)
    with torch.device("meta"):
        predictor = Predictor(config)
    expected = {name: tuple(tensor.shape) for name, tensor in predictor.state_dict().items()}
    # As with the encoder, rotary predictors carry stored positions that they do not use (protocol.md 1.3).
    unused = {"predictor_pos_embed"} if config.use_rope else set()
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.predictor.items() if name not in unused}
    check_shapes(found, expected, where)
    return predictor


def _no_predictor(spec: str, why: str) -> BenchError:
    fix = "take the encoder's tokens alone: --set clip.tokens=encoder, or --clip before-start"
    return BenchError(f"no predicted tokens: {why}", where=f"model {spec}", fix=fix)
