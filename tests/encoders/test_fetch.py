"""`bench fetch`: names to files, one after the other; what is noted of them, and what is refused and not kept."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fetch_lab import NEWER, RIGHT, Diary, Lab, sha256
from support import GOLDEN, Run, assert_refused
from web_site import Request, refusing

from bench import BenchError, load_encoder
from bench.cli.app import main
from bench.encoders.fetch import Fetched, fetch


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


def test_the_digest_of_the_first_download_is_noted_and_said(lab: Lab) -> None:
    fetched = lab.fetch()
    assert (fetched.sha256, fetched.agrees_with, fetched.size_bytes) == (sha256(RIGHT), None, len(RIGHT))
    assert lab.digest_note.read_text() == f"{sha256(RIGHT)}  far.pth.tar\n"
    assert "no digest of its authors is known" in lab.diary and "licence CC BY-NC 4.0" in lab.diary


def test_what_is_here_is_checked_and_not_fetched_again(lab: Lab) -> None:
    lab.fetch()
    for check in (False, True):
        again = lab.fetch(check=check)
        assert (again.state, again.agrees_with) == ("already here", "the first download")
    assert len(lab.site.requests) == 1


def test_a_file_brought_by_hand_is_checked_and_noted(lab: Lab) -> None:
    lab.path.parent.mkdir(parents=True)
    lab.path.write_bytes(RIGHT)
    assert lab.fetch(check=True).state == "already here" and not lab.digest_note.exists()
    assert lab.fetch().state == "already here" and lab.digest_note.exists()
    assert not lab.site.requests


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((GOLDEN / "vjepa1_probe.pth.tar").read_bytes(), "no encoder under the key"),
        ((GOLDEN / "vjepa2.pt").read_bytes(), ""),
        (b"<!doctype html><title>Sign in</title>" * 100, "not a checkpoint"),
        (b"", "the file is empty"),
        (RIGHT[:500_000], "not a readable checkpoint, or cut off"),
        (RIGHT[:500_000] + bytes([RIGHT[500_000] ^ 1]) + RIGHT[500_001:], "does not have its checksum"),
    ],
    ids=["a probe", "another family", "a web page", "nothing", "half of it", "a flipped bit"],
)
def test_other_files_are_refused_and_not_kept(lab: Lab, content: bytes, words: str) -> None:
    lab.site.content = content
    lab.refuses(f"far .*not the right file, nothing is kept: .*{words}")
    assert lab.holds_nothing()


def test_an_encoder_of_another_size_is_refused(lab: Lab) -> None:
    lab.card(parameters_m=303.9)
    lab.refuses(r"another encoder: 0\.1 M parameters for 8x64px instead of 303\.9 M")
    lab.card(resolution=384)
    lab.refuses(r"these are not the weights of far: resolution is 64 instead of 384")
    assert lab.holds_nothing()


def test_the_cards_digest_decides(lab: Lab) -> None:
    lab.card(sha256=sha256(NEWER), size_bytes=len(RIGHT))
    lab.refuses(f"its SHA-256 is {sha256(RIGHT)} instead of {sha256(NEWER)} as the card says")
    assert lab.holds_nothing()
    lab.card(sha256=sha256(RIGHT), size_bytes=len(RIGHT))
    assert lab.fetch().agrees_with == "the card" and not lab.digest_note.exists()


def test_a_later_download_is_held_to_the_first(lab: Lab) -> None:
    lab.fetch()
    lab.path.unlink()
    lab.site.content = NEWER
    error = lab.refuses("as of the first download")
    assert f"delete {lab.digest_note}" in str(error) and not lab.path.exists()
    lab.digest_note.unlink()
    assert lab.fetch().sha256 == sha256(NEWER)


@pytest.mark.parametrize("check", [False, True])
def test_a_file_that_changed_here_is_an_error(lab: Lab, check: bool) -> None:
    lab.fetch()
    lab.path.write_bytes(NEWER)
    error = lab.refuses("as of the first download - move it away and run `bench fetch far`", check=check)
    assert error.where == str(lab.path) and lab.path.read_bytes() == NEWER


def test_a_damaged_digest_note_is_named(lab: Lab) -> None:
    lab.fetch()
    lab.digest_note.write_text("what?")
    error = lab.refuses("far.pth.tar.sha256 beside it holds no SHA-256, delete that file")
    assert error.where == str(lab.path) and lab.path.read_bytes() == RIGHT
    lab.digest_note.unlink()
    assert lab.fetch().state == "already here" and lab.digest_note.exists()


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "vjepa2"}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"code",
}


class Hub(BaseHTTPRequestHandler):
    """One repository, someone/encoder."""

    asked: list[str]
    credentials: list[str | None]
    flipped: bool

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.credentials.append(self.headers.get("Authorization"))
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/someone/encoder/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": "someone/encoder", "sha": COMMIT, "siblings": siblings}).encode())
        elif self.path.startswith("/api/models/someone/encoder/tree/"):
            tree = [{"type": "file", "path": name, "size": len(FILES[name]), "oid": "a" * 40} for name in FILES]
            self.answer(json.dumps(tree).encode(), Content_Type="application/json")
        elif self.path.startswith("/someone/encoder/resolve/") and name in FILES:
            content = FILES[name]
            digest = hashlib.sha256(content).hexdigest() if name.endswith("safetensors") else "a" * 40
            sent = content[::-1] if self.flipped and name.endswith("safetensors") else content
            self.answer(sent, ETag=f'"{digest}"', X_Repo_Commit=COMMIT)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {"asked": [], "credentials": [], "flipped": False})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield handler
        server.shutdown()
        thread.join()


def test_a_repository_is_fetched_as_data_into_the_shared_cache(
    hub: type[Hub], bench_command: Run, tmp_path: Path
) -> None:
    done = bench_command("fetch", "hf:someone/encoder", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)[0]
    assert (told["state"], told["agrees_with"]) == ("fetched", "Hugging Face")
    folder = Path(told["path"])
    assert folder.is_relative_to(tmp_path / "hub")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: content for name, content in FILES.items() if name.endswith((".json", ".safetensors"))
    }
    assert not any(path.endswith((".bin", ".py")) for path in hub.asked)
    assert hub.credentials and set(hub.credentials) == {None}

    asked = len(hub.asked)
    checked = bench_command("fetch", "hf:someone/encoder", "--check")
    assert "already here" in checked.stdout and len(hub.asked) == asked


def test_weights_without_their_digest_are_refused(hub: type[Hub], bench_command: Run) -> None:
    hub.flipped = True
    assert_refused(bench_command("fetch", "hf:someone/encoder"), "not the digest", "/blobs/")


def test_repositories_that_are_not_there(hub: type[Hub], bench_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(bench_command("fetch", "hf:someone/other"), "no such repository", "someone/other")
    assert_refused(bench_command("fetch", "hf:a name"), "no repository name", "hf:OWNER/NAME")
    assert_refused(
        bench_command("fetch", "hf:someone/encoder", "--check"), "not here", "bench fetch hf:someone/encoder"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_refused(bench_command("fetch", "hf:someone/encoder"), "cannot be fetched", "hf download someone/encoder")
