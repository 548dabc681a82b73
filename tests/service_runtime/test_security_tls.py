"""Clients that TLS keeps out: each is refused, none does harm, and a good client is served afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cir.client import Client
from cir.errors import Unavailable
from service_runtime.server import serving
from tests.service_runtime.certificates import Authority, Pair
from tests.service_runtime.probe import Probe, channel, combine, good_call, is_alive, settings

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@dataclass
class Served:
    """A running service with TLS, and what its clients may have."""

    application: Probe
    address: str
    authority: Authority
    client: Pair | None = None

    async def keeps_out(self, credentials: grpc.ChannelCredentials | None) -> str:
        """Refuse the client, run nothing for it, and serve the next; answers what the client is told."""
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


async def test_a_client_that_trusts_another_authority_does_not_connect(tls: Served, tmp_path: Path) -> None:
    assert "handshake failed" in await tls.keeps_out(Authority(tmp_path, "wrong").credentials())


async def test_plaintext_is_not_taken_for_tls(tls: Served) -> None:
    await tls.keeps_out(None)


async def test_our_clients_say_what_plaintext_to_tls_may_be(tls: Served) -> None:
    with Client(tls.address, timeout=2) as client, pytest.raises(Unavailable, match="use TLS if it does"):
        await asyncio.to_thread(client.info)


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


async def test_an_expired_certificate_is_not_accepted_by_our_clients(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("server", not_after=YESTERDAY)
    async with serving(Probe(), settings(tls_certificate=pair.certificate, tls_key=pair.key)) as address:
        with Client(address, tls=authority.client(), timeout=2) as client:
            with pytest.raises(Unavailable, match=f"no TLS connection to {address}") as raised:
                await asyncio.to_thread(client.info)
            assert "CERTIFICATE_VERIFY_FAILED" in raised.value.message


async def test_mutual_tls_wants_a_client_certificate(mutual: Served) -> None:
    await mutual.keeps_out(mutual.authority.credentials())


async def test_mutual_tls_wants_one_of_its_own_authority(mutual: Served, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client")
    await mutual.keeps_out(mutual.authority.credentials(stranger))


async def test_mutual_tls_wants_one_that_has_not_expired(mutual: Served) -> None:
    await mutual.keeps_out(mutual.authority.credentials(mutual.authority.issue("old", not_after=YESTERDAY)))


async def test_mutual_tls_keeps_plaintext_out(mutual: Served) -> None:
    await mutual.keeps_out(None)
