"""`bench fetch hf:OWNER/NAME`, against a server that answers as Hugging Face does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import Run, assert_refused

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
