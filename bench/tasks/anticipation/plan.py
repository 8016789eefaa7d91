"""What a run of anticipation will do: a run's plan whose clips end before actions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.cards.load import Anticipation, ProbeCard, TaskCard, load_recipe, override
from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import cache_folder
from bench.core.progress import Reporter
from bench.data.actions import ActionSplits, load_actions
from bench.data.dataset import ListOptions, subset
from bench.data.staging import local_lists
from bench.encoders import EncoderFacts
from bench.encoders.layers import reading
from bench.encoders.with_predictor import describe_with_predictor, steps_ahead
from bench.pipeline.options import RunOptions, first_precision
from bench.pipeline.plan import RunPlan, check_heads, chosen_encoder, clip_plan
from bench.probing.actions import ActionClasses
from bench.video.anticipation import Ending


@dataclass(frozen=True, kw_only=True)
class AnticipationPlan(RunPlan):
    """Everything that a run of anticipation will do. A sample's label is its action."""

    splits: ActionSplits

    @property
    def question(self) -> Anticipation:
        """What is to be foreseen, and from what."""
        return anticipation(self.task)

    @property
    def classes(self) -> ActionClasses:
        """What the probe tells apart."""
        return ActionClasses(len(self.splits.verb_names), len(self.splits.noun_names), self.splits.pairs)

    @property
    def protocol(self) -> str:
        """Name of the measurement: scores are compared only where it is equal."""
        question = self.question
        parts = [super().protocol, f"{question.seconds:g} s {question.anchor}"]
        parts += [question.times] if question.times != "timestamps" else []
        parts += ["unseen left out"] if question.unseen != "counted" else []
        parts += ["with predictor"] if question.tokens != "encoder" else []
        return " ".join(parts)


def anticipation(task: TaskCard) -> Anticipation:
    """What a task of anticipation asks."""
    if task.clip.anticipation is None:
        raise ValueError(f"{task.name} is no task of anticipation")
    return task.clip.anticipation


def make_anticipation_plan(
    options: RunOptions, task: TaskCard, settings: dict[str, object], reporter: Reporter
) -> AnticipationPlan:
    """Resolve the options of a task of anticipation; `settings` are those of the recipe. Raises BenchError for
    whatever does not fit."""
    if options.probe_weights is not None:
        raise BenchError("--probe-weights is for tasks of one label", where=f"task {task.name}", fix="drop it")
    for name in ("controls", "labels"):
        if getattr(options, name):
            raise BenchError(f"--{name} is for tasks of one label", where=f"task {task.name}", fix="drop it")
    recipe = override(load_recipe(options.probe, task), "probe", settings)
    _check_recipe(recipe)
    facts = _facts(options, task)
    where = ListOptions(options.data, options.train, options.val)
    splits = load_actions(task, local_lists(task, where, options.cache, reporter))
    splits = replace(
        splits,
        train=subset(splits.train, options.limit, seed=0),
        test=subset(splits.test, options.limit, seed=0),
    )
    question = anticipation(task)
    ending = Ending(question.seconds, question.anchor, by_number=question.times == "frame-numbers")
    clips = replace(
        clip_plan(task.clip.model_copy(update={"views": 1}), facts, options),
        ending=replace(ending, drawn=recipe.train_views > 1),
    )
    if clips.ending and clips.ending.drawn and question.tokens != "encoder":
        raise BenchError(
            "the predictor looks the same time ahead in every clip, and several training views draw it",
            where=f"recipe {recipe.name}",
            fix="give --set probe.train_views=1, or --set clip.tokens=encoder",
        )
    device = environment.choose_device(options.device)
    plan = AnticipationPlan(
        options=options,
        task=task,
        recipe=recipe,
        facts=facts,
        splits=splits,
        train_clips=clips,
        held_out_clips=None,
        test_clips=replace(clip_plan(task.clip, facts, options), ending=ending),
        cache=cache_folder(options.cache),
        device=device,
        precision=first_precision(options, device),
    )
    check_heads(plan, facts.embed_dim)
    return plan


def _check_recipe(recipe: ProbeCard) -> None:
    """Raise BenchError for a recipe that has no three queries, or makes clips that end anywhere."""
    wrong = ""
    if recipe.kind != "attentive":
        wrong = f"is a {recipe.kind} probe, and verb, noun and action each have a query of an attentive one"
    elif recipe.selected_on_test:
        wrong = "chooses its setting on the test split, and here it is chosen on held-out videos"
    elif recipe.boxes is not None:
        wrong = "reads boxes, and the clips before an action are read whole"
    elif recipe.streaming or recipe.augmentation != "none":
        wrong = "augments or streams training clips, which those before an action do not do yet"
    if wrong:
        fix = "give an attentive one on cached, plain clips: --probe attentive or ek100-paper"
        raise BenchError(f"recipe {recipe.name} {wrong}", where="--probe", fix=fix)


def _facts(options: RunOptions, task: TaskCard) -> EncoderFacts:
    """What is known of the encoder, or of encoder and predictor where the protocol reads both."""
    choice = chosen_encoder(options, task)
    facts = reading(choice.facts(), task.clip.layers).normalising(task.clip.mean, task.clip.std)
    clips = clip_plan(task.clip, facts, options)
    grid = facts.grid(clips.frames_per_clip, clips.size, clips.size)
    question = anticipation(task)
    if question.tokens == "encoder":
        return facts
    if task.clip.layers:
        what = "the predictor sees the tokens of the last layer, and clip.layers names others"
        raise BenchError(what, where=f"task {task.name}", fix="drop clip.layers, or --set clip.tokens=encoder")
    ahead = steps_ahead(question.seconds, clips.fps or 0.0, facts.tubelet_size)
    return describe_with_predictor(choice, grid, ahead).normalising(task.clip.mean, task.clip.std)
