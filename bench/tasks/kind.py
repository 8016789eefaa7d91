"""What a run will do, and what differs between kinds of tasks: a kind says how samples, clips, features, objective and
answers of its tasks are made, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.cards.fields import layers_name
from bench.cards.load import ProbeCard, TaskCard, changed_settings, load_probe_card, load_recipe, own_recipe_mark
from bench.core.distributed import World
from bench.core.progress import Reporter
from bench.core.remote import remote_cache
from bench.core.types import FrameOrder, Precision
from bench.data.dataset import load_splits
from bench.data.sample import ListOptions, Sample, Splits
from bench.data.staging import local_folder
from bench.encoders import Choice, Encoder, EncoderFacts
from bench.encoders.families import stated_settings
from bench.encoders.loading import layers_as_named, reading
from bench.features.encoder_check import load_checked
from bench.features.spec import ClipTokens, FeatureSpec
from bench.metrics.metric import Answers
from bench.probing.given import GivenProbe
from bench.probing.objectives import Objective
from bench.tasks.options import RunOptions
from bench.video.clip_views import Views


@dataclass(frozen=True)
class ViewSet:
    """The clips of a run."""

    train: Views
    held_out: Views | None
    """What a setting is chosen on: held-out training samples in one view, drawn as test clips are. None where they are
    looked at as they are trained on, or nothing is chosen."""
    test: Views


_NEXT_SEED = 1_000_003
"""Between the seeds of one run."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything that a run will do."""

    options: RunOptions
    kind: TaskKind
    task: TaskCard
    recipe: ProbeCard
    facts: EncoderFacts
    splits: Splits
    train_clips: Views
    held_out_clips: Views | None
    """As in ViewSet."""
    test_clips: Views
    spec: FeatureSpec
    """What is kept of a sample's tokens."""
    cache: Path
    device: str
    precision: Precision
    given: GivenProbe | None = None
    """The probe that is scored without training; the recipe and the training split then mean nothing."""
    world: World = field(default_factory=World)
    """The processes that carry it out, this one among them."""

    @property
    def remote_cache(self) -> str | None:
        """The address of the cache, where it has one; `cache` is then its local part."""
        return remote_cache(self.options.cache)

    @property
    def data_folder(self) -> Path | None:
        """The folder of the data; the local one that stands for it, where it is remote."""
        return local_folder(self.options.data, self.cache)

    def load_encoder(self) -> Encoder:
        """The plan's encoder on its device, in its precision, as the plan's facts say."""
        encoder = self.kind.load(self)
        if self.given and encoder.token_scale != 1 and self.given.encoder != encoder.digest:
            encoder = encoder.unscaled()
        return encoder.as_planned(self.facts)

    @property
    def chosen_on_test(self) -> bool:
        """Whether a setting is chosen on the test split."""
        return self.recipe.selected_on_test and self.given is None

    @property
    def probe_name(self) -> str:
        """Name of the recipe, or of the released probe."""
        return self.given.name if self.given else self.recipe.name

    @property
    def clips_apart(self) -> int:
        """Clips of a test view that a probe classifies one by one; 1 where it reads the tokens of all jointly."""
        return 1 if self.task.clip.attend_across_segments else self.test_clips.num_segments

    @property
    def probe_heads(self) -> int:
        """Attention heads of an attentive probe: as its recipe says, or else the encoder."""
        return self.recipe.num_heads or self.facts.num_heads

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the probes that are trained: the run's own, and others that runs of other seeds do not have."""
        count = 1 if self.given else self.options.seeds or self.recipe.num_seeds(len(self.splits.train))
        return tuple((self.options.seed + number * _NEXT_SEED) % 2**32 for number in range(count))

    def samples(self, split: Literal["train", "test"]) -> list[Sample]:
        """The listed samples of a split."""
        return self.splits.train if split == "train" else self.splits.test

    def draws(self, split: Literal["train", "test"]) -> int:
        """Clips (times segments) of each video of a split in the cache, each at a position of its own."""
        return self.recipe.train_views if split == "train" else 1

    @property
    def clip_tokens(self) -> int:
        """Tokens of one clip, of all layers that the probe reads: what the encoder computes."""
        return self.facts.num_tokens(*self.test_clips.usual_shape)

    @property
    def kept_shape(self) -> tuple[int, int]:
        """Tokens and channels of what is kept of one clip, or of one of its boxes: what a probe reads."""
        return self.spec.shape(self.facts, self.test_clips.clip_shape)

    @property
    def input_name(self) -> str:
        """What the encoder sees and how it computes, such as `16x224px step 4, bf16`."""
        return ", ".join([self.kind.input_words(self), *self._unusual_input()])

    def _unusual_input(self) -> list[str]:
        clips: Any = self.test_clips
        unusual: list[str] = [self.precision] if self.precision != "fp32" else []
        unusual += ["8-bit tokens"] if self.options.token_bits == 8 else []
        unusual += ["decord"] if clips.decoder == "decord" else []
        usual = "bilinear" if self.task.media == "image" else "opencv-bilinear"
        unusual += [clips.interpolation] if clips.interpolation != usual else []
        return [*unusual, *self.kind.unusual_words(self)]

    @property
    def protocol(self) -> str:
        """Name of the measurement: scores are compared only where it is equal."""
        clip, name = self.task.clip, self.kind.recipe_name(self.options)
        recipe = f"{self.recipe.name}/{self.recipe.version}{own_recipe_mark(load_probe_card(name))}"
        parts = [self.given.name if self.given else recipe, *self.kind.reading_words(self)]
        parts += [f"step {clip.step}"] if clip.step else []
        parts += [f"{clip.fps:g} fps"] if clip.fps else []
        parts += [f"{clip.duration_s:g} s clips"] if clip.duration_s else []
        parts += [f"{clip.crop} crop"] if clip.crop != "official" else []
        parts += clip.normalisation
        parts += self.kind.protocol_words(self)
        parts += [f"limit {self.options.limit}"] if self.options.limit else []
        changed = changed_settings(self.recipe, load_recipe(name, self.task))
        parts += [said for said in changed if said.partition("=")[0] not in self.kind.said_otherwise]
        return " ".join([*parts, *self.kind.question_words(self)])


