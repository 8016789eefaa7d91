"""The tables of answers in other frame orders.

controls.parquet                         one label a sample: sample, label, and the predicted class by each probe,
                                         in a column such as `reversed_by_ordered`
controls/<frames>_by_<trained on>/...    other forms: the tables of the form for each reading
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Answers, metric_of
from bench.metrics.motion_share import WITHOUT, Reading
from bench.records.tables import CONTROLS, CONTROLS_FOLDER, FILES, table_of, write_answers
from bench.records.tables.reading import SAME, compare_scores, contradiction, read_columns

if TYPE_CHECKING:
    from bench.metrics.score import Score
    from bench.records.schema import Record


def write_readings(folder: Path, readings: Sequence[Reading]) -> None:
    """Write the answers in each frame order, the ordered one first; nothing where there are no readings.

    Rows of controls.parquet are those of predictions.parquet; a cell is empty where a sample could not be read in that
    order.
    """
    if not readings:
        return
    if readings[0].answers.form != ClassAnswers.form:
        for reading in readings:
            place = folder / CONTROLS_FOLDER / reading.name
            place.mkdir(parents=True)
            write_answers(place, reading.answers)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = readings[0].answers
    columns = {
        "sample": pa.array(said.samples, pa.string()),
        "label": pa.array(said.labels.tolist(), pa.int32()),
    }
    for reading in readings:
        classes = dict(zip(reading.answers.samples, reading.answers.predicted.tolist(), strict=True))
        columns[reading.name] = pa.array([classes.get(sample) for sample in said.samples], pa.int32())
    pq.write_table(pa.table(columns), folder / CONTROLS)


def check_controls(folder: Path, record: Record, answers: Answers) -> None:
    """Raises BenchError where the controls and motion shares of a record are not those of its tables, beside which
    `answers` are those of the score."""
    if not record.controls:
        return
    if isinstance(answers, ClassAnswers):
        _check_classes(folder / CONTROLS, record, answers)
    else:
        _check_readings(folder / CONTROLS_FOLDER, record, answers)


def _check_classes(path: Path, record: Record, answers: ClassAnswers) -> None:
    names = [f"{control.frames}_by_{control.trained_on}" for control in record.controls]
    table = read_columns(path, ["sample", "label", *names])
    if table["sample"].to_pylist() != list(answers.samples) or table["label"].to_pylist() != answers.labels.tolist():
        raise contradiction(path, "other samples or labels than in predictions.parquet")
    hits: dict[str, dict[int, bool]] = {}
    for name, control in zip(names, record.controls, strict=True):
        said, score = table[name].to_pylist(), control.score
        hits[name] = {row: label == answers.labels[row] for row, label in enumerate(said) if label is not None}
        # A sample that only this order could read is counted, and has no row here.
        unseen, right = score.n - len(hits[name]), sum(hits[name].values())
        if not 0 <= unseen <= record.scores[0].failed or not right <= (score.correct or 0) <= right + unseen:
            there, here = f"{right} of {len(hits[name])} are right", f"{score.correct} of {score.n}"
            raise contradiction(path, f"{name}: {there}, and the record says {here}")
        if name == "ordered_by_ordered" and said != answers.predicted.tolist():
            raise contradiction(path, f"{name}: other predictions than in predictions.parquet")
    ordered = dict(enumerate(answers.hits.astype(bool).tolist()))
    for share in record.motion_shares:
        other = hits.get(_other(share.without), {})
        rows = ordered.keys() & other.keys()
        values = [100 * sum(found[row] for row in rows) / max(1, len(rows)) for found in (ordered, other)]
        _check_share(path, record, share, values if rows else None)


def _check_readings(folder: Path, record: Record, answers: Answers) -> None:
    """Check the readings of a form that keeps a table of its own for each."""
    table, metric = table_of(answers.form), metric_of(record.scores[0].metric)
    said: dict[str, Any] = {}
    for control in record.controls:
        name = f"{control.frames}_by_{control.trained_on}"
        path = folder / name / FILES[answers.form][0]
        said[name] = table.read(folder / name, record)
        compare_scores(path, control.score, _score(metric, said[name], control.score))
    usual = said.get("ordered_by_ordered")
    if usual is not None and usual.prediction_digest != answers.prediction_digest:
        raise contradiction(folder, "ordered_by_ordered: other answers than those of the score")
    for share in record.motion_shares:
        other = said.get(_other(share.without), answers.of([]))
        there = set(other.samples)
        common = [sample for sample in answers.samples if sample in there]
        values = (
            [_score(metric, one.of(common), record.scores[0]).value for one in (answers, other)] if common else None
        )
        _check_share(folder, record, share, values)


def _score(metric: Any, answers: Answers, said: Score) -> Score:
    made: Score = metric.score(answers, said.failed)
    return made


def _other(without: str) -> str:
    frames = dict(WITHOUT)[without]  # type: ignore[index]
    return f"{frames}_by_{frames}"


def _check_share(path: Path, record: Record, share: Any, values: list[float] | None) -> None:
    """The share of two scores, 0 to 100. Its interval needs the training labels, which no record has."""
    what = f"the share without {share.without}"
    if values is None or share.chance is None:
        raise contradiction(path, f"{what} has no {'control' if values is None else 'level of chance'} to be made of")
    above = values[0] - share.chance
    made = (values[0] - values[1]) / above if above else float("nan")
    if not abs(made - share.value) <= SAME:
        raise contradiction(path, f"{what} is {made:.6f} by it, and {share.value:.6f} in the record")
