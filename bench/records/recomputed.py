"""Recomputes a record's scores, intervals, counts and parts from the tables beside it, and compares them.

Every run writes the tables of its metric (bench.records.tables). A score of one label a sample without them is not
believed; tables of other forms may have been left out where a folder was passed on, and then a doubt says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Answers, form_of, metric_of
from bench.metrics.resample import group_names, resampled
from bench.metrics.score import Breakdown
from bench.metrics.seed_scores import Scored, score_all
from bench.records.schema import Record
from bench.records.tables import CONTROLS, CONTROLS_FOLDER, FILES, seed_folder, table_of, tables_there
from bench.records.tables.controls import check_controls
from bench.records.tables.reading import SAME, compare_scores, contradiction


def check_tables(folder: Path, record: Record) -> tuple[tuple[Any, ...], list[str]]:
    """The answers of every probe of a run, of the form of its metric, in the order of its list; none where there are no
    tables. And doubts.

    Raises BenchError that says what contradicts what, or that a table is missing or damaged.
    """
    metric = record.scores[0].metric
    form = form_of(metric)
    if form is None:
        return (), [f"its score could not be made anew: no metric {metric} is known here"]
    own = FILES[form]
    there = [Path(name) for name in tables_there(folder)]
    of_score = [name for name in there if name.name != CONTROLS and CONTROLS_FOLDER not in name.parts]
    for name in of_score:
        if name.name not in own:
            raise contradiction(folder / name, f"it is no table of {metric}")
    probes = len(record.seeds) or 1
    known = {seed_folder(Path(), number) for number in range(probes)}
    for name in of_score:
        if name.parent not in known:
            raise contradiction(folder / name, f"the record is of {probes} probe{'s' if probes > 1 else ''}")
    if form != ClassAnswers.form and not of_score:
        return (), [f"its score could not be made anew: no {' and no '.join(own)} beside the record"]
    seeds = read_seeds(folder, record)
    check_controls(folder, record, seeds)
    return seeds, []


def read_seeds(folder: Path, record: Record) -> tuple[Any, ...]:
    """The answers of every probe of the run in `folder`, of the form of its metric, in the order of its list.

    Raises BenchError where its tables are missing, damaged, contradict themselves or the record, or its metric is not
    known.
    """
    form = form_of(record.scores[0].metric)
    if form is None:
        raise BenchError(f"no metric {record.scores[0].metric} is known here", where=str(folder))
    places = [seed_folder(folder, number) for number in range(len(record.seeds) or 1)]
    seeds, path = tuple(table_of(form).read(place, record) for place in places), folder / FILES[form][0]
    for place, answers in zip(places[1:], seeds[1:], strict=True):
        if answers.samples != seeds[0].samples or answers.sample_digest != seeds[0].sample_digest:
            raise contradiction(place / FILES[form][0], "other samples, or other labels, than those of the first probe")
        if _groups(answers) != _groups(seeds[0]):
            raise contradiction(place / FILES[form][0], "samples in other groups than those of the first probe")
    try:
        made = _scored(record, seeds)
    except BenchError as error:
        raise contradiction(path, f"no score can be made of it: {error.where}: {error.what}") from error
    names, ours = [score.metric for score in record.scores], [score.metric for score in made.scores]
    if names != ours:
        here, there = ", ".join(names), ", ".join(ours)
        if names[: len(ours)] == ours:
            here = f"{len(names)}: {', '.join(names[len(ours) :])} too"
        raise contradiction(path, f"it gives the scores {there}, and the record has {here}")
    for said, score in zip(record.scores, made.scores, strict=True):
        compare_scores(path, said, score)
    for said_part, made_part in zip_longest(record.breakdowns, made.breakdowns):
        if made_part is None:
            raise contradiction(path, f"{said_part.metric} does not follow from it")
        if said_part is None or not _alike(made_part, said_part):
            raise contradiction(path, f"{made_part.metric} by {made_part.by} is another than in the record")
    return seeds


def _groups(answers: Any) -> list[Any]:
    """The group of each sample, by a name that does not follow from how groups are numbered."""
    found: list[Any] = group_names(answers.samples, getattr(answers, "groups", None)).tolist()
    return found


def _scored(record: Record, seeds: Sequence[Any]) -> Scored:
    """The scores of these answers, with what the version knew of their intervals that wrote the record."""
    made = score_all(seeds[0], record.scores[0].failed, seeds[1:])
    # One group of samples alone has no standard error in any version.
    if record.seeds or len(seeds) > 1 or any(score.sampling_se is not None for score in record.scores):
        return made
    before = [metric_of(score.metric).score(seeds[0], record.scores[0].failed) for score in made.scores]
    return Scored(before, made.breakdowns)


def read_sorted(folder: Path, record: Record) -> tuple[Any, ...]:
    """The answers of every probe, in order of the samples' ids."""
    seeds = read_seeds(folder, record)
    order = sorted(seeds[0].samples)
    return tuple(answers.of(order) for answers in seeds)


def resampled_scores(record: Record, seeds: Sequence[Answers]) -> dict[str, tuple[str, list[tuple[float, str]]]]:
    """What ranks and differences need of each score: by metric, the digest of its samples, and of every probe its value
    and numbers."""
    made = {score.metric: [resampled(metric_of(score.metric), one) for one in seeds] for score in record.scores}
    return {metric: (of[0].samples, [(one.value, one.to_text()) for one in of]) for metric, of in made.items()}


def _alike(made: Breakdown, said: Breakdown) -> bool:
    """Whether two breakdowns have the same parts and values."""
    if (made.metric, made.by, made.values.keys()) != (said.metric, said.by, said.values.keys()):
        return False
    pairs = ((made.values[name], said.values[name]) for name in made.values)
    return all(a == b if a is None or b is None else abs(a - b) <= SAME for a, b in pairs)
