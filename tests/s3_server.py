"""Fixtures: a server here that speaks S3, with an empty bucket for each test; skipped without moto and s3fs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

VARIABLES = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server."""

    name: str
    system: Any
    variables: Mapping[str, str]
    """What a process needs in its environment."""

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def upload(self, folder: Path, to: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def put(self, key: str, content: bytes) -> None:
        self.system.call_s3("put_object", Bucket=self.name, Key=key, Body=content)

    def keys(self, folder: str) -> set[str]:
        self.system.invalidate_cache()
        return {name.removeprefix(f"{self.name}/{folder}/") for name in self.system.find(f"{self.name}/{folder}")}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    from s3fs import S3FileSystem

    variables = {
        **VARIABLES,
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    system = S3FileSystem()
    name = "bucket-" + "".join(c for c in tmp_path.name.lower() if c.isalnum())[-40:]
    system.call_s3("create_bucket", Bucket=name)
    yield Bucket(name, system, variables)
    S3FileSystem.clear_instance_cache()
