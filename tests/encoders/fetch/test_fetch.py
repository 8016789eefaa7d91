"""`bench fetch`: names to files, one after the other."""

from __future__ import annotations

import json
import sys
import threading

import pytest
from fetch_lab import RIGHT, Diary, Lab, sha256
from web_site import Request, refusing

from bench import BenchError, load_encoder
from bench.cli.app import main
from bench.encoders.fetch.fetch import fetch
from bench.encoders.fetch.weights import Fetched


def test_a_fetched_encoder_loads_under_its_name(lab: Lab) -> None:
    with pytest.raises(BenchError, match=r"far\.pth\.tar: the weights of far are not here - run `bench fetch far`"):
        load_encoder("far")
    assert lab.fetch().state == "fetched"
    assert lab.path.read_bytes() == RIGHT and load_encoder("far").name == "far"
    assert [file.name for file in lab.part.parent.iterdir() if file.suffix != ".lock"] == []


def test_progress_counts_bytes_up_to_the_size(lab: Lab) -> None:
    lab.fetch()
    size_mib = len(RIGHT) >> 20
    for stage in ("fetching far (MiB)", "checking far (MiB)"):
        told = [(done, total) for name, done, total in lab.diary.stages if name == stage]
        assert told and told == sorted(told) and told[-1] == (size_mib, size_mib)


def test_two_fetches_at_once_download_once(lab: Lab) -> None:
    second: list[Fetched] = []
    other, waiting = Diary(), threading.Event()
    other.on_line = lambda line: waiting.set() if "waiting for it" in line else None
    thread = threading.Thread(target=lambda: second.extend(fetch(["far"], other)))

    def busy(request: Request) -> None:
        thread.start()
        assert waiting.wait(timeout=30)
        request.whole()

    lab.site.behaviours = [busy]
    assert lab.fetch().state == "fetched"
    thread.join(timeout=30)
    assert [item.state for item in second] == ["already here"] and len(lab.site.requests) == 1


def test_wildcards_stand_for_all_that_match_in_natural_order(lab: Lab) -> None:
    for number in (10, 2):
        lab.card(f"far{number}", file=f"far{number}.pth.tar")
    fetched = fetch(["far[0-9]*", "far2"], lab.diary)
    assert [item.name for item in fetched] == ["far2", "far10"]


def test_one_name_that_fails_does_not_stop_the_others(lab: Lab) -> None:
    lab.card("gone", url=f"{lab.site.url}?gone", file="gone.pth.tar", parameters_m=9)
    lab.card("lost", url=None)
    with pytest.raises(BenchError, match="2 of 3 names failed"):
        lab.fetch("gone", "lost", "far")
    assert lab.path.read_bytes() == RIGHT
    assert "another encoder" in lab.diary and "lost is a part of the package, and missing" in lab.diary


def test_a_check_names_what_is_not_here_unless_a_wildcard_stands_for_it(lab: Lab) -> None:
    lab.refuses("far.pth.tar: the weights are not here - run `bench fetch far`", check=True)
    assert lab.fetch("f*", check=True).state == "not here"
    assert not lab.site.requests and not lab.path.parent.exists()


@pytest.mark.parametrize("name", ["random", "pixels", "random:vit_large", "pixels:16", "vjepa-nano"])
def test_encoders_without_a_file_to_fetch(name: str) -> None:
    assert fetch([name], Diary())[0].state == "nothing to fetch"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_prints_where_the_file_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "fetch", "far") == 0
    assert f"far: fetched, 1.0 MiB, {lab.path}" in capsys.readouterr().out
    assert command(monkeypatch, "fetch", "far", "--check", "--json") == 0
    told = json.loads(capsys.readouterr().out)[0]
    assert told["sha256"] == sha256(RIGHT) and told["url"] == lab.site.url and told["state"] == "already here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch", "fra"], "no encoder is called 'fra' - did you mean 'far'?"),
        (["fetch", "x*"], "no encoder is called 'x*'"),
        (["fetch", "timm:vit_base"], "no encoder is called 'timm:vit_base'"),
        (["fetch"], "Missing argument"),
        (["fetch", "far"], "the server says 404"),
    ],
)
def test_problems_are_one_line(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    lab.site.behaviours = [refusing(404)]
    assert command(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if line.startswith("bench: ")]
    assert not shown.out and len(told) == 1 and words in told[0]
