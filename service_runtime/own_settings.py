"""What a service will find in this environment, and how it is reached over TLS from its own machine."""

from __future__ import annotations

from importlib import import_module

from cir.channel import TlsFiles
from service_runtime.settings import ServiceSettings


def settings_of(module: str) -> ServiceSettings:
    """The settings that the service `module` finds in this environment. Raises `StartupError`."""
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
