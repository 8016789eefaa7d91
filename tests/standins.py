"""Small trees in the official layout of every dataset card, with generated clips, frames and images.

Classes that stand next to each other in a tree differ in brightness, so that any encoder and probe tells them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from support import write_video

from bench.cards.load import TaskCard, load_task

Split = str
Member = tuple[Split, int, int]
"""Split, label, number of the sample in its class and split."""


def standin(card_name: str, folder: Path, *, classes: int = 2, train: int = 8, test: int = 8, seed: int = 0) -> None:
    """Make `folder` look as the official data of a card, with `train` and `test` samples of its first classes.

    Samples are spread evenly over `classes` classes. Cards that bring their own data have no stand-in.
    """
    card = load_task(card_name)
    members = [
        (split, label, i)
        for split, count in (("train", train), ("test", test))
        for label in range(classes)
        for i in range(count // classes)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    LAYOUTS[card_name](card, folder, members, np.random.default_rng(seed))


def pixels(label: int, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of uint8 around a brightness that tells even from odd labels."""
    return np.clip(rng.normal(60 if label % 2 == 0 else 190, 20, shape), 0, 255).astype(np.uint8)


def video(path: Path, label: int, rng: np.random.Generator) -> None:
    """Nine frames of 16 px, H.264 in whatever container the suffix says (VP8 in WebM)."""
    write_video(path, pixels(label, rng, (9, 16, 16, 3)), codec="libvpx" if path.suffix == ".webm" else "libx264")


def image(path: Path, label: int, rng: np.random.Generator) -> None:
    """A JPEG of 20 x 24 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(label, rng, (20, 24, 3))).save(path, format="JPEG", quality=90)


def name_of(card: TaskCard, label: int) -> str:
    assert isinstance(card.classes, tuple)
    return card.classes[label]


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def of_split(members: list[Member], split: Split) -> Iterator[tuple[int, int]]:
    return ((label, i) for part, label, i in members if part == split)


def custom(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split, file in (("train", "train.csv"), ("test", "val.csv")):
        rows = []
        for label, i in of_split(members, split):
            video(folder / "my clips" / f"{split} {label}_{i}.mp4", label, rng)
            rows.append(f"my clips/{split} {label}_{i}.mp4 {label}")
        write_lines(folder / file, rows)


def kinetics(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split, name in (("train", "train"), ("test", "val")):
        rows = ["label,youtube_id,time_start,time_end,split"]
        for label, i in of_split(members, split):
            youtube = f"-{name[:3]}{label:03d}_{i:03d}"
            video(folder / name / name_of(card, label) / f"{youtube}_{i:06d}_{i + 10:06d}.mp4", label, rng)
            rows.append(f"{name_of(card, label)},{youtube},{i},{i + 10},{name}")
        write_lines(folder / "annotations" / f"{name}.csv", rows)


def ssv2(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    assert isinstance(card.classes, tuple)
    write_json(folder / "labels" / "labels.json", {name: str(i) for i, name in enumerate(card.classes)})
    for split, file in (("train", "train.json"), ("test", "validation.json")):
        entries = []
        for label, i in of_split(members, split):
            sample = f"{1 + ['train', 'test'].index(split)}{label:02d}{i:03d}"
            video(folder / "20bn-something-something-v2" / f"{sample}.webm", label, rng)
            template = name_of(card, label).replace("something", "[something]")
            entries.append({"id": sample, "label": "-", "template": template, "placeholders": []})
        write_json(folder / "labels" / file, entries)


def imagenet(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split, name in (("train", "train"), ("test", "val")):
        for label, i in of_split(members, split):
            wnid = name_of(card, label).split()[0]
            image(folder / name / wnid / f"{wnid}_{i}.JPEG", label, rng)


def places(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    images = folder / "data" / "vision" / "torralba" / "deeplearning" / "images256"
    for split, name in (("train", "train"), ("test", "val")):
        rows = []
        for label, i in of_split(members, split):
            place = name_of(card, label)
            image(images / place[0] / place / f"gsun_{split}{i}.jpg", label, rng)
            rows.append(f"{place[0]}/{place}/gsun_{split}{i}.jpg {label}")
        write_lines(folder / "trainvalsplit_places205" / f"{name}_places205.csv", rows)


def inat(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split, name in (("train", "train"), ("test", "val")):
        images, annotations = [], []
        for number, (label, i) in enumerate(of_split(members, split)):
            file = f"{name}/{label:05d}_Animalia_Annelida_{label}/{i}.jpg"
            image(folder / file, label, rng)
            images.append({"id": number, "file_name": file})
            annotations.append({"id": number, "image_id": number, "category_id": label})
        categories = [{"id": i, "name": f"Lumbricus {i}"} for i in range(2)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / f"{name}.json", content)


def diving48(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    assert isinstance(card.classes, tuple)
    write_json(folder / "annotations" / "Diving48_vocab.json", [name.split("+") for name in card.classes])
    for split in ("train", "test"):
        entries = []
        for label, i in of_split(members, split):
            name = f"_{split}{label}_{i:05d}"
            video(folder / "rgb" / f"{name}.mp4", label, rng)
            entries.append({"vid_name": name, "label": label, "start_frame": 0, "end_frame": 9})
        write_json(folder / "annotations" / f"Diving48_V2_{split}.json", entries)


def jester(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split, name in (("train", "train"), ("test", "validation")):
        rows = []
        for label, i in of_split(members, split):
            sample = f"{1 + ['train', 'test'].index(split)}{label:02d}{i:03d}"
            for frame in range(1, 10):
                image(folder / "20bn-jester-v1" / sample / f"{frame:05d}.jpg", label, rng)
            rows.append(f"{sample};{name_of(card, label)}")
        write_lines(folder / f"jester-v1-{name}.csv", rows)


def coin(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    database = {}
    for split, label, i in members:
        name = f"{split}{label:03d}_{i:02d}"
        video(folder / "videos" / str(label) / f"{name}.mp4", label, rng)
        database[name] = {
            "class": ("AssembleBed", "AttendNBASkillsChallenge")[label % 2] + "X" * (label // 2),
            "recipe_type": label,
            "subset": {"train": "training", "test": "testing"}[split],
            "duration": 1.125,
            "start": 0.125,
            "end": 1.0,
            "annotation": [{"id": "1", "segment": [0.25, 0.5], "label": "step"}],
        }
    write_json(folder / "COIN.json", {"database": database})


def ucf101(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for split in ("train", "test"):
        rows = []
        for label, i in of_split(members, split):
            name = name_of(card, label)
            file = f"{name}/v_{name}_g{i:02d}_c0{['train', 'test'].index(split)}.avi"
            video(folder / "UCF-101" / file, label, rng)
            rows.append(file if split == "test" else f"{file} {label + 1}")
        write_lines(folder / "ucfTrainTestlist" / f"{split}list01.txt", rows)


def hmdb51(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    files: dict[int, list[str]] = {}
    for split, label, i in members:
        file = f"{split}_#{i}_u_nm_np1_ba_goo_0.avi"
        video(folder / "videos" / name_of(card, label) / file, label, rng)
        files.setdefault(label, ["neither_0.avi 0 "]).append(f"{file} {['train', 'test'].index(split) + 1} ")
    for label, rows in files.items():
        write_lines(folder / "testTrainMulti_7030_splits" / f"{name_of(card, label)}_test_split1.txt", rows)


def ek100(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    """Actions `take plate`, `take knife`, ... one a video, whose clip is the video's first frame."""
    columns = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame"
    for split, file in (("train", "train"), ("test", "validation")):
        rows = [f"{columns},verb,verb_class,noun,noun_class"]
        for label, i in of_split(members, split):
            name = f"P{1 + ['train', 'test'].index(split):02d}_{10 * label + i:02d}"
            video(folder / name[:3] / "videos" / f"{name}.MP4", label, rng)
            rows.append(f"{name}_0,{name[:3]},{name},00:00:01.00,00:00:01.10,8,9,take,0,noun {label},{label}")
        write_lines(folder / "annotations" / f"EPIC_100_{file}.csv", rows)


