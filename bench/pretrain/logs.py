"""The log of a pretraining run, and whether its features have collapsed.

`log.csv` has one row an interval, and TensorBoard gets events where it is installed. A run that was interrupted and
resumed leaves the same rows as one that was not. A small loss does not show that features have collapsed: an encoder
that gives every clip the same ones is easy to predict. So their spread over clips is watched, and how many directions
they fill.

Shapes: B clips, N tokens of a clip, D channels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import LOG, read_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE_NAME = "log.csv"


class TrainLog:
    """Appends rows to `folder/log.csv`; each is on disk when `append` returns.

    The first row fixes the columns; one of them is `step`, which grows from row to row. Append before saving the
    checkpoint of a step: the rows up to a checkpoint are then complete whenever the run stops.
    """

    def __init__(self, folder: Path, *, resume_step: int | None) -> None:
        """Open the log of a run that starts (None) or goes on behind `resume_step`: later rows are dropped.

        A run that starts over before its first checkpoint drops all rows with -1. Raises BenchError where a run
        starts and rows of another are there, and where the file is damaged or of another program.
        """
        self.path = folder / FILE_NAME
        self._columns: list[str] = []
        self._last_step = -1
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._take_up(resume_step)
        self._events = _event_writer(folder / "tensorboard", self._last_step)

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row: numbers by column, in any order. Raises ValueError for other columns or a step that is behind.

        Whole numbers are kept as they are, others to 9 digits (all that float32 has).
        """
        columns = self._columns or list(row)
        if set(row) != set(columns) or "step" not in row:
            raise ValueError(f"the columns of {self.path} are {columns}, those of the row {list(row)}")
        step = int(row["step"])
        if step <= self._last_step:
            raise ValueError(f"step {step} in {self.path} is not behind step {self._last_step}")
        lines = [] if self._columns else [columns]
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([*lines, [_text(row[column]) for column in columns]])
        self._columns, self._last_step = columns, step
        if self._events:
            for column, value in row.items():
                if column != "step":
                    self._events.add_scalar(column, value, step)
            self._events.flush()

    def close(self) -> None:
        """Finish the TensorBoard events; `log.csv` is complete at any time."""
        if self._events:
            self._events.close()

    def _take_up(self, resume_step: int | None) -> None:
        """Keep the rows of an existing file up to `resume_step`, byte for byte."""
        lines = _lines(self.path)
        rows = read_log(self.path)
        if resume_step is None:
            if rows:
                raise BenchError(
                    f"holds the log of another run ({len(rows)} rows)",
                    where=str(self.path),
                    fix="resume that run, or choose another folder",
                )
            resume_step = -1
        kept = [row for row in rows if row["step"] <= resume_step]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(lines[: len(kept) + 1] if kept else []), encoding="utf-8", newline="")
        if kept:
            self._columns = list(kept[-1])
            self._last_step = int(kept[-1]["step"])


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a `log.csv`, numbers by column, in order of `step`.

    A last line that was cut off while it was written is left out. Raises BenchError where the file is damaged or no
    log of a pretraining run.
    """
    table = list(csv.reader(_lines(path)))
    if not table:
        return []
    columns = table[0]
    if "step" not in columns or len(set(columns)) < len(columns):
        raise _not_a_log(path, 1, "the first line does not name columns with a step among them")
    rows: list[dict[str, float]] = []
    for number, cells in enumerate(table[1:], start=2):
        try:
            row = dict(zip(columns, map(float, cells), strict=True))
            rising = row["step"] >= 0 and (not rows or row["step"] > rows[-1]["step"])
        except ValueError as error:
            raise _not_a_log(path, number, str(error)) from error
        if not rising:
            raise _not_a_log(path, number, f"step {row['step']:g} does not follow the one before")
        rows.append(row)
    return rows


def _lines(path: Path) -> list[str]:
    """The complete lines of the file."""
    try:
        lines = read_bytes(path, LOG).decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise _not_a_log(path, 1, "not text") from error
    except FileNotFoundError as error:
        raise BenchError("no such log", where=str(path), fix="a pretraining run writes one into its folder") from error
    return lines if not lines or lines[-1].endswith("\n") else lines[:-1]


def _not_a_log(path: Path, line: int, reason: str) -> BenchError:
    return BenchError(
        f"not a log of a pretraining run, or damaged ({reason})",
        where=f"{path}:{line}",
        fix="mend the line, or move the file away and start anew",
    )


def _text(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else f"{float(value):.9g}"


def _event_writer(folder: Path, last_step: int) -> SummaryWriter | None:
    """TensorBoard's writer, told to hide events behind `last_step`; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=last_step + 1)


LEAST_STD_SHARE = 0.01
LEAST_POOLED_SHARE = 0.04
LEAST_TOKENS_SHARE = 0.10
LEAST_CLIPS = 8
"""Where features begin to count as collapsed; `collapse_reason` has the grounds."""

