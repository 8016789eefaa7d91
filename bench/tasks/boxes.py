"""Actions in boxes (AVA): a sample is a key frame, and what is true of its boxes is any number of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bench.cards.load import BoxReading, ProbeCard, TaskCard
from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.data.key_frames import BoxSample, BoxSplits, read_box_splits
from bench.data.sample import ListOptions, Sample, Splits
from bench.encoders import Choice, EncoderFacts
from bench.encoders.loading import reading as reading_layers
from bench.features.spec import BoxTokens, chosen_layers
from bench.metrics.box_scores import BoxAnswers, action_groups
from bench.metrics.detection import CORNERS
from bench.probing.files import read_metadata
from bench.probing.objectives import ManyLabels, Objective
from bench.records.key_frames import write_key_frames
from bench.tasks.box_pictures import draw_key_frames
from bench.tasks.kind import Kept, RunPlan, TaskKind, ViewSet, views_facts
from bench.tasks.options import RunOptions
from bench.video.frame_views import KeyFramePlan

if TYPE_CHECKING:
    import pandas as pd


class Boxes(TaskKind):
    """Actions of people in key frames: an example is a box, read from the tokens of the whole frame."""

    default_probe = "ava-attentive"
    items = samples_called = "key frames"
    unit = "mAP"
    said_otherwise = frozenset({"test_boxes"})

    def check_recipe(self, task: TaskCard, recipe: ProbeCard) -> None:
        """Raise BenchError for a recipe that reads whole clips, or clips that are none around a key frame."""
        if recipe.boxes is None:
            fix = f"give one for boxes: --probe {self.default_probe} or ava-paper"
            raise BenchError(f"recipe {recipe.name} reads whole clips, not boxes", where="--probe", fix=fix)
        usual = {"segments": 1, "views": 1, "sampling": "center", "crop": "official"}
        for name, value in usual.items():
            if getattr(task.clip, name) != value:
                what = f"clip.{name} {getattr(task.clip, name)} means nothing for boxes in whole frames"
                raise BenchError(what, where=f"task {task.name}", fix="drop it")
        if recipe.train_views > 1:
            what = (
                f"recipe {recipe.name} draws {recipe.train_views} clips, and that of a key frame lies around its second"
            )
            raise BenchError(what, where="--probe", fix="give --set probe.train_views=1")

    def recipe_of_given(self, path: Path, recipe: ProbeCard) -> ProbeCard:
        """The usual recipe, reading boxes as the probe's own did, where its file says so."""
        stated = read_metadata(path).get("recipe") if path.is_file() else None
        try:
            reading = ProbeCard.model_validate_json(stated).boxes if stated else None
        except ValidationError as error:
            raise BenchError("its recipe is not readable", where=str(path), fix="save the probe again") from error
        return recipe.model_copy(update={"boxes": reading}) if reading else recipe

    def describe(self, choice: Choice, task: TaskCard) -> EncoderFacts:
        """What is known of the encoder; the layers that boxes are read from are joined channel by channel, and so they
        are no part of it."""
        return choice.facts()

    def dataset(
        self, task: TaskCard, recipe: ProbeCard, where: ListOptions, cache: Path, reporter: Reporter, *, test_only: bool
    ) -> Splits:
        """As TaskKind: key frames."""
        return read_box_splits(task, where, _reading(recipe), task.clip.starts_s, test_only=test_only)

    def views(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, options: RunOptions) -> ViewSet:
        """As TaskKind: a clip of whole frames around each key frame."""
        clip, spec = task.clip, facts.input_spec
        clips = KeyFramePlan(
            frames_per_clip=clip.frames or spec.num_frames,
            frame_step=clip.step or spec.frame_step,
            fps=clip.fps,
            duration_s=clip.duration_s,
            short_side=clip.resolution or spec.resolution,
            patch_size=facts.patch_size,
            square=facts.fixed_resolution,
            decoder=options.decoder,
            interpolation=spec.interpolation,
        )
        facts.grid(*clips.clip_shape)
        # Nothing is drawn, so held-out boxes are looked at as they are trained on; a stream has none in the cache.
        return ViewSet(clips, clips if recipe.streaming and recipe.hold_out else None, clips)

    def spec(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, splits: Splits) -> BoxTokens:
        """As TaskKind: the layers of the clip protocol, or as many as the recipe reads."""
        reading = _reading(recipe)
        named = reading_layers(facts, task.clip.layers).out_layers
        boxes = {name: frame.looked_at for name, frame in _frames(splits).items()}
        return BoxTokens(reading, named or chosen_layers(facts, reading.layers), boxes)

    def objective(self, plan: RunPlan, samples: Sequence[Sample]) -> ManyLabels:
        """As TaskKind: of each annotated box the evaluated actions."""
        splits = _box_splits(plan.splits)
        frames = [splits.frames[sample.id] for sample in samples]
        return ManyLabels(
            box_labels(frames, list(splits.actions)), tuple(one.truth.video for one in frames for _ in one.looked_at)
        )

    def input_words(self, plan: RunPlan) -> str:
        """What the encoder sees and how it computes, such as `16x224px short side, 7.5 fps`."""
        clips = _key_frames(plan)
        pace = f"{clips.fps:g} fps" if clips.fps else f"{clips.duration_s:g} s" if clips.duration_s else None
        shown = "square" if clips.square else "short side"
        return f"{clips.frames_per_clip}x{clips.short_side}px {shown}, {pace or f'step {clips.frame_step}'}"

    def unusual_words(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        return plan.task.clip.normalisation

    def reading_words(self, plan: RunPlan) -> list[str]:
        """Which boxes are looked into."""
        return ["detected boxes" if _reading(plan.recipe).test_boxes == "detector" else "ground-truth boxes"]

    def protocol_words(self, plan: RunPlan) -> list[str]:
        """The layers, where the clip protocol names them, and the number of actions, where it is not the official."""
        layers = plan.task.clip.layers
        words = [f"layers {','.join(map(str, _tokens(plan).layers))}"] if layers else []
        count = len(_box_splits(plan.splits).actions)
        return words + ([f"{count} actions"] if count != plan.task.num_classes else [])

    def answers(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[np.float32]) -> BoxAnswers:
        """As TaskKind."""
        splits = _box_splits(plan.splits)
        frames = [splits.frames[sample.id] for sample in samples]
        groups = action_groups(splits.actions, plan.task.boxes.groups) if plan.task.boxes else {}
        return BoxAnswers(truth_table(frames), box_table(frames), outputs, splits.actions, groups)

    def counts(self, objective: Objective) -> Mapping[str, NDArray[np.int64]]:
        """As TaskKind: boxes with each action."""
        return {"class": objective.targets.sum(axis=0)}

    def keep(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[np.float32]) -> Kept:
        """A few of the key frames, drawn."""
        splits, given = _box_splits(plan.splits), plan.options.workers
        drawn = draw_key_frames(
            [splits.frames[sample.id] for sample in samples],
            outputs,
            splits.actions,
            _key_frames(plan),
            num_workers=environment.default_workers() if given is None else given,
            timeout_s=plan.options.timeout_s,
        )
        return Kept(lambda folder: write_key_frames(folder, drawn.frames), drawn.notes)

    def notes(self, plan: RunPlan) -> list[str]:
        """As TaskKind."""
        notes, reading = [], _reading(plan.recipe)
        if reading.test_boxes == "ground-truth":
            notes.append("actions are looked for in annotated boxes, an oracle: not comparable with detected boxes")
        found = max(1, len(_tokens(plan).layers))
        if found < reading.layers and not plan.task.clip.layers:
            notes.append(f"the recipe reads {reading.layers} layers, and {plan.facts.name} offers {found}")
        return notes

    def resolved(self, plan: RunPlan, num_examples: Mapping[str, int], draws: int) -> dict[str, Any]:
        """As TaskKind."""
        return {
            "key_frames": views_facts(plan.test_clips),
            "layers": _tokens(plan).layers,
            "box_tokens": plan.kept_shape,
            "actions": _box_splits(plan.splits).actions,
            "boxes": dict(num_examples),
        }

    def list_text(self, plan: RunPlan, samples: Sequence[Sample], contents: Sequence[str]) -> str:
        """The evaluated actions; key frames with their boxes and actions, and the boxes that are looked into."""
        splits = _box_splits(plan.splits)
        lines = [f"{list(splits.actions)}\n"]
        for sample, content in zip(samples, contents, strict=True):
            frame = splits.frames[sample.id]
            truth = sorted((box, sorted(labels)) for box, labels in frame.truth.boxes.items())
            lines.append(f"{sample.id} {truth} {sorted(frame.looked_at)} {content}\n")
        return "".join(lines)


def _reading(recipe: ProbeCard) -> BoxReading:
    if recipe.boxes is None:
        raise ValueError(f"recipe {recipe.name} reads no boxes")
    return recipe.boxes


def _box_splits(splits: Splits) -> BoxSplits:
    if not isinstance(splits, BoxSplits):
        raise ValueError("no key frames")
    return splits


def _frames(splits: Splits) -> Mapping[str, BoxSample]:
    return _box_splits(splits).frames


def _key_frames(plan: RunPlan) -> KeyFramePlan:
    if not isinstance(plan.test_clips, KeyFramePlan):
        raise ValueError("clips of whole frames are seen")
    return plan.test_clips


def _tokens(plan: RunPlan) -> BoxTokens:
    if not isinstance(plan.spec, BoxTokens):
        raise ValueError("features of boxes are kept")
    return plan.spec


def box_labels(frames: Sequence[BoxSample], actions: Sequence[int]) -> NDArray[np.int64]:
    """Labels [n, C] of the annotated boxes of these key frames: 1 for a box's actions among `actions`, else 0."""
    columns = {action: column for column, action in enumerate(actions)}
    boxes = [frame.truth.boxes[box] for frame in frames for box in frame.looked_at]
    labels = np.zeros((len(boxes), len(actions)), dtype=np.int64)
    for row, true in enumerate(boxes):
        labels[row, [columns[action] for action in true if action in columns]] = 1
    return labels


def box_table(frames: Sequence[BoxSample]) -> pd.DataFrame:
    """One row for each box that is looked at: video, timestamp, x1, y1, x2, y2."""
    import pandas as pd

    rows = [(frame.truth.video, frame.truth.timestamp, *box) for frame in frames for box in frame.looked_at]
    made: pd.DataFrame = pd.DataFrame(rows, columns=["video", "timestamp", *CORNERS])
    return made


def truth_table(frames: Sequence[BoxSample]) -> pd.DataFrame:
    """What is true of key frames: one row for each box and action, and one for a frame without."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for frame in frames:
        key = frame.truth
        labelled: list[tuple[Any, ...]] = [
            (*box, action) for box, actions in key.boxes.items() for action in sorted(actions)
        ]
        rows += [(key.video, key.timestamp, *row) for row in labelled or [(None,) * 5]]
    made: pd.DataFrame = pd.DataFrame(rows, columns=["video", "timestamp", *CORNERS, "action"])
    return made
