"""A small HTTP server for metrics: few connections at a time, of which none keeps the next one out."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

#: Connections at the same time; the oldest makes room for another one.
MAX_CONNECTIONS = 16
#: Seconds without a byte after which a connection is closed.
IDLE_SECONDS = 10.0


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # the base class's name
        """Log nothing: a line would quote the request."""


class MetricsServer(socketserver.ThreadingMixIn, WSGIServer):
    """Serves a registry, each connection on a thread of its own.

    Raises:
        OSError: the port cannot be bound.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._open: OrderedDict[int, socket.socket] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # of both families
        self.set_app(make_wsgi_app(registry))

    def server_bind(self) -> None:
        """Bind without asking DNS for the machine's name, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection; the oldest is hung up on where there are too many."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                _, oldest = self._open.popitem(last=False)
                _hang_up(oldest)
            self._open[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a connection breaks off."""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have gone by itself
        connection.shutdown(socket.SHUT_RDWR)
