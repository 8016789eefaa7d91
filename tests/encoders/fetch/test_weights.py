"""Weights files: what is noted of them, and what is refused and not kept."""

from __future__ import annotations

import pytest
from fetch_lab import NEWER, RIGHT, Lab, sha256
from support import GOLDEN


def test_the_digest_of_the_first_download_is_noted_and_said(lab: Lab) -> None:
    fetched = lab.fetch()
    assert (fetched.sha256, fetched.agrees_with, fetched.size_bytes) == (sha256(RIGHT), None, len(RIGHT))
    assert lab.digest_note.read_text() == f"{sha256(RIGHT)}  far.pth.tar\n"
    assert "no digest of its authors is known" in lab.diary and "licence CC BY-NC 4.0" in lab.diary


def test_what_is_here_is_checked_and_not_fetched_again(lab: Lab) -> None:
    lab.fetch()
    for check in (False, True):
        again = lab.fetch(check=check)
        assert (again.state, again.agrees_with) == ("already here", "the first download")
    assert len(lab.site.requests) == 1


def test_a_file_brought_by_hand_is_checked_and_noted(lab: Lab) -> None:
    lab.path.parent.mkdir(parents=True)
    lab.path.write_bytes(RIGHT)
    assert lab.fetch(check=True).state == "already here" and not lab.digest_note.exists()
    assert lab.fetch().state == "already here" and lab.digest_note.exists()
    assert not lab.site.requests


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((GOLDEN / "vjepa1_probe.pth.tar").read_bytes(), "no encoder under the key"),
        ((GOLDEN / "vjepa2.pt").read_bytes(), ""),
        (b"<!doctype html><title>Sign in</title>" * 100, "not a checkpoint"),
        (b"", "the file is empty"),
        (RIGHT[:500_000], "not a readable checkpoint, or cut off"),
        (RIGHT[:500_000] + bytes([RIGHT[500_000] ^ 1]) + RIGHT[500_001:], "does not have its checksum"),
    ],
    ids=["a probe", "another family", "a web page", "nothing", "half of it", "a flipped bit"],
)
def test_other_files_are_refused_and_not_kept(lab: Lab, content: bytes, words: str) -> None:
    lab.site.content = content
    lab.refuses(f"far .*not the right file, nothing is kept: .*{words}")
    assert lab.holds_nothing()


def test_an_encoder_of_another_size_is_refused(lab: Lab) -> None:
    lab.card(parameters_m=303.9)
    lab.refuses(r"another encoder: 0\.1 M parameters for 8x64px instead of 303\.9 M")
    lab.card(resolution=384)
    lab.refuses(r"these are not the weights of far: resolution is 64 instead of 384")
    assert lab.holds_nothing()


def test_the_cards_digest_decides(lab: Lab) -> None:
    lab.card(sha256=sha256(NEWER), size_bytes=len(RIGHT))
    lab.refuses(f"its SHA-256 is {sha256(RIGHT)} instead of {sha256(NEWER)} as the card says")
    assert lab.holds_nothing()
    lab.card(sha256=sha256(RIGHT), size_bytes=len(RIGHT))
    assert lab.fetch().agrees_with == "the card" and not lab.digest_note.exists()


def test_a_later_download_is_held_to_the_first(lab: Lab) -> None:
    lab.fetch()
    lab.path.unlink()
    lab.site.content = NEWER
    error = lab.refuses("as of the first download")
    assert f"delete {lab.digest_note}" in str(error) and not lab.path.exists()
    lab.digest_note.unlink()
    assert lab.fetch().sha256 == sha256(NEWER)


@pytest.mark.parametrize("check", [False, True])
def test_a_file_that_changed_here_is_an_error(lab: Lab, check: bool) -> None:
    lab.fetch()
    lab.path.write_bytes(NEWER)
    error = lab.refuses("as of the first download - move it away and run `bench fetch far`", check=check)
    assert error.where == str(lab.path) and lab.path.read_bytes() == NEWER


def test_a_damaged_digest_note_is_named(lab: Lab) -> None:
    lab.fetch()
    lab.digest_note.write_text("what?")
    error = lab.refuses("far.pth.tar.sha256 beside it holds no SHA-256, delete that file")
    assert error.where == str(lab.path) and lab.path.read_bytes() == RIGHT
    lab.digest_note.unlink()
    assert lab.fetch().state == "already here" and lab.digest_note.exists()
