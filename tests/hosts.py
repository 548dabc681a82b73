"""Spellings of hosts to listen on, for tests that start servers on each."""

from __future__ import annotations

import socket
import uuid
from http.client import HTTPConnection
from pathlib import Path

import pytest

from cir.address import Address, Listener, UnixSocket


def has_ipv6() -> bool:
    """Return whether this machine has ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV4 = ("127.0.0.1", "localhost", "LOCALHOST", "dns:localhost", "0.0.0.0")
IPV6 = ("::1", "[::1]", "0:0:0:0:0:0:0:1", "::", "[::]")
UNIX = ("unix:{folder}/s.sock", "unix://{folder}/s.sock", "unix-abstract:{name}", "unix:@{name}")
HOSTS = (*IPV4, *IPV6, *UNIX)


def host_for(spelling: str, folder: Path) -> str:
    """Return a spelling that a server can have for itself; skips where the machine lacks IPv6."""
    if spelling in IPV6 and not has_ipv6():
        pytest.skip("this machine has no ::1")
    return spelling.format(folder=folder, name=f"cir-{uuid.uuid4().hex}")


def get(listener: Listener, path: str) -> tuple[int, bytes]:
    """Return status and content of a page, asked for without any proxy."""
    if isinstance(listener, Address):
        connection = HTTPConnection(listener.dialled.host.bare, listener.port, timeout=10)
    else:
        assert isinstance(listener, UnixSocket)
        connection = HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(listener.bare)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
