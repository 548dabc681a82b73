"""Sockets that a server listens on, as gRPC opens its own: every address of a name, both families for ::."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from cir.address import Address, Listener, UnixSocket
from service_runtime.errors import StartupError

_BACKLOG = 2048


def check_free_socket(listener: UnixSocket) -> None:
    """Raise `StartupError` when a process listens on a Unix socket already: a second would push it aside."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(listener.bare)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left by a process that was killed, or not there
        except OSError as error:
            raise StartupError(f"cannot listen on {listener}: {error.strerror}") from error
    raise StartupError(f"cannot listen on {listener}: it is in use")


def open_sockets(listener: Listener) -> list[socket.socket]:
    """Bind the sockets of a listener; all have one port, also where a free one was asked for.

    Raises:
        StartupError: the host has no address, or one of them cannot be bound.
    """
    try:
        return [_bind_unix(listener)] if isinstance(listener, UnixSocket) else _bind_all(listener)
    except OSError as error:
        raise StartupError(f"cannot listen on {listener}: {error.strerror}") from error


def bound_listener(listener: Listener, sockets: list[socket.socket]) -> Listener:
    """Return a listener with the port that its sockets have."""
    if isinstance(listener, UnixSocket):
        return listener
    return Address(listener.host, sockets[0].getsockname()[1])


def remove_socket(listener: Listener) -> None:
    """Delete the file of a Unix socket that is closed."""
    if isinstance(listener, UnixSocket) and not listener.bare.startswith("\0"):
        with suppress(OSError):
            os.unlink(listener.bare)


def _bind_unix(listener: UnixSocket) -> socket.socket:
    check_free_socket(listener)
    with suppress(FileNotFoundError, ValueError):
        if stat.S_ISSOCK(os.stat(listener.bare).st_mode):
            os.unlink(listener.bare)
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.bind(listener.bare)
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _bind_all(address: Address) -> list[socket.socket]:
    found = socket.getaddrinfo(
        address.host.bare, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            opened.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                both = address.host.is_every_interface
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
            port = place[1] or (opened[0].getsockname()[1] if len(opened) > 1 else 0)
            try:
                one.bind((place[0], port, *place[2:]))
                # Until then another process may bind it as well.
                one.listen(_BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                # Such as "localhost" with ::1 on a machine without IPv6.
                opened.remove(one)
                one.close()
                absent = error
        if not opened and absent is not None:
            raise absent
    except OSError:
        for one in opened:
            one.close()
        raise
    return opened
