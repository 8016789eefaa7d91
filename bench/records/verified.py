"""Checks every record of a results folder anew, without the index of earlier checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.core.errors import BenchError
from bench.records.index import RECORD_NAME, examine
from bench.records.runs import one_of_each_id
from bench.records.summary import Summary


@dataclass(frozen=True)
class Verified:
    """What came of one record."""

    path: Path
    """Its file."""
    run_id: str
    """Name of its folder where the record cannot be read."""
    verdict: Literal["ok", "left out", "in doubt"]
    """`in doubt`: it is shown, with the reason beside it."""
    reason: str = ""
    """The contradiction, or what is missing."""
    fix: str | None = None

    def facts(self) -> dict[str, str | None]:
        """As JSON has it."""
        return {"path": str(self.path), "run_id": self.run_id, "verdict": self.verdict, "reason": self.reason}


def verify_folder(folder: Path) -> list[Verified]:
    """What came of each record under a results folder, in order. Raises BenchError where there is none."""
    paths = sorted(folder.glob(f"[!.]*/{RECORD_NAME}"))
    if not paths:
        what = "no records yet" if folder.is_dir() else "no such folder"
        raise BenchError(what, where=str(folder), fix="`bench run` writes records to its --results")
    found = [examine(path) for path in paths]
    _, clashes = one_of_each_id([one for one in found if isinstance(one, Summary)])
    of_path = {clash.where: clash for clash in clashes}
    return [
        _verified(path, of_path.get(str(path), one) if isinstance(one, Summary) else one)
        for path, one in zip(paths, found, strict=True)
    ]


def _verified(path: Path, found: Summary | BenchError) -> Verified:
    if isinstance(found, BenchError):
        return Verified(path, path.parent.name, "left out", found.what, found.fix)
    if found.doubts:
        return Verified(path, found.run_id, "in doubt", "; ".join(found.doubts), "mend the record, or run again")
    return Verified(path, found.run_id, "ok")
