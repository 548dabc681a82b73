"""What an operator is warned of when a service can be reached from other machines."""

from __future__ import annotations

import ipaddress

from service_runtime.settings import ServiceSettings


def warnings(settings: ServiceSettings) -> list[str]:
    """A line for each protection that is off while the service listens beyond this machine."""
    if is_loopback(settings.host):
        return []
    lines = []
    if settings.tls_certificate is None:
        lines.append(
            f"listening on {settings.host} without TLS: calls and keys can be read on the way; set "
            "tls_certificate and tls_key, or leave TLS to a proxy in front"
        )
    keys = settings.api_keys_file is not None or bool(settings.api_keys.get_secret_value())
    if not keys and settings.tls_client_ca is None:
        lines.append(
            f"listening on {settings.host} without API keys or client certificates: whoever reaches the port "
            "may call; set api_keys_file or tls_client_ca, or keep others from the port"
        )
    return lines


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