_MOST_ROWS = 4096


@dataclass(frozen=True)
class Health:
    """How the features of a batch of clips are spread. A figure that the clips do not tell is NaN."""

    std: float
    """Standard deviation over clips, mean over tokens and channels; NaN for a single clip."""
    size: float
    """Root mean square of all values: what `std` is small or large against."""
    rank_pooled: float
    """Effective rank of the clips' mean tokens, 1 to min(B - 1, D)."""
    rank_tokens: float
    """Effective rank of the tokens without the mean of their position, 1 to D."""
    embed_dim: int
    num_clips: int


@torch.no_grad()
def feature_health(tokens: Tensor) -> Health:
    """Spread and effective ranks of tokens [B, N, D] of B clips, computed in float32 on the tokens' device.

    Tokens that are not all finite give NaN throughout. Of more than 4096 tokens the rank is that of 4096, the same
    ones at every call. Raises ValueError for another shape.
    """
    if tokens.ndim != 3 or not tokens.numel():
        raise ValueError(f"feature_health takes tokens [B, N, D], not {list(tokens.shape)}")
    B, N, D = tokens.shape
    x = tokens.detach().float()
    size = x.square().mean().sqrt().item()
    if not math.isfinite(size):
        return Health(math.nan, math.nan, math.nan, math.nan, embed_dim=D, num_clips=B)
    largest = x.abs().max().item()
    of_position = x.mean(dim=0)
    # Drawn on the CPU, where the same seed gives the same rows for every device.
    rows = torch.randperm(B * N, generator=torch.Generator().manual_seed(0))[:_MOST_ROWS].to(x.device)
    return Health(
        std=x.std(dim=0).mean().item() if B > 1 else math.nan,
        size=size,
        rank_pooled=effective_rank(x.mean(dim=1), magnitude=largest),
        rank_tokens=effective_rank(x.reshape(B * N, D)[rows] - of_position[rows % N], magnitude=largest),
        embed_dim=D,
        num_clips=B,
    )


def effective_rank(rows: Tensor, *, magnitude: float) -> float:
    """exp of the entropy of the normalised singular values of the centred rows [n, D] (Roy and Vetterli 2007).

    `magnitude` is the largest number that the rows were computed from: what its rounding leaves of equal rows is no
    direction. At least 1, where all rows are the same or lie on one line; at most min(n - 1, D).
    """
    n, D = rows.shape
    values = torch.linalg.svdvals(rows - rows.mean(dim=0))
    # A matrix of rounding errors e has singular values of up to about e (sqrt(n) + sqrt(D)).
    values = values[values > 2 * magnitude * torch.finfo(rows.dtype).eps * (math.sqrt(n) + math.sqrt(D))]
    if not len(values):
        return 1.0
    shares = values / values.sum()
    return math.exp(torch.special.entr(shares).sum().item())


def collapse_reason(health: Health) -> str | None:
    """Why these features count as collapsed, in one clause; None where they do not, or where B clips cannot tell.

    Collapsed is
    - a standard deviation over clips below 1 % of the features' size: healthy runs keep more than a tenth;
    - a pooled rank below 4 % of what it could be, min(B - 1, D): collapsed runs had 1.8 % (2.3 of 128) and 2.5 %
      (1.6 of 64), the lowest run that had not collapsed 5.5 % (7 of 128), untrained encoders 19 to 63 %;
    - a token rank below 10 % of D: collapsed runs had 4.3 % (5.5 of 128) and 4.5 % (2.9 of 64), the lowest run that
      had not collapsed 23 % (30 of 128), untrained encoders 25 to 72 %. It is judged from 8 clips on: of fewer,
      one difference between them, such as their brightness, can be most of what is left.

    The figures are of encoders of 64 and 128 channels on moving digits, with the position means still in the token
    rank; taking them off raised it by 3 to 11 % on healthy encoders of 64 channels.
    """
    D, B = health.embed_dim, health.num_clips
    if not math.isfinite(health.size):
        return "features are not finite"
    if health.std < LEAST_STD_SHARE * health.size or health.size == 0:
        share = 100 * health.std / health.size if health.size else 0.0
        return (
            f"features hardly differ between clips: standard deviation {health.std:.2g}, {share:.2g} % of their size"
            f" (at least {100 * LEAST_STD_SHARE:g} % is healthy)"
        )
    ranks = [("clip means", health.rank_pooled, min(B - 1, D), LEAST_POOLED_SHARE)]
    if B >= LEAST_CLIPS:
        ranks.append(("tokens", health.rank_tokens, D, LEAST_TOKENS_SHARE))
    for name, rank, most, share in ranks:
        if rank < share * most:
            return (
                f"{name} fill {rank:.1f} of {most} directions (effective rank; at least {share * most:.1f} is healthy)"
            )
    return None
