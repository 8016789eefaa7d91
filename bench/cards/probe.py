"""Probe cards: what is trained on the tokens. Schemas of probes/*.yaml; bench.cards.load finds and reads them."""

from __future__ import annotations

from itertools import cycle
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from bench.cards.fields import AtLeastOne, CardPart, LearningRate, Million, NotNegative, Side, Thousand, without_usual
from bench.core.types import Positive

_MOST_SETTINGS = 1000
_SCHEDULE = ("start_lr_ratio", "warmup_epochs", "final_lr", "final_weight_decay")
_OF_LR = ("lr_width", "forget_epochs")
_USUALLY_UNSAID = (
    *("augmentation", "streaming", "boxes", "masks", "num_heads"),
    *("standardised", "seeds", "seeds_up_to"),
)


class Setting(CardPart):
    """One probe of a sweep: how its learning rate and weight decay go over the training (protocol.md 5.1)."""

    lr: LearningRate = Field(gt=0)
    weight_decay: NotNegative
    start_lr: LearningRate | None = None
    """First lr of the warm-up; `lr` where empty."""
    warmup_epochs: NotNegative = 0.0
    final_lr: NotNegative = 0.0
    final_weight_decay: NotNegative | None = None
    """Weight decay follows a cosine to this value; constant where empty."""


