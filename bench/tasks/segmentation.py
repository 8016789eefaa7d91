"""Segmentation of still images: the class of every pixel, by a linear probe of each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cards.load import ClipProtocol, MaskReading, ProbeCard, TaskCard
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.data.dataset import load_splits
from bench.data.masks import MaskFiles, checked
from bench.data.sample import ListOptions, Sample, Splits
from bench.data.staging import bring_files
from bench.encoders import EncoderFacts
from bench.features.spec import PatchTokens
from bench.metrics.iou import Confusions, MapAnswers
from bench.probing.files import read_metadata
from bench.probing.given import GivenProbe
from bench.probing.objectives import Objective
from bench.probing.pixel_classes import PixelClasses
from bench.tasks.clips import clip_plan, needs_held_out_clips
from bench.tasks.kind import RunPlan, TaskKind, ViewSet, layer_words, layers_read
from bench.tasks.options import RunOptions
from bench.video.clip_views import ClipPlan


class Segmentation(TaskKind):
    """Whole images, squashed to a square; the logits of their tokens are brought to the size of the masks."""

    default_probe = "segmentation-linear"
    items = "images"
    samples_called = "images"
    said_otherwise = frozenset({"scored_at"})

    def check_recipe(self, task: TaskCard, recipe: ProbeCard) -> None:
        """Raise BenchError for a recipe of whole clips, and for clips that an image or its mask has not."""
        if recipe.masks is None:
            fix = f"give one for masks: --probe {self.default_probe} or vjepa2_1-segmentation"
            raise BenchError(f"recipe {recipe.name} reads whole clips, not masks", where="--probe", fix=fix)
        usual = ClipProtocol()
        for name in ("step", "fps", "duration_s", "segments", "views", "sampling", "crop"):
            if (value := getattr(task.clip, name)) != getattr(usual, name):
                what = f"clip.{name} {value} means nothing for images with masks, which are seen whole"
                raise BenchError(what, where=f"task {task.name}", fix="drop it")

    def recipe_of_given(self, path: Path, recipe: ProbeCard) -> ProbeCard:
        """The usual recipe, with the masks scored as the released probe's were, where its file says how."""
        stated = read_metadata(path).get("scored_at", "") if path.is_file() else ""
        if recipe.masks is None or not stated.isdecimal():
            return recipe
        masks = recipe.masks.model_copy(update={"scored_at": int(stated)})
        return recipe.model_copy(update={"masks": masks})

    def dataset(
        self, task: TaskCard, recipe: ProbeCard, where: ListOptions, cache: Path, reporter: Reporter, *, test_only: bool
    ) -> Splits:
        """As TaskKind: every mask is looked at."""
        splits = load_splits(task, where, cache, test_only=test_only)
        files = _files(splits)
        bring_files(files.masks, reporter=reporter)

        def progress(done: int, total: int) -> None:
            reporter.stage("reading masks", done, total)

        return replace(splits, facts=checked(files, cache, progress))

    def views(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, options: RunOptions) -> ViewSet:
        """As TaskKind: the whole image as a square."""
        clips = clip_plan(task.clip, facts, options, "image")
        clips = replace(clips, squash=True, short_side=clips.size)
        facts.grid(*clips.clip_shape)
        return ViewSet(clips, clips if needs_held_out_clips(recipe) else None, clips)

    def spec(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, splits: Splits) -> PatchTokens:
        """As TaskKind."""
        return PatchTokens()

    def objective(self, plan: RunPlan, samples: Sequence[Sample]) -> PixelClasses:
        """As TaskKind: the classes of all pixels; its targets are numbers of images."""
        files, reading, clips = _files(plan.splits), _reading(plan.recipe), _clips(plan)
        numbers = files.numbers(samples)
        _, height, width = plan.facts.grid(*clips.clip_shape)
        return PixelClasses(
            targets=numbers,
            masks=files,
            grid=(height, width),
            side=clips.size,
            scored_at=reading.scored_at,
            batch_norm=reading.norm == "batch",
            groups=tuple(sample.id for sample in samples),
            digests=tuple(files.digests[number] for number in numbers.tolist()),
        )

    def test_targets(self, plan: RunPlan, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """As TaskKind: maps are counted against masks one by one."""
        return _files(plan.splits).numbers(samples)

    def in_task_order(self, given: GivenProbe, outputs: NDArray[Any]) -> NDArray[Any]:
        """As TaskKind: the predicted classes have other numbers."""
        confusions: NDArray[Any] = outputs.copy()
        confusions[:, 2] = np.argsort(given.class_order)[outputs[:, 2]]
        return confusions

    def input_words(self, plan: RunPlan) -> str:
        """What the encoder sees, such as `512px image`."""
        clips = _clips(plan)
        repeated = f" x{clips.frames_per_clip}" if clips.frames_per_clip > 1 else ""
        return f"{clips.size}px image{repeated}, squashed"

    def unusual_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return [*plan.task.clip.normalisation, *layers_read(plan.facts)]

    def reading_words(self, plan: RunPlan) -> list[str]:
        """The size of the masks that are scored, which decides scores."""
        size = _reading(plan.recipe).scored_at
        return ["image", "masks of own size" if size == "own" else f"masks of {size}px"]

    def protocol_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return layer_words(plan)

    def answers(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[Any]) -> MapAnswers:
        """As TaskKind, of the rows of the images' confusions."""
        rows = outputs if len(samples) else np.zeros((0, 4), dtype=np.int64)
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
        confusions = Confusions(*(np.ascontiguousarray(column) for column in rows[order].T))
        return MapAnswers(tuple(sample.id for sample in samples), confusions, plan.splits.class_names)

    def counts(self, objective: Objective) -> Mapping[str, NDArray[np.int64]]:
        """As TaskKind: pixels of each class."""
        files = objective.masks if isinstance(objective, PixelClasses) else None
        if not isinstance(files, MaskFiles) or files.pixels is None:
            raise ValueError("no masks")
        counts: NDArray[np.int64] = files.pixels[objective.targets].sum(axis=0)
        return {"class": counts}

    def probe_facts(self, plan: RunPlan) -> dict[str, str]:
        """As TaskKind."""
        return {"scored_at": str(_reading(plan.recipe).scored_at)}

    def list_text(self, plan: RunPlan, samples: Sequence[Sample], contents: Sequence[str]) -> str:
        """As TaskKind: an image with the content of its mask."""
        files = _files(plan.splits)
        rows = zip(samples, files.numbers(samples).tolist(), contents, strict=True)
        meaning = f"{files.meaning.void} {files.meaning.zero}"
        return "\n".join([meaning, *(f"{sample.id} {files.digests[row]} {content}" for sample, row, content in rows)])


def _files(splits: Splits) -> MaskFiles:
    if not isinstance(splits.facts, MaskFiles):
        raise ValueError("no masks")
    return splits.facts


def _reading(recipe: ProbeCard) -> MaskReading:
    if recipe.masks is None:
        raise ValueError(f"recipe {recipe.name} reads no masks")
    return recipe.masks


def _clips(plan: RunPlan) -> ClipPlan:
    if not isinstance(plan.test_clips, ClipPlan):
        raise ValueError("images are seen as squares")
    return plan.test_clips
