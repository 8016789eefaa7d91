"""The tables of answers in other frame orders.

controls.parquet                         one label a sample: sample, label, and the predicted class by each probe,
                                         in a column such as `reversed_by_ordered`
controls/<frames>_by_<trained on>/...    other forms: the tables of the form for each reading
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Answers, metric_of
from bench.metrics.motion_share import WITHOUT, Reading
from bench.metrics.seed_scores import score_of_seeds
from bench.records.tables import CONTROLS, CONTROLS_FOLDER, FILES, seed_folder, table_of, write_answers
from bench.records.tables.reading import SAME, compare_scores, contradiction, read_columns

if TYPE_CHECKING:
    from bench.records.schema import Record


def write_readings(folder: Path, readings: Sequence[Reading]) -> None:
    """Write the answers in each frame order, the ordered one first; nothing where there are no readings.

    Rows of controls.parquet are those of predictions.parquet; a cell is empty where a sample could not be read in that
    order.
    """
    if not readings:
        return
    for number in range(len(readings[0].seeds)):
        place = seed_folder(folder, number)
        place.mkdir(parents=True, exist_ok=True)
        _write(place, [(reading.name, reading.seeds[number]) for reading in readings])


def _write(folder: Path, readings: Sequence[tuple[str, Any]]) -> None:
    """Write what one probe answered in each frame order, by the names of the readings."""
    said = readings[0][1]
    if said.form != ClassAnswers.form:
        for name, answers in readings:
            place = folder / CONTROLS_FOLDER / name
            place.mkdir(parents=True)
            write_answers(place, answers)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "sample": pa.array(said.samples, pa.string()),
        "label": pa.array(said.labels.tolist(), pa.int32()),
    }
    for name, answers in readings:
        classes = dict(zip(answers.samples, answers.predicted.tolist(), strict=True))
        columns[name] = pa.array([classes.get(sample) for sample in said.samples], pa.int32())
    pq.write_table(pa.table(columns), folder / CONTROLS)


def check_controls(folder: Path, record: Record, seeds: Sequence[Answers]) -> None:
    """Raises BenchError where the controls and motion shares of a record are not those of its tables, beside which
    `seeds` are the answers of every probe that the score is of."""
    if not record.controls:
        return
    places = [seed_folder(folder, number) for number in range(len(seeds))]
    if isinstance(seeds[0], ClassAnswers):
        _check_classes([place / CONTROLS for place in places], record, seeds)
    else:
        _check_readings([place / CONTROLS_FOLDER for place in places], record, seeds)


def _check_classes(paths: Sequence[Path], record: Record, seeds: Sequence[Any]) -> None:
    names = [f"{control.frames}_by_{control.trained_on}" for control in record.controls]
    hits = [_hits(path, names, answers) for path, answers in zip(paths, seeds, strict=True)]
    for name, control in zip(names, record.controls, strict=True):
        score, rows = control.score, sum(len(of_seed[name]) for of_seed in hits)
        # A sample that only this order could read is counted, and has no row here.
        unseen, right = score.n * len(seeds) - rows, sum(sum(of_seed[name].values()) for of_seed in hits)
        most = record.scores[0].failed * len(seeds)
        if not 0 <= unseen <= most or not right <= (score.correct or 0) <= right + unseen:
            there, here = f"{right} of {rows} are right", f"{score.correct} of {score.n}"
            raise contradiction(paths[0], f"{name}: {there}, and the record says {here}")
    for name, control in zip(names, record.controls, strict=True):
        if control.difference:
            _check_difference(paths[0], name, control.difference.value, _both(hits, name, seeds))
    for share in record.motion_shares:
        _check_share(paths[0], record, share, _both(hits, _other(share.without), seeds) or None)


def _both(hits: Sequence[dict[str, dict[int, bool]]], name: str, seeds: Sequence[Any]) -> list[float]:
    """The ordered score and that of another reading, 0 to 100, over the samples of both; empty for none."""
    pairs = []
    for of_seed, answers in zip(hits, seeds, strict=True):
        ordered, other = dict(enumerate(answers.hits.astype(bool).tolist())), of_seed.get(name, {})
        pairs += [(ordered[row], other[row]) for row in ordered.keys() & other.keys()]
    return [100 * sum(found) / len(pairs) for found in zip(*pairs, strict=True)]


def _hits(path: Path, names: Sequence[str], answers: ClassAnswers) -> dict[str, dict[int, bool]]:
    """What one probe got right in each order: by the name of the reading and the row of the sample."""
    table = read_columns(path, ["sample", "label", *names])
    if table["sample"].to_pylist() != list(answers.samples) or table["label"].to_pylist() != answers.labels.tolist():
        raise contradiction(path, "other samples or labels than in predictions.parquet")
    hits: dict[str, dict[int, bool]] = {}
    for name in names:
        said = table[name].to_pylist()
        hits[name] = {row: label == answers.labels[row] for row, label in enumerate(said) if label is not None}
        if name == "ordered_by_ordered" and said != answers.predicted.tolist():
            raise contradiction(path, f"{name}: other predictions than in predictions.parquet")
    return hits


def _check_readings(folders: Sequence[Path], record: Record, seeds: Sequence[Answers]) -> None:
    """Check the readings of a form that keeps a table of its own for each."""
    form = seeds[0].form
    table, metric = table_of(form), metric_of(record.scores[0].metric)
    said: dict[str, list[Any]] = {}
    for control in record.controls:
        name = f"{control.frames}_by_{control.trained_on}"
        said[name] = [table.read(folder / name, record) for folder in folders]
        made = score_of_seeds(metric, said[name], control.score.failed)
        if control.score.sampling_se is None and not record.seeds:
            made = metric.score(said[name][0], control.score.failed)
        compare_scores(folders[0] / name / FILES[form][0], control.score, made)
    for number, usual in enumerate(said.get("ordered_by_ordered", [])):
        if usual.prediction_digest != seeds[number].prediction_digest:
            raise contradiction(folders[number], "ordered_by_ordered: other answers than those of the score")

    def both(name: str) -> list[float]:
        others = said.get(name, [answers.of([]) for answers in seeds])
        there = set(others[0].samples)
        common = [sample for sample in seeds[0].samples if sample in there]
        return [fmean(metric.score(one.of(common), 0).value for one in side) for side in (seeds, others) if common]

    for name, control in zip(said, record.controls, strict=True):
        if control.difference:
            _check_difference(folders[0], name, control.difference.value, both(name))
    for share in record.motion_shares:
        _check_share(folders[0], record, share, both(_other(share.without)) or None)


def _other(without: str) -> str:
    frames = dict(WITHOUT)[without]  # type: ignore[index]
    return f"{frames}_by_{frames}"


def _check_difference(path: Path, name: str, value: float, values: Sequence[float]) -> None:
    """Check a difference of two scores, 0 to 100."""
    made = values[0] - values[1] if values else float("nan")
    if not abs(made - value) <= SAME:
        what = f"ordered minus {name} is {made:.6f} by it"
        raise contradiction(path, f"{what}, and {value:.6f} in the record")


def _check_share(path: Path, record: Record, share: Any, values: list[float] | None) -> None:
    """The share of two scores, 0 to 100. Its interval needs the training labels, which no record has."""
    what = f"the share without {share.without}"
    if values is None or share.chance is None:
        raise contradiction(path, f"{what} has no {'control' if values is None else 'level of chance'} to be made of")
    above = values[0] - share.chance
    made = (values[0] - values[1]) / above if above else float("nan")
    if not abs(made - share.value) <= SAME:
        raise contradiction(path, f"{what} is {made:.6f} by it, and {share.value:.6f} in the record")
