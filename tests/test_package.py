"""The package: complete inside a wheel, and found from a checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import ROOT

import bench
from bench import __version__
from bench.cards.load import probe_names, task_names
from bench.core.files import content_folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("vjepa_bench-*.whl"))


def test_the_wheel_holds_the_content_folders_and_no_tests(wheel: Path) -> None:
    assert wheel.name.startswith(f"vjepa_bench-{__version__}-")
    names = zipfile.ZipFile(wheel).namelist()
    for folder, cards in (("datasets", task_names()), ("probes", probe_names())):
        assert {f"bench/content/{folder}/{card}.yaml" for card in cards} <= set(names)
    assert "bench/content/results/published.csv" in names
    assert any(name.startswith("bench/encoders/cards/") for name in names)
    assert {f"bench/report/page/page.{kind}" for kind in ("html.jinja", "css", "js")} <= set(names)
    assert {f"bench/report/board.{kind}" for kind in ("html.jinja", "css")} <= set(names)
    assert not any(name.startswith(("tests/", "datasets/", "benchmarks/")) for name in names)


def test_an_installed_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment that borrows the dependencies, but not the package, of this one."""
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    bench = environment / "bin" / "bench"
    done = subprocess.run([bench, "tasks", "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert [card["name"] for card in json.loads(done.stdout)] == task_names(), done.stderr
    where = subprocess.run(
        [python, "-c", "import bench.core.files as f; print(f.content_folder('datasets'))"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert str(environment) in where.stdout
    models = subprocess.run([bench, "models"], capture_output=True, text=True, cwd=tmp_path)
    assert "vjepa-vitl16" in models.stdout


@pytest.mark.parametrize("name", [name for name in bench.__all__ if name != "__version__"])
def test_every_name_of_the_package_is_what_it_says(name: str) -> None:
    found = getattr(bench, name)
    assert found.__name__ == name and found.__doc__


def test_an_unknown_name_is_no_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="'bench' has no attribute 'evalate'"):
        bench.evalate  # noqa: B018


def test_the_names_of_the_package_make_the_pixels_of_a_run(tmp_path: Path) -> None:
    """The frames of a middle clip of a file, as the one view that an encoder of 32 pixels sees."""
    pixels = np.random.RandomState(0).randint(0, 256, (12, 40, 56, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    (clip,) = bench.segment_indices(12, frames_per_clip=4, frame_step=2, num_segments=1)
    frames = bench.read_frames(tmp_path, clip)
    assert np.array_equal(frames, pixels[clip])
    assert bench.test_views(frames, 32, 1).shape == (1, 3, 4, 32, 32)


def test_a_checkout_finds_its_own_folders() -> None:
    assert content_folder("datasets") == ROOT / "datasets"