class Optimisation(CardPart):
    """How a probe is trained (protocol.md 5.1).

    The sweep is every `lr` with every `weight_decay` on one schedule, or a list of settings with a schedule each.
    """

    epochs: Million
    min_steps: AtLeastOne = 1
    """Small sets are seen for more epochs, until at least this many optimiser steps are done."""
    batch_size: Million
    """Global batch, whatever the number of processes."""
    min_steps_per_epoch: AtLeastOne = 1
    """Small sets get smaller batches, so that an epoch has at least this many steps."""
    lr: tuple[Annotated[LearningRate, Field(gt=0)], ...] = ()
    weight_decay: tuple[NotNegative, ...] = ()
    """Every lr is trained with every weight decay."""
    sweep: tuple[Setting, ...] = ()
    """In place of `lr`, `weight_decay` and their schedule."""
    start_lr_ratio: Positive = 1.0
    """First lr of the warm-up, as a share of lr."""
    warmup_epochs: NotNegative = 0.0
    final_lr: NotNegative = 0.0
    final_weight_decay: NotNegative | None = None
    """Weight decay follows a cosine to this value; constant where empty."""
    decay_biases: bool = False
    """Whether biases and norms decay too (V-JEPA 2 does, V-JEPA 1 does not)."""
    clip_norm: Positive | None = None
    """Largest gradient norm of a probe; no clipping where empty."""
    token_dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    """Share of each sample's tokens that a training step leaves out, other ones in every step; of probes that answer
    with a mean."""
    lr_width: Thousand | None = None
    """Width D of the tokens that lr is meant for. For others it is multiplied by lr_width / D, so that a step changes
    the outputs as much as there."""
    forget_epochs: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = ()
    """Where `weight_decay` is empty: epochs in which, at the highest lr, decay alone would bring the weights to 1 / e.
    The decay then is 1 / (lr * forget_epochs * steps of an epoch), as strong on large sets as on small ones."""

    @model_validator(mode="after")
    def _one_kind_of_sweep(self) -> Optimisation:
        decays = self.weight_decay or self.forget_epochs
        if bool(self.lr) != bool(decays) or bool(self.lr) == bool(self.sweep):
            raise ValueError("lr, weight_decay: give both, or a list of settings as sweep")
        if len(self.lr) * len(decays) > _MOST_SETTINGS or len(self.sweep) > _MOST_SETTINGS:
            raise ValueError(f"lr, weight_decay, sweep: at most {_MOST_SETTINGS} settings")
        if self.sweep and (self.lr_width or self.forget_epochs):
            raise ValueError("lr_width, forget_epochs: they are for lr, not for a list of settings")
        if self.sweep and any(getattr(self, name) != Optimisation.model_fields[name].default for name in _SCHEDULE):
            raise ValueError("sweep: every setting has its own start_lr, warmup_epochs, final_lr, final_weight_decay")
        return self

    @model_serializer(mode="wrap")
    def _usual_sweeps_go_unsaid(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_usual(self, serialise(self), "sweep", "token_dropout", "lr_width", "forget_epochs")

    def settled(self, embed_dim: int, steps_per_epoch: int) -> Optimisation:
        """The same, its sweep as tokens of this width and epochs of so many steps have it."""
        if not self.lr_width and (self.weight_decay or not self.forget_epochs):
            return self
        factor = self.lr_width / embed_dim if self.lr_width else 1.0
        sweep = []
        for setting, epochs in zip(self.settings, cycle(self.forget_epochs or [0.0])):
            lrs = {name: factor * (getattr(setting, name) or 0.0) for name in ("lr", "start_lr", "final_lr")}
            decay = setting.weight_decay if self.weight_decay else 1 / (lrs["lr"] * epochs * steps_per_epoch)
            sweep.append(setting.model_copy(update={**lrs, "weight_decay": decay}))
        usual = {name: type(self).model_fields[name].default for name in ("lr", "weight_decay", *_OF_LR, *_SCHEDULE)}
        return self.model_copy(update={**usual, "sweep": tuple(sweep)})

    @property
    def settings(self) -> list[Setting]:
        """The sweep, in order: by lr, then by weight decay."""
        return list(self.sweep) or [
            Setting(
                lr=lr,
                weight_decay=decay,
                start_lr=self.start_lr_ratio * lr,
                warmup_epochs=self.warmup_epochs,
                final_lr=self.final_lr,
                final_weight_decay=self.final_weight_decay,
            )
            for lr in self.lr
            for decay in self.weight_decay or [0.0] * len(self.forget_epochs)  # known when the samples are (`settled`)
        ]


class Selection(CardPart):
    """How one setting of a sweep is chosen."""

    chosen_on: Literal["held-out", "test"] = "held-out"
    """`held-out`: a part of the training samples. `test`: the test split itself, as some papers do; every setting is
    then trained on all training samples, and the score says so and is never ranked, averaged or gated."""
    held_out: float = Field(default=0.2, gt=0, lt=1, strict=True)
    """Share of the training samples, stratified by class, that the choice is made on."""
    refit: bool = True
    """Whether the chosen setting is trained again on all training samples."""
    answer: Literal["best", "mean"] = "best"
    """What answers for a probe: the setting that did best, or the mean of what is said by all settings that are within
    two standard errors of the best on the held-out samples, which depends less on chance: of attentive probes of one
    block on cached tokens, where each sample has one label. Others answer with the best."""

    @model_validator(mode="after")
    def _means_are_not_refitted(self) -> Selection:
        if self.answer == "mean" and (self.refit or self.chosen_on == "test"):
            raise ValueError(
                "answer: a mean is of settings that are chosen on held-out samples and not trained again (refit false);"
                " --probe sweep trains the best one again"
            )
        return self

    @model_serializer(mode="wrap")
    def _says_what_it_does(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self.chosen_on == "test":
            return {"chosen_on": "test"}
        return without_usual(self, serialise(self), "chosen_on", "answer")


class BoxReading(CardPart):
    """What a probe reads of a box, by RoIAlign on the tokens of the whole frame (protocol.md 3.7)."""

    layers: Thousand = 1
    """Layers of the encoder, joined channel by channel: the last, and every second one before it where there are that
    many, so that four of 24 are 18, 20, 22 and 24; V-JEPA 2.1 has four levels."""
    cells: Thousand
    """A box is read on so many cells a side."""
    over_time: Literal["mean", "all"]
    """Whether the steps of time are averaged, or all are kept as tokens."""
    over_cells: Literal["mean", "max", "all"]
    """Whether the cells become one token, or all are kept."""
    test_boxes: Literal["detector", "ground-truth"] = "detector"
    """Where actions are looked for in test frames; `ground-truth` is an oracle that no detector reaches."""
    min_box_score: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.8
    """Detected boxes of a lower score are left out."""


class MaskReading(CardPart):
    """How a probe of every token is trained and scored on the masks of still images."""

    norm: Literal["none", "batch"]
    """What the tokens go through before the linear layer: nothing, as they left the encoder's own last norm, or
    batch normalisation with a scale and a shift."""
    scored_at: Literal["own"] | Side = "own"
    """Size of the masks that are scored, to which the outputs are brought: each mask's own, or so many pixels square.
    It decides scores, and is part of the protocol's name."""


class ProbeCard(CardPart):
    """A recipe: what is trained on the tokens, and how."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)
    title: str
    kind: Literal["attentive", "linear", "knn"]
    num_blocks: Thousand = 1
    """Attentive probes: transformer blocks, the last of which pools. 1 is V-JEPA's probe, 4 that of V-JEPA 2."""
    num_heads: Thousand | None = None
    """Attention heads of attentive probes, a divisor of the width; where empty, what the encoder's facts say."""
    version: AtLeastOne
    """Raised with every change that changes scores; part of the protocol's name."""
    train_views: Thousand = 1
    """Clips of each training video, at random positions where there is more than one."""
    augmentation: Literal["none", "official"] = "none"
    """How training clips are drawn: as test clips are, or at random places and augmented (protocol.md 3.3, 3.4)."""
    streaming: bool = False
    """Whether every epoch decodes and encodes the training clips anew, instead of reading them from the cache."""
    standardised: bool = False
    """Whether the first norm of attentive probes that answer with a mean begins with the scale and shift that give
    every channel zero mean and unit variance over the training tokens, as pooled tokens have for linear probes."""
    seeds: Thousand = 1
    """How many probes are trained, each with first weights, an order of the data and held-out samples of its own, on up
    to `seeds_up_to` training samples; on more it is one. Their mean is the score."""
    seeds_up_to: Million | None = None
    optimisation: Optimisation | None = None
    selection: Selection | None = None
    neighbours: tuple[Million, ...] = ()
    """For knn: the values of k to choose from."""
    boxes: BoxReading | None = None
    """For boxes in key frames, whose loss is the binary cross-entropy of every class on its own; else None."""
    masks: MaskReading | None = None
    """For the masks of still images: the class of every pixel, from the token that it lies in and those around it;
    else None."""
    caveat: str = ""
    """What a reader of its scores must know; a footnote on the leaderboard."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> ProbeCard:
        if self.masks:
            self._check_masks()
        if (self.optimisation is None) != (self.kind == "knn"):
            raise ValueError("optimisation: give it for attentive and linear, not for knn")
        if self.num_blocks > 1 and self.kind != "attentive":
            raise ValueError("num_blocks: only attentive probes have blocks")
        if self.num_heads is not None and self.kind != "attentive":
            raise ValueError("num_heads: only attentive probes have attention heads")
        if bool(self.neighbours) != (self.kind == "knn"):
            raise ValueError("neighbours: give them exactly for knn")
        if self.selection is None and self.num_settings > 1:
            raise ValueError("selection: needed where there is more than one setting")
        if self.streaming and self.kind != "attentive" and not (self.boxes or self.masks):
            raise ValueError("streaming: probes of pooled tokens need those of all samples at once")
        if self.streaming and self.masks and self.masks.norm == "batch":
            raise ValueError("streaming: a batch comes in parts, and batch normalisation needs it whole")
        if self.boxes and self.kind == "knn":
            raise ValueError(
                "boxes: several actions may be true of one, and nearest neighbours vote for a single class"
            )
        if self.boxes and self.augmentation != "none":
            raise ValueError("augmentation: the official one crops frames at random, and cuts boxes away")
        if self.boxes and self.selected_on_test:
            raise ValueError("selection.chosen_on: probes of boxes are chosen on held-out videos")
        if self.streaming and self.train_views > 1:
            raise ValueError("train_views: a streaming recipe draws a fresh view in every epoch, so it has no number")
        return self

    def _check_masks(self) -> None:
        """Raise ValueError for what a probe of every token of a still image cannot be."""
        if self.kind != "linear" or self.boxes:
            raise ValueError("masks: the probe of every token is a linear one")
        if self.augmentation != "none":
            raise ValueError("augmentation: the official one crops images at random, and a mask is of its whole image")
        if self.train_views > 1:
            raise ValueError("train_views: a whole image has the same tokens in every view")

    @model_serializer(mode="wrap")
    def _what_is_usual_goes_unsaid(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_usual(self, serialise(self), *_USUALLY_UNSAID)

    def num_seeds(self, num_train: int) -> int:
        """How many probes are trained on so many samples."""
        return self.seeds if self.seeds_up_to is None or num_train <= self.seeds_up_to else 1

    @property
    def answers_with_mean(self) -> bool:
        """Whether a probe is several settings that answer together: where its card says so, and it is an attentive
        probe of one block on cached tokens."""
        one_block = self.kind == "attentive" and self.num_blocks == 1 and not (self.streaming or self.boxes)
        return one_block and self.selection is not None and self.selection.answer == "mean"

    @property
    def hold_out(self) -> Selection | None:
        """How training samples are held out for the choice of a setting; None where none are."""
        return None if self.selected_on_test else self.selection

    @property
    def selected_on_test(self) -> bool:
        """Whether its setting is the one that does best on the test split."""
        return self.selection is not None and self.selection.chosen_on == "test"

    @property
    def num_settings(self) -> int:
        """How many settings the sweep has."""
        return len(self.optimisation.settings) if self.optimisation else len(self.neighbours)