class TaskKind(ABC):
    """A kind of task. The methods here are right for one label a sample; other kinds override what differs."""

    default_probe = RunOptions.probe
    """The recipe where the user names none."""
    items = "clips"
    """The word of messages for what the encoder sees of samples."""
    samples_called = "samples"
    """The word of notes for the samples."""
    said_otherwise: frozenset[str] = frozenset()
    """Settings of a recipe that the words of a protocol name already."""
    unit = "%"
    """Unit of its first score, for people."""

    def recipe_name(self, options: RunOptions) -> str:
        """Name of the recipe that these options ask for."""
        return self.default_probe if options.probe == RunOptions.probe else options.probe

    @abstractmethod
    def check_recipe(self, task: TaskCard, recipe: ProbeCard) -> None:
        """Raise BenchError for a recipe that cannot be trained on such a task."""

    def recipe_of_given(self, path: Path, recipe: ProbeCard) -> ProbeCard:
        """The recipe that says what a released probe reads, made from the task's usual one."""
        return recipe

    def describe(self, choice: Choice, task: TaskCard) -> EncoderFacts:
        """What is known of the encoder, reading the layers that the clip protocol names."""
        return reading(choice.facts(), task.clip.layers)

    def load(self, plan: RunPlan) -> Encoder:
        """The encoder of a run, checked, on its device, in its precision."""
        return load_checked(chosen_encoder(plan.options, plan.task), plan.device, plan.precision)

    def dataset(
        self, task: TaskCard, recipe: ProbeCard, where: ListOptions, cache: Path, reporter: Reporter, *, test_only: bool
    ) -> Splits:
        """The samples of both splits; of the test split alone where nothing is trained. Raises BenchError naming file
        and row for anything that would mislead a score."""

        def progress(done: int, total: int) -> None:
            reporter.stage("making the digits", done, total)

        return load_splits(task, where, cache, progress, test_only=test_only)

    def settle(self, task: TaskCard, options: RunOptions, splits: Splits) -> TaskCard:
        """The task, completed with what its samples say of it."""
        return task

    @abstractmethod
    def views(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, options: RunOptions) -> ViewSet:
        """The clips of a run. Raises BenchError where the encoder cannot see them."""

    def spec(self, task: TaskCard, recipe: ProbeCard, facts: EncoderFacts, splits: Splits) -> FeatureSpec:
        """What is kept of a sample's tokens."""
        return ClipTokens()

    @abstractmethod
    def objective(self, plan: RunPlan, samples: Sequence[Sample]) -> Objective:
        """What a probe is trained for, its examples those of these training samples, in the order of their features."""

    def test_targets(self, plan: RunPlan, samples: Sequence[Sample]) -> NDArray[np.int64] | None:
        """What is true of the examples of these test samples, for whoever looks at it before the answers are made:
        recipes that choose on the test split."""
        return self.objective(plan, samples).targets if plan.chosen_on_test else None

    def given_outputs(self, splits: Splits) -> tuple[int, ...]:
        """Outputs of the classifiers that a released probe must have before that of the classes."""
        return ()

    @abstractmethod
    def input_words(self, plan: RunPlan) -> str:
        """What the encoder sees, such as `16x224px step 4`."""

    def unusual_words(self, plan: RunPlan) -> list[str]:
        """What else is unusual about the input."""
        return []

    @abstractmethod
    def reading_words(self, plan: RunPlan) -> list[str]:
        """How clips are drawn, or what else names the protocol right after its recipe."""

    def protocol_words(self, plan: RunPlan) -> list[str]:
        """What else is unusual about the protocol."""
        return []

    def question_words(self, plan: RunPlan) -> list[str]:
        """What ends the name of the protocol."""
        return []

    def in_task_order(self, given: GivenProbe, outputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs of a released probe, in the order of the task's classes."""
        return given.in_task_order(outputs)

    @abstractmethod
    def answers(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[Any]) -> Answers:
        """Outputs [n, C] of a probe for the examples of these test samples, with what is true of them."""

    @abstractmethod
    def counts(self, objective: Objective) -> Mapping[str, NDArray[np.int64]]:
        """How many training examples are of each class, for each output of the probe: what somebody knows who answers
        at the level of chance (bench.metrics.metric)."""

    def keep(self, plan: RunPlan, samples: Sequence[Sample], outputs: NDArray[Any]) -> Kept:
        """What else is kept of the outputs for these test samples, to be looked at."""
        return Kept()

    def notes(self, plan: RunPlan) -> list[str]:
        """What a reader of the scores must know of the task and its recipe, before all other notes."""
        return []

    def more_notes(self, plan: RunPlan) -> list[str]:
        """What a reader of the scores must know of them, after all other notes."""
        return []

    def resolved(self, plan: RunPlan, num_examples: Mapping[str, int], draws: int) -> dict[str, Any]:
        """What records keep of the clips: `num_examples` of each split, `draws` of each training sample."""
        trained = {} if plan.given else {**views_facts(plan.train_clips), "draws": draws}
        return {
            "train_clips": trained or None,
            **({"held_out_clips": views_facts(plan.held_out_clips)} if plan.held_out_clips else {}),
            "test_clips": views_facts(plan.test_clips),
        }

    def probe_facts(self, plan: RunPlan) -> dict[str, str]:
        """What the file of a trained probe says besides what every one does."""
        return {}

    def list_text(self, plan: RunPlan, samples: Sequence[Sample], contents: Sequence[str]) -> str:
        """What the digest of a list is made of: its samples, what is true of them, and the content of their files."""
        rows = zip(samples, contents, strict=True)
        return "\n".join(f"{sample.id} {sample.label} {content}" for sample, content in rows)


@dataclass(frozen=True)
class Kept:
    """What a run keeps to be looked at."""

    write: Callable[[Path], None] = lambda folder: None
    """Adds it to the folder of a run."""
    notes: Sequence[str] = ()
    """What could not be kept."""


def chosen_encoder(options: RunOptions, task: TaskCard) -> Choice:
    """The encoder of a run: its file read as the user states, built for the resolution of the clips."""
    return Choice(options.model, stated_settings(options.settings), task.clip.resolution)


def layers_read(facts: EncoderFacts) -> list[str]:
    """The layers that an encoder gives, in words; none where it is the last alone."""
    return [layers_name(facts.out_layers)] if facts.out_layers else []


def layer_words(plan: RunPlan) -> list[str]:
    """The layers that are read, as a protocol names them; none where it is the last alone."""
    choices = (choice.layers for choice in (plan.task.clip, *plan.task.clips.values()))
    return [layers_name(layers_as_named(plan.facts, choices))] if plan.facts.out_layers else []


def with_order(plan: RunPlan, order: FrameOrder) -> RunPlan:
    """The same plan, the frames of all clips in another order."""
    held_out = plan.held_out_clips
    return replace(
        plan,
        train_clips=plan.train_clips.ordered(order),
        held_out_clips=held_out.ordered(order) if held_out else None,
        test_clips=plan.test_clips.ordered(order),
    )


def views_facts(views: Any) -> dict[str, Any]:
    """The fields of views, as records keep them: what `views.unsaid` names only where it is not as usual."""
    return {name: value for name, value in asdict(views).items() if (name, value) not in views.unsaid}
