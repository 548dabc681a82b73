"""A DNS server on loopback that answers every A question with the addresses it is given (RFC 1035)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

_A = 1


class LoopbackDns(asyncio.DatagramProtocol):
    """Answers at once; `addresses` may change while it runs."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self.port = 0
        self.questions = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        """Remember where answers go out."""
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One question, one answer; none for other types than A."""
        self.questions += 1
        end = data.index(b"\0", 12) + 5
        kind = struct.unpack(">H", data[end - 4 : end - 2])[0]
        addresses = self.addresses if kind == _A else ()
        header = data[:2] + struct.pack(">HHHHH", 0x8580, 1, len(addresses), 0, 0)
        answers = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 0, 4) + socket.inet_aton(address)
            for address in addresses
        )
        assert self._transport is not None
        self._transport.sendto(header + data[12:end] + answers, addr)


@asynccontextmanager
async def loopback_dns(addresses: Sequence[str]) -> AsyncIterator[LoopbackDns]:
    """A server on a free port until the block ends."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: LoopbackDns(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
