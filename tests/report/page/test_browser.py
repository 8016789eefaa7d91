"""The pages in a real browser: they open quietly, ask for nothing, sort by mouse and keyboard, and fit the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from report_lab import HOSTILE, write_full_runs

from bench.analysis.published import sections_of
from bench.analysis.select import Choice
from bench.report.html import to_html
from bench.report.page.page import to_page
from bench.report.page.parts import gather

MODELS = "[...document.querySelectorAll('#leaderboard tbody th .name')].map(name => name.textContent)"
BUTTON = "#leaderboard thead th:nth-child({}) button"
SORTED = "[...document.querySelectorAll('#leaderboard thead tr:last-child th')].map(th => th.getAttribute('aria-sort'))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    write_full_runs(folder / "results")
    material = gather([folder / "results"], Choice())
    sections = sections_of(material.board)
    files = {"report": to_page(material, sections), "leaderboard": to_html(material.board, sections)}
    for name, text in files.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in files}


@pytest.mark.parametrize("name", ["report", "leaderboard"])
def test_a_page_opens_quietly_and_asks_for_nothing(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert browser.evaluate("document.readyState") == "complete"
    assert browser.evaluate("document.querySelectorAll('table tbody tr').length") > 2
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [pages[name].as_uri()]


def test_the_policy_stops_what_a_page_would_load(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    text = pages["report"].read_text(encoding="utf-8")
    more = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x.png' onerror='document.title = 1'>"
    (tmp_path / "changed.html").write_text(text.replace("</main>", f"{more}</main>"), encoding="utf-8")
    browser.open(tmp_path / "changed.html")
    assert "report of vjepa-bench" in browser.evaluate("document.title")
    assert "Content Security Policy" in " ".join(browser.complaints())


def test_a_click_sorts_and_sorts_back(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    by_mean = browser.evaluate(MODELS)
    click = f"document.querySelector({BUTTON.format(2)!r}).click()"
    browser.evaluate(click)
    highest_first = browser.evaluate(MODELS)
    assert browser.evaluate(SORTED) == [None, "descending", None, None, None, None, None]
    browser.evaluate(click)
    assert browser.evaluate(MODELS) == ["random", HOSTILE, "vjepa-nano"]
    assert highest_first == ["vjepa-nano", HOSTILE, "random"]
    assert browser.evaluate(SORTED) == [None, "ascending", None, None, None, None, None]
    browser.evaluate(click)
    assert browser.evaluate(MODELS) == by_mean
    assert browser.evaluate(SORTED) == [None] * 7


def test_a_missing_score_comes_last_in_both_directions(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"])
    for direction in ("descending", "ascending"):
        browser.evaluate(f"document.querySelector({BUTTON.format(3)!r}).click()")
        assert browser.evaluate(SORTED)[2] == direction
        assert browser.evaluate(MODELS)[-1] == HOSTILE


def test_the_keyboard_sorts(browser: Browser, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["report"])
    browser.evaluate("document.querySelector('nav li:last-child a').focus()")
    browser.press(Keys.TAB)  # the box that scrolls the table
    browser.press(Keys.TAB)
    assert browser.evaluate("document.activeElement.textContent") == "model"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid"
    browser.press(Keys.ENTER)
    assert browser.evaluate(SORTED)[0] == "ascending"
    assert browser.evaluate(MODELS) == [HOSTILE, "random", "vjepa-nano"]
    browser.press(Keys.SPACE)
    assert browser.evaluate(SORTED)[0] == "descending"
    assert browser.evaluate("document.getElementById('sorted').textContent") == "Sorted by model, highest first"


@pytest.mark.parametrize("name", ["report", "leaderboard"])
def test_a_hostile_name_stays_text(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert HOSTILE in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.scripts.length") == (1 if name == "report" else 0)
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert browser.evaluate(handlers) == []


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("name", ["report", "leaderboard"])
def test_a_page_never_scrolls_sideways(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width=width)
    browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    too_wide = "[...document.querySelectorAll('p, li, dd, pre, h1, h2, h3, h4, figcaption')]"
    too_wide += f".filter(e => e.getBoundingClientRect().right > {width} + 1).map(e => e.textContent.slice(0, 60))"
    assert browser.evaluate(too_wide) == []


def test_without_scripts_everything_is_there_in_order(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], scripts=False)
    assert browser.evaluate("document.querySelectorAll('button').length") == 0
    assert browser.evaluate(MODELS) == ["vjepa-nano", HOSTILE, "random"]
    text = browser.evaluate("document.body.innerText")
    for words in ("Leaderboard", "Plots", "Failed samples", "2 frames, 8 wanted", "bench run --task digits-motion"):
        assert words in text, words
    assert browser.complaints() == []


def test_ink_and_paper_change_places_in_the_dark(browser: Browser, pages: dict[str, Path]) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        browser.open(pages["report"], scheme=scheme)
        colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        brightness[scheme] = [sum(map(int, c[4:-1].split(", "))) for c in browser.evaluate(colours)]
    assert brightness["light"][0] < 100 and brightness["light"][1] > 700
    assert brightness["dark"][0] > 600 and brightness["dark"][1] < 100


def test_words_stand_out_from_their_ground_in_light_and_dark(browser: Browser, pages: dict[str, Path]) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for the colours of words."""
    contrast = """(() => {
      const style = getComputedStyle(document.documentElement);
      const channels = (name) => {
        const probe = document.createElement("i");
        probe.style.color = style.getPropertyValue(name);
        document.body.append(probe);
        const found = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
        probe.remove();
        return found;
      };
      const linear = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
      const light = (name) => { const [r, g, b] = channels(name).map(linear); return 0.2126*r + 0.7152*g + 0.0722*b; };
      const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
      return ["--ink", "--dim", "--link", "--good", "--bad"].flatMap((n) => [ratio(n, "--paper"), ratio(n, "--shade")]);
    })()"""
    for scheme in ("light", "dark"):
        browser.open(pages["report"], scheme=scheme)
        assert min(browser.evaluate(contrast)) >= 4.5


def test_paper_shows_what_is_folded_and_cuts_no_table(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], width=1032, scripts=False)  # A4 across, without its margins
    hidden = "[...document.querySelectorAll('.run dl')].filter(e => !e.checkVisibility({contentVisibilityAuto: true}))"
    assert browser.evaluate(f"{hidden}.length") > 0
    browser.media("light", "print")
    assert browser.becomes(f"{hidden}.length", 0)
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    widths = browser.evaluate("[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right)")
    assert max(widths) <= 1032
