"""Files of strangers: nothing in them runs, nothing is written or read outside of the folders that the user named."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from fault_lab import Bench

from bench import BenchError
from bench.encoders import load_encoder
from bench.probing import load_probe


class Hostile:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def plain_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps({"classifier": Hostile(mark)}))


def torch_file(path: Path, mark: Path) -> None:
    torch.save({"target_encoder": Hostile(mark), "classifier": Hostile(mark)}, path)


def with_a_hostile_member(path: Path, mark: Path) -> None:
    """An archive as PyTorch writes them, with a member that unpacking would put elsewhere."""
    torch.save({"target_encoder": {"x": torch.zeros(3)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../" * 12 + str(mark).lstrip("/"), b"text")
        archive.writestr("../mark", b"text")


def tar_with_members_elsewhere(path: Path, mark: Path) -> None:
    """What the first versions of PyTorch wrote, and unpacked to read it."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle", "../mark", "../" * 12 + str(mark).lstrip("/")):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(mark)
        archive.addfile(link)


@pytest.mark.parametrize("suffix", [".pt", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("make", [plain_pickle, torch_file, with_a_hostile_member, tar_with_members_elsewhere])
def test_a_hostile_checkpoint_is_refused_and_does_nothing(tmp_path: Path, make: object, suffix: str) -> None:
    path, mark = tmp_path / "in" / f"model{suffix}", tmp_path / "mark"
    path.parent.mkdir()
    make(path, mark)  # type: ignore[operator]
    before = sorted(tmp_path.rglob("*"))
    for load in (load_encoder, load_probe):
        with pytest.raises(BenchError):
            load(str(path))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_hostile_file_would_do_harm_elsewhere(tmp_path: Path) -> None:
    pickle.load(io.BytesIO(pickle.dumps(Hostile(tmp_path / "mark"))))
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("row", ["../../secret.mp4 0", "/etc/passwd 0", "clips/../../secret.mp4 1"])
def test_rows_that_leave_the_data_folder_end_the_run(bench: Bench, row: str) -> None:
    bench.home.mkdir()
    rows = (bench.data / "train.csv").read_text()
    (bench.home / "train.csv").write_text(f"{rows}{row}\n")
    line = bench.run("--train", "train.csv").line
    assert "train.csv:17" in line and "leaves the data folder" in line


@pytest.mark.parametrize("name", ["../../../x", "<b>x</b>", "a\nb"])
def test_names_that_are_no_names_are_refused(bench: Bench, name: str) -> None:
    assert "--name" in bench.run("--name", name).line and not bench.results
