"""A key comes from the environment, reaches the server, and is found nowhere else."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest
import trustme

from joulemap.errors import EnvironmentLacksError, ServerError, UsageError
from joulemap.measure.load.failure import ErrorKind
from joulemap.measure.load.handle import run_load, start_load
from joulemap.measure.load.probe import served_models
from joulemap.measure.load.target import API_KEY_ENV, Target
from joulemap.measure.load.wire import Wire
from joulemap.measure.mock_server import MockServerProcess
from tests.measure.load.loads import plan_of, swift, target_of

KEY = "sk-a-secret-that-nobody-may-see"


@pytest.mark.parametrize("variable", [API_KEY_ENV, "ANOTHER_KEY"])
def test_a_key_reaches_the_server_and_nothing_else(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, KEY)
    with MockServerProcess(swift(api_key_env=variable)) as server:
        target = Target(url=server.url, model="mock", api_key_env=variable)
        with start_load(plan_of(4), target, workers=1) as load:
            arguments = Path(f"/proc/{load.pids[0]}/cmdline")
            if arguments.exists():
                assert KEY.encode() not in arguments.read_bytes()
            result = load.result()
    assert result.requests["error"].null_count() == 4
    result.requests.write_parquet(tmp_path / "requests.parquet", compression="uncompressed")
    for shown in (repr(target), repr(result), str(result.samples), str(Wire(target))):
        assert KEY not in shown
    for kept in (pickle.dumps(target), (tmp_path / "requests.parquet").read_bytes()):
        assert KEY.encode() not in kept


def test_without_the_key_the_server_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERS_OWN", KEY)
    monkeypatch.delenv(API_KEY_ENV, raising=False)
    with MockServerProcess(swift(api_key_env="SERVERS_OWN")) as server:
        result = asyncio.run(run_load(plan_of(2), target_of(server.url)))
    assert set(result.requests["error"]) == {ErrorKind.CLIENT_ERROR}
    assert "HTTP 401" in result.requests["error_detail"][0]


def test_a_server_that_repeats_the_key_does_not_betray_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert KEY.encode() in head
        body = b'{"error": {"message": "Incorrect API key provided: ' + KEY.encode() + b'"}}'
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async def against_it() -> str:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        result = await run_load(plan_of(1), target_of(f"http://127.0.0.1:{port}"))
        server.close()
        return str(result.requests["error_detail"][0])

    monkeypatch.setenv(API_KEY_ENV, KEY)
    assert asyncio.run(against_it()) == "HTTP 401: Incorrect API key provided: [key]"


@pytest.mark.parametrize("url", [f"http://user:{KEY}@host:8000", f"https://host/v1?key={KEY}"])
def test_a_url_with_credentials_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target(url=url, model="m")
    assert KEY not in str(caught.value)
    assert API_KEY_ENV in str(caught.value)


def test_a_key_that_no_header_can_hold_is_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(API_KEY_ENV, f"{KEY}\r\nX-Evil: 1")
    with pytest.raises(EnvironmentLacksError) as caught:
        Wire(Target(url="http://host", model="m"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the address of a server"):
        Target(url=url, model="m")


def test_https_with_a_trusted_and_an_untrusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, ca = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    with MockServerProcess(swift(), tls=(chain, key)) as server:
        trusting = Target(url=server.url, model="mock", ca_file=str(ca))
        good = asyncio.run(run_load(plan_of(4), trusting))
        bad = asyncio.run(run_load(plan_of(2), target_of(server.url)))
        assert served_models(trusting) == ("mock",)
        with pytest.raises(ServerError, match=r"is not trusted: .*certificate"):
            served_models(target_of(server.url))
        with monkeypatch.context() as context:
            context.setenv("SSL_CERT_FILE", str(ca))  # what the error advises
            assert served_models(target_of(server.url)) == ("mock",)
    assert good.requests["error"].null_count() == 4
    assert set(bad.requests["error"]) == {ErrorKind.TLS}
    assert "certificate" in bad.requests["error_detail"][0]
