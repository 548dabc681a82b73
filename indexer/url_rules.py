"""Which addresses on the web the indexer may ask. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotAllowed(ValueError):
    """An address that must not be asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class UrlRules:
    """`hosts` are names such as "images.example.com", "*.example.com" for everything below it, or with a
    port, "localhost:8000"; without a port only the scheme's own is allowed. No hosts: nothing is.
    `private` allows addresses that are not on the public internet (loopback, local networks, link-local)."""

    hosts: tuple[str, ...] = ()
    private: bool = False

    def check_url(self, url: str) -> tuple[SplitResult, str, int]:
        """The parts of a URL, its host in lower case, and its port. Raises `NotAllowed`."""
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").rstrip(".").lower()
        except ValueError as error:
            raise NotAllowed(f"{url!r} is no URL: {error}") from None
        if parts.scheme not in _PORTS or not host:
            raise NotAllowed(f"{url!r} is no http:// or https:// URL with a host")
        if parts.username is not None or parts.password is not None:
            raise NotAllowed(f"the URL for host {host} carries a user name; leave it out")
        if not url.isascii() or any(character.isspace() for character in url) or not url.isprintable():
            raise NotAllowed(f"{url!r} has characters that a URL must write as %XX")
        port = _PORTS[parts.scheme] if port is None else port
        if not any(self._matches(rule, parts.scheme, host, port) for rule in self.hosts):
            raise NotAllowed(
                f"host {host} with port {port} is not allowed; allow it with --allow-host (allowed are: "
                f"{', '.join(self.hosts) or 'none'})"
            )
        return parts, host, port

    def check_address(self, host: str, text: str) -> None:
        """Raise `NotAllowed` for an IP address outside the public internet, unless these are allowed."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if not self.private and not all(_is_public(one) for one in _meant(address)):
            raise NotAllowed(
                f"host {host} has the address {text}, which is not on the public internet; "
                "--allow-private-hosts allows that"
            )

    @staticmethod
    def _matches(rule: str, scheme: str, host: str, port: int) -> bool:
        name, separator, rule_port = rule.lower().rpartition(":")
        if not separator:
            name, rule_port = rule_port, str(_PORTS[scheme])
        if str(port) != rule_port:
            return False
        return host == name or (name.startswith("*.") and host.endswith(name[1:]))


def _is_public(address: _Address) -> bool:
    return address.is_global and not address.is_multicast


def _meant(address: _Address) -> list[_Address]:
    """The address and the IPv4 addresses that it is translated to on the way."""
    meant: list[_Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        meant += [embedded for embedded in (address.sixtofour,) if embedded is not None]
        meant += list(address.teredo or ())
        if address in ipaddress.ip_network("64:ff9b::/96"):
            meant.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return meant
