"""Asks the service of this container for its health, as a container's HEALTHCHECK does.

    python -m service_runtime.health_check search_service

The port and the TLS files are those of the service's own settings, from the environment. Over TLS the
certificate must name localhost; with mutual TLS the service's own certificate is shown as the client's. Exit
code 0: it takes calls; 1: it does not; 2: wrong use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from cir.channel import TlsFiles
from cir.health import is_serving
from service_runtime.settings import ServiceSettings
from service_runtime.startup import StartupError

_SERVICES = {
    "embedder_service": "cir.embedder.v1.EmbedderService",
    "combiner_service": "cir.combiner.v1.CombinerService",
    "search_service": "cir.search.v1.SearchService",
}
_TIMEOUT_SECONDS = 3.0


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    if len(arguments) != 1 or arguments[0] not in _SERVICES:
        print(f"expected one of {', '.join(_SERVICES)}", file=sys.stderr)
        return 2
    module = arguments[0]
    try:
        settings = settings_of(module)
    except StartupError as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 1
    address = f"localhost:{settings.port}"
    serving = is_serving(address, _SERVICES[module], timeout=_TIMEOUT_SECONDS, tls=tls_of(settings))
    if not serving:
        print(f"{module} at {address} does not take calls", file=sys.stderr)
    return 0 if serving else 1


def settings_of(module: str) -> ServiceSettings:
    """The settings that a service finds in this environment. Raises `StartupError`."""
    names = vars(import_module(f"{module}.settings")).values()
    own = next(
        each
        for each in names
        if isinstance(each, type) and issubclass(each, ServiceSettings) and each is not ServiceSettings
    )
    return own.load([])


def tls_of(settings: ServiceSettings) -> TlsFiles | None:
    """What reaches a service from its own machine; None without TLS.

    The service's certificate is itself what is trusted, whoever issued it.
    """
    certificate = settings.tls_certificate
    if certificate is None or settings.tls_client_ca is None:
        return TlsFiles(certificate) if certificate else None
    return TlsFiles(certificate, certificate, settings.tls_key)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
