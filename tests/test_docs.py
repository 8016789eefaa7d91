"""Every command that the documents show works, and what the README says it prints is what it prints."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from ava_standin import ava_standin
from kitchens import kitchen, with_predictor
from made_results import made_results
from standins import standin
from support import GOLDEN, ROOT, Run

from bench.cards.load import load_task
from bench.encoders.vjepa import VitConfig
from bench.probing.attentive import initial_weights

pytestmark = pytest.mark.slow

BRIEF = [
    word for key in ("epochs=2", "steps_per_epoch=2", "global_batch=8", "micro_batch=8") for word in ("--set", key)
]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> Iterator[str]:
    """Every line of a shell block that calls `bench`."""
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.S):
            for line in block.splitlines():
                if line.startswith("bench "):
                    yield line


SMALL = VitConfig(embed_dim=48, depth=2, num_heads=2, mlp_dim=192, num_frames=8, resolution=64)


def state_size(path: Path, config: VitConfig) -> None:
    """Let a small checkpoint say its size as those of `bench pretrain` do: that of the official one has a name."""
    stated = {"version": 1, "encoder": asdict(config), "input": {"frame_step": 4}, "objective": "features"}
    torch.save({**torch.load(path, weights_only=True), "bench": stated}, path)


@pytest.fixture
def users_folder(bright_and_dark: Path) -> Path:
    """What the documents assume: a checkpoint, videos with their lists, a card."""
    folder = bright_and_dark
    shutil.copy(GOLDEN / "vjepa1.pth.tar", folder / "vitl16.pth.tar")
    state_size(folder / "vitl16.pth.tar", SMALL)
    torch.save({"classifier": initial_weights(48, 174, seed=0)}, folder / "ssv2-probe.pth.tar")
    (folder / "ssv2-classes.txt").write_text("\n".join(load_task("ssv2").classes))  # type: ignore[arg-type]
    (folder / "my-videos").symlink_to(folder, target_is_directory=True)
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    text += (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")
    for name, card in re.findall(r"<!-- card (\S+) -->\n```yaml\n(.*?)```", text, flags=re.S):
        (folder / name).write_text(card)
    shutil.copy(ROOT / "examples" / "my_encoder.py", folder)
    (folder / "results").mkdir()
    shutil.copy(folder / "train.csv", folder / "videos.csv")
    return folder


@pytest.fixture(scope="session")
def arranged() -> dict[tuple[str, ...], Path]:
    """Folders that commands have left behind, for other documents that take the same for granted."""
    return {}


@pytest.fixture
def arrange(
    bench_command: Run,
    users_folder: Path,
    arranged: dict[tuple[str, ...], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., None]:
    """Run a command that a document takes for granted, and keep what is then in its folder `made`."""

    def run(*arguments: str, made: str) -> None:
        if arguments not in arranged:
            done = bench_command(*arguments, cwd=users_folder)
            assert done.returncode == 0, done.stderr
            arranged[arguments] = tmp_path_factory.mktemp("arranged") / "made"
            shutil.copytree(users_folder / made, arranged[arguments])
        shutil.copytree(arranged[arguments], users_folder / made, dirs_exist_ok=True)

    return run


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_documented_commands_work(
    bench_command: Run,
    users_folder: Path,
    arrange: Callable[..., None],
    digit_clips: Path,
    tmp_path: Path,
    command: str,
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digits").symlink_to(digit_clips, target_is_directory=True)
    # The user's Something-Something and her ViT-L stand in a test as small things of the same form.
    # So do her long videos, for which the paper's preset is made, and the weights that a network would bring.
    small = {"/data/ssv2": str(users_folder), "random:vit_large": "random"}
    small["/net/lab/results"] = "results"
    small["--preset vitl16"] = "--preset demo --set data.frame_step=1"
    small["fetch vjepa-vitl16"] = "fetch vjepa-nano"
    small["/scratch/"] = f"{users_folder.parent}/"
    # A probe as narrow as the small ViT-L is none of the released ones, whose class order is known.
    small["ssv2-probe.pth.tar"] = "ssv2-probe.pth.tar --probe-classes ssv2-classes.txt"
    if "/data/ava" in command:
        small["/data/ava"] = str(ava_standin(users_folder / "ava", train=4, test=2, starts_s=0))
    if "ek100" in command:
        small["/data/epic-kitchens-100"] = str(kitchen(users_folder / "epic", train=3, test=2))
        with_predictor(users_folder / "vitl.pt")
        state_size(users_folder / "vitl.pt", replace(SMALL, use_rope=True))
    for shown, card in (
        ("/data/ADEChallengeData2016", "ade20k"),
        ("/data/VOC2012", "voc12"),
        ("my-scenes", "ade20k"),
    ):
        if shown in command:
            standin(card, users_folder / "scenes", train=8, test=4)
            small[shown] = "scenes --set clip.resolution=64"
    for shown, replaced in small.items():
        command = command.replace(shown, replaced)
    arguments = shlex.split(command)[1:]
    if runs := re.search(r"runs/[a-z-]+(?=/)", command):
        before = ["pretrain", "--preset", "demo", "--out", runs.group(), "--set", "keep_every=1", *BRIEF]
        arrange(*before, made=runs.group())
    if arguments[0] == "pretrain":
        arguments += BRIEF
    if "--probe-every" in arguments:
        arguments += ["--probe-task", "gestures.yaml", "--probe-data", "my-videos"]
    if arguments[0] in ("compare", "check"):
        before = ["run", "--task", "custom", "--name", "digits-motion", "--data", "my-videos", "--probe", "linear"]
        before += ["--model", "vjepa-nano,pixel-nano", "--set", "probe.epochs=1", "--set", "probe.min_steps=40"]
        arrange(*before, made="results")
    if arguments[0] == "check" and "--update" not in arguments:
        assert bench_command(*arguments[:3], "--update", cwd=users_folder).returncode == 0
    if arguments[0] == "plot":
        made_results(users_folder / "results", models=2, seeds=1)
    if arguments[0] in ("leaderboard", "report", "results"):
        before = ["run", "--task", "gestures.yaml", "--data", "my-videos", "--model", "random", "--probe", "linear"]
        arrange(*before, made="results")
    if arguments[0] == "run" and "--probe" not in arguments and "--probe-weights" not in arguments:
        arguments += ["--set", "probe.epochs=1", "--set", "probe.min_steps=40"]
    if "ek100" in arguments and arguments[0] == "run":
        arguments += ["--set", "probe.epochs=1", "--set", "probe.lr=0.01", "--set", "clip.frames=8"]
        arguments += ["--set", "clip.resolution=32"]
    if "digits-motion" in arguments or (arguments[0] == "run" and "--task" not in arguments):
        arguments += ["--limit", "100", "--max-failed", "0"]
    done = bench_command(*arguments, cwd=users_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_documented_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_cited_section_of_the_protocol_is_there() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    there = set(re.findall(r"^##+ (\d(?:\.\d)?)", text, flags=re.M))
    cited = {
        (path.name, section)
        for path in (ROOT / "bench").rglob("*.py")
        for listed in re.findall(r"protocol\.md ((?:\d(?:\.\d)?(?:, )?)+)", path.read_text(encoding="utf-8"))
        for section in listed.removesuffix(", ").split(", ")
    }
    assert len(cited) > 50
    assert {(name, section) for name, section in cited if section not in there} == set()


def test_the_architecture_names_every_room_and_files_that_are_there() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (.*) \|$", (ROOT / "docs" / "architecture.md").read_text("utf-8"), flags=re.M
    )
    rooms = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert {room for room, _ in rows} == rooms
    for room, entries in rows:
        for entry in re.findall(r"`([\w./]+)`", entries):
            assert (ROOT / "bench" / room / entry).exists(), (room, entry)
