"""A real S3 server on loopback, and an empty bucket in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

KEY, SECRET = "AKIATESTTESTTESTTEST", "sec/ret+that-must-never-be-shown"


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of moto's S3 server in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials and address in the environment, and nowhere else."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return s3_address


@pytest.fixture
def s3_url(s3_environment: str) -> str:
    """The URL of a prefix in a fresh bucket."""
    import fsspec

    bucket = f"joulemap-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/energy/store"


@pytest.fixture
def memory_url() -> str:
    """The URL of a prefix in fsspec's memory."""
    return f"memory://joulemap-{uuid.uuid4().hex[:8]}/store"
