"""Free ports for services whose addresses must be known before they start."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack

from cir.failure import Failure


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on at this moment."""
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for entry in bound:
            entry.bind(("127.0.0.1", 0))
        return [entry.getsockname()[1] for entry in bound]


def resolve_ports(search: int, embedder: int | None, combiner: int | None) -> tuple[int, int, int]:
    """The three ports: 0 is replaced by a free one, None by the port after the one before.

    Raises `Failure` for ports that are the same.
    """
    spare = iter(free_ports(3))
    first = search or next(spare)
    second = (embedder or next(spare)) if embedder is not None else (first + 1 if search else next(spare))
    third = (combiner or next(spare)) if combiner is not None else (first + 2 if search else next(spare))
    if len({first, second, third}) < 3:
        raise Failure(f"search, embedder and combiner need three ports, not {first}, {second}, {third}")
    return first, second, third


def web_port(asked: int | None, taken: Sequence[int]) -> int:
    """The web demo's port: the one asked for; a free one for 0; for None 8080, or else a free one."""
    if asked:
        return asked
    if asked is None and 8080 not in taken and _is_free(8080):
        return 8080
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    try:
        check_free([f"127.0.0.1:{port}"])
    except Failure:
        return False
    return True


def check_free(addresses: Sequence[str]) -> None:
    """Raise `Failure` for an address ("host:port") that something listens on already."""
    for address in addresses:
        host, _, port = address.rpartition(":")
        with socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET) as probe:
            # Connections that were closed a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                raise Failure(
                    f"cannot listen on {address}: {error.strerror}; stop what uses it, or give other "
                    "ports with --port, --embedder-port, --combiner-port and --web-port"
                ) from error
