"""Boards for documents: whole, self-contained, and no name can become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from bench.analysis.leaderboard import build
from bench.analysis.select import Choice, arranged, load_board
from bench.report.export import to_latex
from bench.report.html import to_html

HOSTILE = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """Elements, text and rows of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.row_widths: list[int] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("br", "meta"):
            self.open.append(tag)
        if tag == "tr":
            self.row_widths.append(0)
        if tag in ("td", "th"):
            self.row_widths[-1] += int(dict(attrs).get("colspan") or 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def board(make_record, save_run, tmp_path):
    for model, correct in (("a", 450), (HOSTILE, 200)):
        for seed in range(2):
            record = make_record(model=model, seed=seed, correct=correct + seed, n=499, failed=1, notes=["mind_this"])
            save_run(tmp_path, record)
    save_run(tmp_path, make_record(model="a", task="coin", axis="appearance"))
    board, _ = load_board([tmp_path])
    return arranged(board, Choice(reference=HOSTILE))


def test_a_page_is_whole_and_shows_names_as_text(board) -> None:
    page = Page(to_html(board))
    assert page.open == []
    assert len(set(page.row_widths)) == 1
    assert "script" not in page.tags
    assert HOSTILE in page.words
    text = " ".join(page.words)
    for shown in ("90.3", "#1", "+50.1 [", "sd 0.1, 2 seeds", "99.8 % read", "mind_this", "Motion", "Appearance"):
        assert shown in text, shown


def test_a_page_fetches_nothing_and_knows_light_and_dark(board) -> None:
    text = to_html(board)
    attributes = Page(text).attributes
    assert not {name for name, _ in attributes} & {"src"}
    targets = {value for name, value in attributes if name == "href"}
    assert targets and targets <= {f"#{value}" for name, value in attributes if name == "id"}
    assert "url(" not in text and "@import" not in text and "//" not in text
    assert "prefers-color-scheme: dark" in text and "color-scheme: light dark" in text


def test_latex_is_balanced_and_every_row_has_every_column(board) -> None:
    text = to_latex(board)
    bare = re.sub(r"\\[{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    for name in re.findall(r"\\begin{(\w+)}", text):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    columns = re.search(r"\\begin{tabular}{(\w+)}", text)
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert columns and all(re.sub(r"\\&", "", row).count("&") == len(columns[1]) - 1 for row in rows)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule(lr){2-2}"):
        assert rule in text
    assert re.search(r"\\textbf{90\.3} {\\scriptsize 87\.\d--92\.\d; \\#1; \+50\.1 {\[}", text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("vit_large 50%", r"vit\_large 50\%"),
        ("a&b#c$d{e}", r"a\&b\#c\$d\{e\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("[x]\n", "{[}x{]}?"),
    ],
)
def test_latex_sets_names_as_they_are(make_record, name: str, shown: str) -> None:
    text = to_latex(build([make_record(model=name, task=name, notes=[name])]))
    assert text.count(shown) == 3


def test_an_empty_board_says_so() -> None:
    assert "No scores." in to_latex(build([]))
    assert "No scores." in to_html(build([]))
