"""The plan of a run that is to be estimated: with the data and the weights, or with what stands in for them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.cards.load import TaskCard, VideoFacts, load_task
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.data.sample import Sample, Splits
from bench.encoders import Encoder, vjepa
from bench.encoders.catalog import ModelCard, model_cards
from bench.encoders.families import card_config
from bench.encoders.loading import encoder_at, named
from bench.encoders.untrained import vjepa_facts
from bench.pipeline.plan import make_plan
from bench.tasks.kind import RunPlan
from bench.tasks.options import RunOptions, is_measured

NUM_CLIPS = 50
"""Videos that are decoded to measure: drawn from the lists, or made."""


@dataclass(frozen=True)
class Subject:
    """A plan that is to be estimated."""

    plan: RunPlan
    card_without_weights: ModelCard | None
    """Card of an encoder whose weights are not on this machine; else None."""
    notes: tuple[str, ...]
    """What the estimate stands on besides measurement."""

    def load(self) -> Encoder:
        """The encoder on the plan's device; with random weights where its own are not here: they take as long."""
        card = self.card_without_weights
        config = card_config(card) if card else None
        if card is None or config is None:
            return self.plan.load_encoder()
        model = vjepa.VisionTransformer(config)
        vjepa.init_untrained(model, seed=0)
        encoder = encoder_at(Encoder(vjepa_facts(card.name, config), model), self.plan.task.clip.resolution)
        return encoder.to(self.plan.device, self.plan.precision).as_planned(self.plan.facts)


@contextmanager
def subject_of(options: RunOptions, video: VideoFacts | None, reporter: Reporter) -> Iterator[Subject]:
    """The plan of these options for the block, whose videos are the data's or made in a folder that goes with it.

    Raises BenchError as `make_plan`, for tasks and recipes that cannot be estimated, and where neither data nor what
    stands in for them are known.
    """
    task = load_task(options.task)
    card = _without_weights(options.model)
    config = card_config(card) if card else None
    facts = vjepa_facts(card.name, config) if card and config else None
    notes = [f"{card.name}: its weights are not here, random ones were measured"] if card else []
    if task.data == "digits" or any((options.data, options.train, options.val)):
        if video is not None:
            raise BenchError("--video means nothing with the data", where="--video", fix="drop one of them")
        yield _checked(Subject(make_plan(options, reporter, facts=facts), card, tuple(notes)))
        return
    video = video or _video_of(task)
    notes.append(f"no --data: sizes from the card, and videos were made ({describe(video)})")
    with tempfile.TemporaryDirectory(prefix="bench-estimate-") as folder:
        clip = make_clip(Path(folder) / "clip.mp4", video)
        yield _checked(
            Subject(make_plan(options, reporter, splits=_splits(task, clip), facts=facts), card, tuple(notes))
        )


def _checked(subject: Subject) -> Subject:
    if is_measured(subject.plan.options):
        what = "the fastest way to encode is found when a run starts, and an estimate measures one"
        raise BenchError(what, where="--precision", fix="name a precision, such as bf16")
    recipe = subject.plan.recipe
    if recipe.optimisation is None:
        what = f"recipe {recipe.name} trains nothing, and its search for neighbours is not measured"
        raise BenchError(what, where="--probe", fix="estimate --probe linear, which encodes the same clips")
    return subject


def _without_weights(model: str) -> ModelCard | None:
    """The card of a catalog name whose file is not here and whose architecture is known."""
    card = next((card for card in model_cards() if card.name == named(model)[1]), None)
    if card is None or card.size is None or card.weights_path is None or card.weights_path.is_file():
        return None
    return card


def _video_of(task: TaskCard) -> VideoFacts:
    sizes = (task.train_size, task.test_size, task.num_classes)
    if task.data != "lists" or task.media == "image" or None in sizes:
        what = "its card does not tell what to make in place of the data"
        raise BenchError(what, where=f"task {task.name}", fix="give the data with --data FOLDER")
    if task.video is None:
        fix = "give --data FOLDER, or say what a usual video is with --video WIDTHxHEIGHT@FPS,SECONDS"
        raise BenchError("its card does not say what its videos are like", where=f"task {task.name}", fix=fix)
    return task.video


def _splits(task: TaskCard, clip: Path) -> Splits:
    """Make as many samples as the card says, all of one video, with the classes in turn."""
    classes = task.num_classes or 0
    names = task.classes if isinstance(task.classes, tuple) else tuple(map(str, range(classes)))

    def samples(split: str, count: int | None) -> list[Sample]:
        names = [f"{split}-{number}" for number in range(count or 0)]
        return [Sample(name, str(clip), number % classes, group=name) for number, name in enumerate(names)]

    return Splits(samples("train", task.train_size), samples("test", task.test_size), names)


_FORM = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)")
_CRF, _GOP = 23, 12
"""x264's own quality; a key frame every 12 frames, as prepared copies of such datasets have them."""
_SEED = 0


def read_video_facts(text: str) -> VideoFacts:
    """The value of --video, `WIDTHxHEIGHT@FPS,SECONDS`. Raises BenchError for anything else."""
    found = _FORM.fullmatch(text.strip())
    values = [float(part) for part in found.groups()] if found else []
    try:
        if not values or min(values[:2]) < 2:
            raise ValueError
        return VideoFacts(width=int(values[0]), height=int(values[1]), fps=values[2], duration_s=values[3])
    except (ValueError, OverflowError) as error:
        fix = "give WIDTHxHEIGHT@FPS,SECONDS, such as 340x256@30,10"
        raise BenchError(f"'{text[:80]}' is no video", where="--video", fix=fix) from error


def describe(facts: VideoFacts) -> str:
    """The facts in the form that --video takes: `340x256@30,10`."""
    return f"{facts.width}x{facts.height}@{facts.fps:g},{facts.duration_s:g}"


def make_clip(path: Path, facts: VideoFacts) -> Path:
    """Write one H.264 video of these facts: a soft texture that drifts, with some noise of a camera.

    H.264 takes even sides: an odd row or column is left out.
    """
    import av

    height, width = facts.height // 2 * 2, facts.width // 2 * 2
    stream_of_numbers = np.random.RandomState(_SEED)
    texture = _texture(2 * height, 2 * width, stream_of_numbers)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(facts.fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": str(_CRF), "preset": "veryfast", "g": str(_GOP)}
        for number in range(max(1, round(facts.fps * facts.duration_s))):
            row, column = (2 * number) % height, (3 * number) % width
            noise = stream_of_numbers.randint(0, 8, (height, width, 3), dtype=np.uint8)
            frame = texture[row : row + height, column : column + width] + noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def _texture(height: int, width: int, stream: np.random.RandomState) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3], up to 247: detail of several sizes, as photographs have it."""
    total = np.zeros((height, width, 3), dtype=np.float32)
    for cell in (4, 16, 64):
        coarse = stream.rand(-(-height // cell), -(-width // cell), 3).astype(np.float32)
        total += np.kron(coarse, np.ones((cell, cell, 1), np.float32))[:height, :width] * cell**0.5
    texture: npt.NDArray[np.uint8] = (240 * total / total.max()).astype(np.uint8)
    return texture
