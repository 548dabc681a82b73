"""TLS: faulty settings are reported before the port opens, and changed files are used.

Clients that TLS keeps out are refused, do no harm, and a good client is served afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from cir.client import Client
from cir.errors import Unavailable
from service_runtime.errors import StartupError
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.tls import server_credentials
from tests.service_runtime.certificates import Authority, Pair
from tests.service_runtime.probe import Probe, channel, combine, good_call, is_alive, settings


def test_without_settings_there_is_no_tls() -> None:
    assert server_credentials(ServiceSettings()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_key": None}, "tls_certificate is set without tls_key"),
        ({"tls_certificate": None}, "tls_key is set without tls_certificate"),
        (
            {"tls_certificate": None, "tls_key": None, "tls_client_ca": "ca"},
            "tls_client_ca is set without TLS",
        ),
        ({"tls_certificate": "none"}, r"tls_certificate \S*none cannot be read: No such file"),
        ({"tls_key": "none"}, r"tls_key \S*none cannot be read: No such file"),
        ({"tls_key": "folder"}, r"tls_key \S*folder cannot be read: Is a directory"),
        ({"tls_certificate": "text"}, r"tls_certificate \S*text holds no PEM certificate"),
        ({"tls_key": "other key"}, r"tls_key \S*other.key is not the private key of tls_certificate"),
        ({"tls_key": "text"}, r"tls_key \S*text is not the private key of tls_certificate"),
        ({"tls_key": "locked"}, r"tls_key \S*locked is not the private key .* without a password"),
        ({"tls_client_ca": "text"}, r"tls_client_ca \S*text holds no PEM certificate"),
    ],
)
def test_what_cannot_work_is_reported_in_one_line(
    tmp_path: Path, change: dict[str, str | None], words: str
) -> None:
    authority = Authority(tmp_path, "ca")
    pair, other = authority.issue("server"), authority.issue("other")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a certificate")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    (tmp_path / "locked").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    files = {
        "ca": authority.file,
        "other key": other.key,
        **{name: tmp_path / name for name in ("none", "folder", "text", "locked")},
    }
    values: dict[str, Any] = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    values |= {name: files[value] if value else None for name, value in change.items()}
    with pytest.raises(StartupError, match=words) as raised:
        server_credentials(ServiceSettings(**values))
    assert "\n" not in str(raised.value)


@pytest.mark.service
async def test_a_replaced_certificate_is_used_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_runtime.watched_files.CHECK_SECONDS", 0)
    before, after = Authority(tmp_path, "before"), Authority(tmp_path, "after")
    pair = before.issue("server")
    values = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    async with serving(Probe(), settings(**values)) as address:
        assert await good_call(address, before.credentials()) == "nobody"
        # Half of the change: the new certificate with the old key.
        replacement = after.issue("server")
        with capture_logs() as logs:
            pair.certificate.write_bytes(replacement.certificate.read_bytes())
            assert await good_call(address, before.credentials()) == "nobody"
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
            "changed files not used"
        ]
        pair.key.write_bytes(replacement.key.read_bytes())
        assert await good_call(address, after.credentials()) == "nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await good_call(address, before.credentials())


@pytest.mark.service
async def test_a_replaced_authority_of_clients_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_runtime.watched_files.CHECK_SECONDS", 0)
    servers, before, after = (Authority(tmp_path, name) for name in ("servers", "before", "after"))
    pair = servers.issue("server")
    clients = tmp_path / "clients.pem"
    clients.write_bytes(before.file.read_bytes())
    values = {"tls_certificate": pair.certificate, "tls_key": pair.key, "tls_client_ca": clients}

    def credentials(authority: Authority) -> grpc.ChannelCredentials:
        own = authority.issue("client")
        return grpc.ssl_channel_credentials(
            servers.file.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()
        )

    async with serving(Probe(), settings(**values)) as address:
        assert await good_call(address, credentials(before)) == "nobody"
        clients.write_bytes(after.file.read_bytes())
        assert await good_call(address, credentials(after)) == "nobody"
        with pytest.raises(grpc.aio.AioRpcError):
            await good_call(address, credentials(before))


YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@dataclass
class Served:
    """A running service with TLS, and what its clients may have."""

    application: Probe
    address: str
    authority: Authority
    client: Pair | None = None

    async def keeps_out(self, credentials: grpc.ChannelCredentials | None) -> str:
        """Refuse the client, run nothing for it, and serve the next; return the text that the client gets."""
        calls = self.application.calls
        async with channel(self.address, credentials) as on:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await combine(on)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert self.application.calls == calls
        good = self.authority.credentials(self.client)
        assert await good_call(self.address, good) == "nobody"
        assert await is_alive(self.address, good)
        return raised.value.details() or ""


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[Served]:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("server")
    application = Probe()
    values = settings(tls_certificate=pair.certificate, tls_key=pair.key)
    async with serving(application, values) as address:
        yield Served(application, address, authority)


@pytest.fixture
async def mutual(tmp_path: Path) -> AsyncIterator[Served]:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("server")
    application = Probe()
    values = settings(tls_certificate=pair.certificate, tls_key=pair.key, tls_client_ca=authority.file)
    async with serving(application, values) as address:
        yield Served(application, address, authority, authority.issue("client"))


@pytest.mark.service
async def test_a_client_that_trusts_another_authority_does_not_connect(tls: Served, tmp_path: Path) -> None:
    assert "handshake failed" in await tls.keeps_out(Authority(tmp_path, "wrong").credentials())


@pytest.mark.service
async def test_plaintext_is_not_taken_for_tls(tls: Served) -> None:
    await tls.keeps_out(None)


@pytest.mark.service
async def test_our_clients_say_what_plaintext_to_tls_may_be(tls: Served) -> None:
    with Client(tls.address, timeout=2) as client, pytest.raises(Unavailable, match="use TLS if it does"):
        await asyncio.to_thread(client.info)


@pytest.mark.service
async def test_bytes_that_are_no_tls_end_the_connection_alone(tls: Served) -> None:
    host, port = tls.address.split(":")
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"\xff" * 65535):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        # Either end may come first: the close, or the reset that answers what was not read.
        with suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert await good_call(tls.address, tls.authority.credentials()) == "nobody"


@pytest.mark.service
async def test_an_expired_certificate_is_not_accepted_by_our_clients(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("server", not_after=YESTERDAY)
    async with serving(Probe(), settings(tls_certificate=pair.certificate, tls_key=pair.key)) as address:
        with Client(address, tls=authority.client(), timeout=2) as client:
            with pytest.raises(Unavailable, match=f"no TLS connection to {address}") as raised:
                await asyncio.to_thread(client.info)
            assert "CERTIFICATE_VERIFY_FAILED" in raised.value.message


@pytest.mark.service
async def test_mutual_tls_wants_a_client_certificate(mutual: Served) -> None:
    await mutual.keeps_out(mutual.authority.credentials())


@pytest.mark.service
async def test_mutual_tls_wants_one_of_its_own_authority(mutual: Served, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client")
    await mutual.keeps_out(mutual.authority.credentials(stranger))


@pytest.mark.service
async def test_mutual_tls_wants_one_that_has_not_expired(mutual: Served) -> None:
    await mutual.keeps_out(mutual.authority.credentials(mutual.authority.issue("old", not_after=YESTERDAY)))


@pytest.mark.service
async def test_mutual_tls_keeps_plaintext_out(mutual: Served) -> None:
    await mutual.keeps_out(None)
