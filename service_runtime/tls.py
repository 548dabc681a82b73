"""TLS of a server: its certificate, mutual TLS, and certificates that are replaced while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from cir.channel import TlsFiles
from service_runtime.errors import StartupError
from service_runtime.settings import ServiceSettings
from service_runtime.watched_files import WatchedFiles, read_bytes

_PASSWORD_TRIED = "\0"  # noqa: S105  # no password: it keeps OpenSSL from asking for one on the terminal


@dataclass(frozen=True, slots=True)
class TlsServerFiles:
    """PEM files: certificate (with its chain) and key, and for mutual TLS the authority of the clients."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of the files."""
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read and check the files.

        Raises:
            StartupError: a file that cannot be used; the message names its setting.
        """
        certificate = read_bytes("tls_certificate", self.certificate)
        key = read_bytes("tls_key", self.key)
        client_ca = read_bytes("tls_client_ca", self.client_ca) if self.client_ca else None
        check_pair(("tls_certificate", self.certificate), ("tls_key", self.key))
        if self.client_ca is not None:
            check_authority("tls_client_ca", self.client_ca)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)


def check_authority(setting: str, path: Path) -> None:
    """Raise `StartupError` unless the file that a setting names holds PEM certificates."""
    read_bytes(setting, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise StartupError(f"{setting} {path} holds no PEM certificate that can be read") from error


def check_pair(certificate: tuple[str, Path], key: tuple[str, Path]) -> None:
    """Raise `StartupError` unless key and certificate, each with its setting's name, belong together.

    gRPC would only say so by failing every handshake.
    """
    check_authority(*certificate)
    read_bytes(*key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate[1], key[1], password=_PASSWORD_TRIED
        )
    except (OSError, ValueError) as error:
        raise StartupError(
            f"{key[0]} {key[1]} is not the private key of {certificate[0]} {certificate[1]}, as PEM without "
            "a password"
        ) from error


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """Return credentials that follow the files of the settings, None where TLS is off.

    Raises:
        StartupError: settings that are incomplete, or files that cannot be used.
    """
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None and key is None:
        if client_ca is not None:
            raise StartupError("tls_client_ca is set without TLS; set tls_certificate and tls_key as well")
        return None
    if certificate is None or key is None:
        given, missing = ("tls_key", "tls_certificate") if key else ("tls_certificate", "tls_key")
        raise StartupError(f"{given} is set without {missing}; TLS needs both")
    files = TlsServerFiles(certificate, key, client_ca)
    watched = WatchedFiles("TLS certificates", files.paths, files.read)
    used = [watched.current()]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return a changed configuration, None for the same as before. gRPC calls it on its own thread."""
        newest = watched.current()
        if newest is used[0]:
            return None
        used[0] = newest
        return newest

    return grpc.dynamic_ssl_server_credentials(
        used[0],
        fetch,  # type: ignore[arg-type]  # None is documented
        client_ca is not None,
    )


def local_tls_files(settings: ServiceSettings) -> TlsFiles | None:
    """Return what a client on the same machine needs to reach a service, None without TLS.

    The service's certificate is itself what is trusted, no matter who issued it.
    """
    certificate = settings.tls_certificate
    if certificate is None or settings.tls_client_ca is None:
        return TlsFiles(certificate) if certificate else None
    return TlsFiles(certificate, certificate, settings.tls_key)
