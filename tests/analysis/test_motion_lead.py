"""One figure for a model: how much better it reads motion than appearance, beyond what an untrained encoder does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.board import Leaderboard
from bench.analysis.leaderboard import assemble, compared
from bench.records.index import read_runs
from bench.report.export import to_csv, to_json, to_markdown

TASKS = {"digits-motion": "motion", "digits-appearance": "appearance"}
SCORES = {"vjepa": (0.8, 0.6), "random": (0.5, 0.45), "slow": (0.3, 0.7)}


def hits(share: float, seed: int, n: int = 200) -> list[int]:
    return (np.random.RandomState(seed).rand(n) < share).astype(int).tolist()


@pytest.fixture
def board(make_run: Any, tmp_path: Path) -> Leaderboard:
    for number, (model, shares) in enumerate(SCORES.items()):
        for place, (task, share) in enumerate(zip(TASKS, shares, strict=True)):
            make_run(
                hits(share, 10 * number + place),
                task=task,
                axis=TASKS[task],
                model=model,
                run_id=f"{model}-{task}",
                digests={"encoder": model},
            )
    return assemble([one for one in read_runs([tmp_path / "results"]) if not isinstance(one, Exception)])


def leads(board: Leaderboard) -> dict[str, Any]:
    return {row.label: row.motion_lead for row in board.rows}


def test_it_is_the_difference_of_differences(board: Leaderboard) -> None:
    scores = {row.label: {c.axis: cell.value for c, cell in row.cells.items()} for row in board.rows}
    found = leads(board)
    assert found["random"] is None, "the reference has none over itself"
    for model in ("vjepa", "slow"):
        own, base = scores[model], scores["random"]
        wanted = own["motion"] - own["appearance"] - base["motion"] + base["appearance"]
        assert found[model].value == pytest.approx(wanted) and found[model].reference == "random"


def test_scores_of_the_same_clips_are_paired(board: Leaderboard) -> None:
    """The interval is that of the mean of what each sample adds, by Student's t."""
    rows = {
        (model, task): 100.0 * np.array(hits(share, 10 * number + place))
        for number, (model, shares) in enumerate(SCORES.items())
        for place, (task, share) in enumerate(zip(TASKS, shares, strict=True))
    }
    added = sum(
        sign * (rows[model, "digits-motion"] - rows[model, "digits-appearance"])
        for sign, model in ((1, "vjepa"), (-1, "random"))
    )
    from scipy.stats import t

    reach = t.ppf(0.975, len(added) - 1) * added.std(ddof=1) / len(added) ** 0.5
    lead = leads(board)["vjepa"]
    assert (lead.high - lead.low) / 2 == pytest.approx(reach)


def test_clips_that_one_run_could_not_read_leave_the_others_paired(
    make_record: Any, save_run: Any, tmp_path: Path
) -> None:
    """The same interval as of runs that all read the other 299 clips alone, whose score it is nearly."""
    random = np.random.RandomState(0)
    skill = random.rand(300)
    widths = []
    for results, missing in ((tmp_path / "one", {("vjepa", "digits-motion")}), (tmp_path / "all", None)):
        for model in ("vjepa", "random"):
            for task, axis in TASKS.items():
                unread = int(missing is None or (model, task) in missing)
                right = [bool(one) for one in skill < 0.3 + 0.2 * (model == "vjepa") + 0.1 * (axis == "motion")]
                right = [one != (place % 17 == len(model + task) % 7) for place, one in enumerate(right)][unread:]
                names = {"task": task, "axis": axis, "model": model, "digests": {"encoder": model}}
                record = make_record(sum(right), len(right), unread, run_id=f"{model}-{task}", **names)
                save_run(results, record, right, [f"clip_{place}" for place in range(300)][unread:])
        board = assemble([one for one in read_runs([results]) if not isinstance(one, Exception)])
        lead = leads(board)["vjepa"]
        widths.append(lead.high - lead.low)
    assert widths[0] == pytest.approx(widths[1])


def test_clips_of_one_video_give_no_interval(make_run: Any, tmp_path: Path) -> None:
    for place, (task, axis) in enumerate(TASKS.items()):
        make_run(
            hits(0.8 - 0.2 * place, place), ["one"] * 200, task=task, axis=axis, model="vjepa", run_id=task, seeds=[0]
        )
    board = assemble([one for one in read_runs([tmp_path / "results"]) if not isinstance(one, Exception)])
    (lead,) = leads(board).values()
    assert lead.low is None and lead.high is None and "mean of motion minus" in to_markdown(board)


def test_seeds_that_read_other_clips_are_held_against_each_other_on_those_of_all(
    make_record: Any, save_run: Any, tmp_path: Path
) -> None:
    for task, axis in TASKS.items():
        for seed in (0, 1):
            unread = 8 * seed
            right = [bool(one) for one in hits(0.7, seed + len(task))[unread:]]
            names = {"task": task, "axis": axis, "seed": seed, "model": "vjepa", "digests": {"encoder": "a"}}
            record = make_record(sum(right), len(right), unread, run_id=f"{task}-{seed}", **names)
            save_run(tmp_path, record, right, [f"clip_{place}" for place in range(200)][unread:])
    board = assemble([one for one in read_runs([tmp_path]) if not isinstance(one, Exception)])
    (lead,) = leads(board).values()
    assert lead.low < lead.value < lead.high


def test_the_user_names_the_reference(board: Leaderboard) -> None:
    other = next(row for row in board.rows if row.label == "slow")
    found = leads(compared(board, other))
    assert found["slow"] is None and found["random"].reference == "slow"
    assert found["random"].value == pytest.approx(-leads(board)["slow"].value)


def test_without_an_untrained_encoder_it_is_relative_to_nothing(make_run: Any, tmp_path: Path) -> None:
    for place, (task, axis) in enumerate(TASKS.items()):
        make_run(hits(0.8 - 0.2 * place, place), task=task, axis=axis, model="vjepa", run_id=task)
    board = assemble([one for one in read_runs([tmp_path / "results"]) if not isinstance(one, Exception)])
    (lead,) = leads(board).values()
    values = {column.axis: cell.value for column, cell in board.rows[0].cells.items()}
    assert lead.reference is None and lead.value == pytest.approx(values["motion"] - values["appearance"])
    assert "no reference" in to_markdown(board)


def test_a_board_of_one_axis_has_none(make_run: Any, tmp_path: Path) -> None:
    make_run(hits(0.5, 0), task="digits-motion", axis="motion", run_id="a")
    board = assemble([one for one in read_runs([tmp_path / "results"]) if not isinstance(one, Exception)])
    assert leads(board) == {board.rows[0].label: None} and "mean of motion minus" not in to_markdown(board)


def test_it_goes_to_every_format(board: Leaderboard) -> None:
    (one, *_) = [row for row in json.loads(to_json(board)) if row["model"] == "vjepa"]
    assert set(one["motion_lead"]) == {"value", "low", "high", "reference"}
    assert "motion_lead_low" in to_csv(board).splitlines()[0]
    assert "mean of motion minus mean of appearance" in to_markdown(board)