def painted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image of 18 to 40 px a side and the class of each pixel: dark ground (0), a bright and a middling rectangle (1
    and 2), and a void outline (-1) around each."""
    height, width = rng.integers(18, 41, 2).tolist()
    classes = np.zeros((height, width), dtype=np.int64)
    for label, left in ((1, 0), (2, width // 2)):
        top, bottom = sorted(rng.integers(2, height - 2, 2).tolist())
        rows, columns = slice(min(top, height - 9), max(bottom, top + 7)), slice(left + 1, left + width // 2 - 1)
        classes[rows, columns] = -1
        classes[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = label
    level = np.choose(classes + 1, (90, 30, 220, 125))
    return np.clip(rng.normal(level[..., None], 8, (height, width, 3)), 0, 255).astype(np.uint8), classes


def ade20k(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    for number, (split, _, _) in enumerate(members, start=1):
        name, place = {"train": ("train", "training"), "test": ("val", "validation")}[split]
        shown, classes = painted(rng)
        for kind, suffix, values in (("images", "jpg", shown), ("annotations", "png", classes + 1)):
            path = folder / kind / place / f"ADE_{name}_{number:08d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path, **({"quality": 95} if suffix == "jpg" else {}))


def voc12(card: TaskCard, folder: Path, members: list[Member], rng: np.random.Generator) -> None:
    names: dict[str, list[str]] = {"train": [], "test": []}
    for number, (split, _, _) in enumerate(members, start=1):
        shown, classes = painted(rng)
        names[split].append(f"2007_{number:06d}")
        for kind in ("JPEGImages", "SegmentationClass"):
            (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(shown).save(folder / "JPEGImages" / f"2007_{number:06d}.jpg", quality=95)
        mask = Image.fromarray(np.where(classes < 0, 255, classes).astype(np.uint8))
        mask.putpalette([value for level in range(256) for value in (level, 255 - level, 0)])
        mask.save(folder / "SegmentationClass" / f"2007_{number:06d}.png")
    for split, file in (("train", "train"), ("test", "val")):
        write_lines(folder / "ImageSets" / "Segmentation" / f"{file}.txt", names[split])


LAYOUTS: dict[str, Callable[[TaskCard, Path, list[Member], np.random.Generator], None]] = {
    "custom": custom,
    "k400": kinetics,
    "k600": kinetics,
    "k700": kinetics,
    "ssv2": ssv2,
    "in1k": imagenet,
    "places205": places,
    "inat21": inat,
    "diving48": diving48,
    "jester": jester,
    "coin": coin,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "ek100": ek100,
    "ade20k": ade20k,
    "voc12": voc12,
}
"""Card name -> what makes its layout."""
