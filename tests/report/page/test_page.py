"""The page without a browser: whole, self-contained, complete, and no name becomes markup."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import shutil
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_lab import HOSTILE, write_full_runs, write_runs

from bench.analysis.published import sections_of
from bench.analysis.select import Choice
from bench.core.errors import BenchError
from bench.records.schema import Record
from bench.report.page.page import to_page
from bench.report.page.parts import gather

pytestmark = pytest.mark.slow

VOID = {"br", "img", "meta"}


class Page(HTMLParser):
    """Elements with their attributes, the text that is shown, and the script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return "".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words.append(data)


def made(results: Path) -> str:
    material = gather([results], Choice())
    return to_page(material, sections_of(material.board))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], str]:
    results = tmp_path_factory.mktemp("results")
    return write_full_runs(results), made(results)


@pytest.fixture(scope="module")
def page(written: tuple[list[Record], str]) -> Page:
    return Page(written[1])


@pytest.fixture
def one_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not depend on plots, which take seconds."""
    from bench.report import plots

    monkeypatch.setattr("bench.report.plots.KINDS", dict(list(plots.KINDS.items())[:1]))


def test_nothing_is_loaded_and_the_policy_forbids_it(page: Page, written: tuple[list[Record], str]) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "srcset", "data"):
                assert value and value.startswith(("#", "data:image/png;base64,", "data:image/jpeg;base64,")), (
                    tag,
                    name,
                    value,
                )
            if name == "style" or "url(" in (value or ""):
                assert "url(" not in (value or "").replace("url(#", ""), (tag, value)
    text = written[1]
    assert "@import" not in text and "<!DOCTYPE svg" not in text and "<?xml" not in text
    (policy,) = [meta["content"] or "" for meta in page.all("meta") if meta.get("http-equiv")]
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_a_hostile_name_stays_text_everywhere(page: Page) -> None:
    assert len(page.all("script")) == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    # Row, lead, headings, class, sample, reason, note, command, provenance.
    assert page.text.count(HOSTILE) > 15
    assert any(HOSTILE in (value or "") for _, attributes in page.elements for value in attributes.values())


def test_every_run_is_there_with_its_command_and_its_failures(page: Page, written: tuple[list[Record], str]) -> None:
    for record in written[0]:
        assert record.run_id in page.text
        assert f"{record.scores[0].value:.2f} %" in page.text
        assert record.digests["encoder"] in page.text
        for failure in record.failures:
            assert failure.sample in page.text and failure.reason in page.text
        for note in record.notes:
            assert note in page.text
    assert "bench run --task digits-appearance --model vjepa-nano --probe attentive --limit 300" in page.text
    assert page.text.count("bench run --task") == len(written[0])


def test_frame_orders_motion_shares_and_fewer_labels_are_told(page: Page) -> None:
    for words in ("Shares of scores that are lost", "225 %", "Scores with other orders of frames", "shuffled", "10 %"):
        assert words in page.text, words


def test_classes_have_their_accuracy(tmp_path: Path) -> None:
    write_runs(tmp_path, {"perfect": 1.0, "hopeless": 0.0}, seeds=2)
    material = gather([tmp_path], Choice(tasks=["digits-motion"]))
    from bench.report.page.parts import class_tables

    (grid,) = class_tables(material)
    assert grid.caption == "digits-motion, attentive: accuracy in % by class"
    assert grid.heading == ("class", "n", "perfect", "hopeless")
    assert [[spot.text for spot in row] for row in grid.rows] == [
        [name, "20", "100.0", "0.0"] for name in ("left", "right", "up")
    ]
    assert "20 test samples" in grid.remark and "30 to 70 %" in grid.remark


def test_the_page_is_navigable_without_seeing_it(page: Page) -> None:
    ids = Counter(a["id"] for _, a in page.elements if a.get("id"))
    assert max(ids.values()) == 1
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    drawings = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert drawings and all(drawing.get("aria-labelledby") for drawing in drawings)


def test_the_same_records_give_the_same_page(written: tuple[list[Record], str], tmp_path: Path) -> None:
    write_full_runs(tmp_path / "b")
    (tmp_path / "a").mkdir()
    shutil.move(tmp_path / "b" / "hostile", tmp_path / "a" / "hostile")
    material = gather([tmp_path / "b", tmp_path / "a"], Choice())
    assert to_page(material, sections_of(material.board)) == written[1]
    assert "2026-01-02" in written[1]


def test_the_head_says_who_leads_and_how_surely(one_plot: None, tmp_path: Path) -> None:
    write_runs(tmp_path, {"best": 1.0, "good": 0.98, "bad": 0.2})
    text = " ".join(Page(made(tmp_path)).text.split())
    assert "3 frozen encoders on 2 tasks" in text
    assert "digits-motion, attentive: best 100.0 % (94.0–100.0), not separable from good" in text
    assert "6 runs, the last on 2026-01-02" in text


def test_a_kind_of_plot_that_gives_nothing_is_not_mentioned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.report.plots.draw", lambda kind, evidence: [])
    write_runs(tmp_path, {"random": 0.5})
    assert "plots" not in Page(made(tmp_path)).text.lower()


def test_records_that_cannot_be_read_are_named(one_plot: None, tmp_path: Path) -> None:
    write_runs(tmp_path, {"random": 0.5})
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "record.json").write_text('{"schema_version"')
    text = Page(made(tmp_path)).text
    assert "1 record that could not be read" in text and "cut/record.json: not a readable record" in text


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "record.json").write_text("{}")
    with pytest.raises(BenchError, match="not a readable record"):
        gather([tmp_path], Choice())


def test_hundreds_of_runs_take_seconds(tmp_path: Path) -> None:
    write_runs(tmp_path, {f"model-{'x' * number}": 0.3 + 0.02 * number for number in range(20)}, seeds=5)
    start = time.process_time()
    page = Page(made(tmp_path))
    assert page.text.count("bench run --task") == 200
    assert time.process_time() - start < 20


def test_damaged_predictions_cost_no_more_than_what_needs_them(tmp_path: Path) -> None:
    record = write_runs(tmp_path, {"random": 0.5, "vjepa-nano": 0.8})[0]
    (tmp_path / record.run_id / "predictions.parquet").write_bytes(b"cut")
    text = Page(made(tmp_path)).text
    assert f"{record.run_id}/predictions.parquet: not readable predictions" in text
    assert "Motion against appearance" in text and record.run_id in text
