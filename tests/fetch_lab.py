"""What the tests of `bench fetch` share: a catalog of one encoder whose file is on a server of this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import GOLDEN
from web_site import Site

from bench import BenchError
from bench.encoders.fetch import Fetched, fetch

RIGHT = (GOLDEN / "vjepa1.pth.tar").read_bytes()
NEWER = (GOLDEN / "vjepa1_pretrain.pth.tar").read_bytes()
"""Another checkpoint of the same architecture."""
FACTS = {
    "title": "A test",
    "family": "V-JEPA",
    "size": "small",
    "num_frames": 8,
    "resolution": 64,
    "parameters_m": 0.13,
    "pretrained_on": "nothing",
    "licence": "CC BY-NC 4.0",
    "file": "far.pth.tar",
}


class Diary:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.stages: list[tuple[str, int, int]] = []
        self.on_line: Callable[[str], None] = lambda line: None

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        self.stages.append((name, done, total))

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.on_line(line)

    def __contains__(self, words: str) -> bool:
        return any(words in line for line in self.lines)


class Lab:
    """A catalog of one card, `far`, whose file is on a server of this machine; nobody waits."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.path = folder / "cache" / "weights" / "far.pth.tar"
        self.part = self.path.parent / "part" / "far.pth.tar"
        self.digest_note = self.path.parent / "far.pth.tar.sha256"
        self.diary = Diary()
        self.pauses: list[float] = []
        self.card()

    def card(self, name: str = "far", **facts: Any) -> None:
        text = yaml.safe_dump({"name": name, **FACTS, "url": self.site.url, **facts})
        (self.folder / "cards" / f"{name}.yaml").write_text(text)

    def fetch(self, *names: str, check: bool = False) -> Fetched:
        return fetch(names or ["far"], self.diary, check=check, wait=self.pauses.append)[0]

    def refuses(self, match: str, **options: Any) -> BenchError:
        with pytest.raises(BenchError, match=match) as caught:
            self.fetch(**options)
        assert "\n" not in str(caught.value)
        return caught.value

    def holds_nothing(self) -> bool:
        return not self.path.exists() and not self.part.exists() and not self.digest_note.exists()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
