"""Hosts, ports and addresses: one parser for every setting, option and URL that names one.

A host is a name or an IP address and has two forms: bare, as the functions of sockets take it ("::1"), and
bracketed where a port or a path follows ("[::1]"). All spellings of one place are parsed to the same value:
"::1", "[::1]" and "0:0:0:0:0:0:0:1"; "name:1", "dns:name:1" and "dns:///name:1"; "unix:/run/cir.sock" and
"unix:///run/cir.sock".
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from cir.errors import InvalidArgument

# Of the socket's path in the operating system, with its closing zero.
_LONGEST_SOCKET_PATH = 107
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_UNIX = ("unix", "unix-abstract")
# Known to gRPC beyond those that are parsed here.
_GRPC_SCHEMES = ("xds", "vsock", "google-c2p")
_SCHEMES = frozenset({"dns", "ipv4", "ipv6", *_UNIX, *_GRPC_SCHEMES})
# Where gRPC goes with a name that it is to look up and that has no port.
_DNS_PORT = 443


@dataclass(frozen=True, slots=True)
class Host:
    """A name or an IP address, `bare`: in lower case, without brackets, IPv6 in its shortest form."""

    bare: str

    def __str__(self) -> str:
        """Return the form that a port or a path may follow."""
        return f"[{self.bare}]" if ":" in self.bare else self.bare

    @property
    def is_every_interface(self) -> bool:
        """Return True for 0.0.0.0 and ::, which only a server can use."""
        return self.bare in ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound

    @property
    def is_loopback(self) -> bool:
        """Return True when no other machine is reached by it, or reaches it."""
        ip = _ip(self.bare)
        if ip is None:
            return self.bare == "localhost" or self.bare.endswith(".localhost")
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return (mapped or ip).is_loopback

    @property
    def is_single_label(self) -> bool:
        """Return True for a name without dots: a container, or another machine of the same network."""
        return _ip(self.bare) is None and "." not in self.bare

    @property
    def dialled(self) -> Host:
        """The place by which a client on this machine reaches what listens here."""
        return Host({"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(self.bare, self.bare))  # noqa: S104


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A Unix socket: its absolute path, or "@" and a name that is no file (Linux' abstract sockets)."""

    path: str

    def __str__(self) -> str:
        """Return the form that gRPC takes, for servers and clients."""
        return f"unix-abstract:{self.path[1:]}" if self.path.startswith("@") else f"unix:{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Return True: no other machine reaches it."""
        return True

    @property
    def dialled(self) -> UnixSocket:
        """The place by which a client on this machine reaches what listens here."""
        return self

    @property
    def bare(self) -> str:
        """The path as sockets take it."""
        return f"\0{self.path[1:]}" if self.path.startswith("@") else self.path


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port of it."""

    host: Host
    port: int

    def __str__(self) -> str:
        """Return "host:port", with brackets around IPv6."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return True when no other machine is reached by it, or reaches it."""
        return self.host.is_loopback

    @property
    def dialled(self) -> Address:
        """The place by which a client on this machine reaches what listens here."""
        return Address(self.host.dialled, self.port)

    @property
    def url(self) -> str:
        """The http:// address, for a browser on this machine."""
        return f"http://{str(self.host.dialled).replace('%', '%25')}:{self.port}"


@dataclass(frozen=True, slots=True)
class Replicas:
    """Several addresses that no name stands for, all IPv4 or all IPv6."""

    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        """Return gRPC's form, "ipv4:10.0.0.1:50050,10.0.0.2:50050"."""
        kind = "ipv6" if ":" in self.addresses[0].host.bare else "ipv4"
        return f"{kind}:{','.join(map(str, self.addresses))}"


@dataclass(frozen=True, slots=True)
class OtherTarget:
    """A target of a scheme that gRPC alone knows, such as "xds:///search", as it was given."""

    text: str

    def __str__(self) -> str:
        """Return it as it was given."""
        return self.text


Listener = Address | UnixSocket
Target = Address | UnixSocket | Replicas | OtherTarget


def parse_host(text: str) -> Host:
    """Return the host that `text` names, in any spelling, without a port.

    Raises:
        InvalidArgument: it names none.
    """
    if not text:
        raise InvalidArgument("the host is empty; for every interface write 0.0.0.0 or ::")
    name = text
    if text.lower().startswith("dns:"):
        name = text[4:].removeprefix("///")
    if name.startswith("[") or name.endswith("]"):
        if not (name.startswith("[") and name.endswith("]") and ":" in name):
            raise InvalidArgument(f"host {text!r}: brackets are for an IPv6 address alone, such as [::1]")
        name = name[1:-1]
    ip = _ip(name)
    if ip is not None:
        return Host(str(ip))
    if ":" in name:
        raise InvalidArgument(
            f"host {text!r} is no name and no IP address; leave out the port, and any http://"
        )
    return Host(_name(name, text))


def parse_listener(host: str, port: int) -> Listener:
    """Return where a server listens, from its settings. A Unix socket as `host` has no port: it is ignored.

    Raises:
        InvalidArgument: `host` names no host and no socket, or `port` is none (0: a free one).
    """
    if _scheme(host) in _UNIX:
        return _unix_socket(host)
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"port {port} is not from 0 to 65535")
    return Address(parse_host(host), port)


def parse_address(text: str, *, default_port: int = 0) -> Address:
    """Return the host and port that `text` names; without a port `default_port`, where that is not 0.

    Raises:
        InvalidArgument: it names no place that can be called.
    """
    name = text
    if _scheme(text) == "dns":
        name = text[4:].removeprefix("///")
        default_port = default_port or _DNS_PORT
    if "://" in name:
        # Shown on one line, whatever it is.
        shown = repr(name.partition("://")[0])[1:-1]
        raise InvalidArgument(f"address {text!r}: expected host:port, without {shown}://")
    bracketed = re.fullmatch(r"(\[[^\]]*\])(?::(.*))?", name, re.DOTALL)
    host, colon, port = name.partition(":")
    if bracketed:
        host, port = bracketed[1], bracketed[2] or ""
        colon = ":" if bracketed[2] is not None else ""
    elif ":" in port:
        raise InvalidArgument(
            f"address {text!r}: expected host:port, with an IPv6 address in brackets, such as [::1]:50050"
        )
    if not colon and default_port:
        return Address(parse_host(host), default_port)
    if not port:
        raise InvalidArgument(f"address {text!r} names no port; expected host:port")
    if not re.fullmatch("[0-9]{1,6}", port) or not 1 <= int(port) <= 65535:
        raise InvalidArgument(f"address {text!r}: port {port[:20]!r} is not a number from 1 to 65535")
    return Address(parse_host(host), int(port))


def parse_target(text: str) -> Target:
    """Return what a client is to call: an address, a Unix socket, several replicas, or a scheme of gRPC's.

    Raises:
        InvalidArgument: it names nothing that can be called.
    """
    scheme = _scheme(text)
    if scheme in _UNIX:
        return _unix_socket(text)
    if scheme in ("ipv4", "ipv6"):
        return _replicas(scheme, text)
    if scheme in _GRPC_SCHEMES or (scheme == "dns" and re.match("//[^/]", text[4:])):
        return OtherTarget(text)
    return parse_address(text)


def _scheme(text: str) -> str:
    return text.partition(":")[0].lower() if ":" in text else ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    address, percent, zone = text.partition("%")
    if percent:
        # As URLs write the zone of a link-local address, "%25eth0".
        zone = zone[2:] if zone.startswith("25") and len(zone) > 2 else zone
        if not re.fullmatch("[A-Za-z0-9_.-]+", zone) or ":" not in address:
            return None
    try:
        return ipaddress.ip_address(f"{address}%{zone}" if percent else address)
    except ValueError:
        return None


def _name(name: str, text: str) -> str:
    """Return a host name as resolvers take it: lower case, and ASCII where it is not (IDNA)."""
    problem = f"host {text!r} is no name and no IP address"
    try:
        ascii_name = name.lower() if name.isascii() else name.encode("idna").decode().lower()
    except UnicodeError:
        raise InvalidArgument(problem) from None
    if ascii_name in _SCHEMES:
        # With a port behind it, it would be read as something else.
        raise InvalidArgument(f"{problem}, but a scheme; a host of that name is written {ascii_name}.")
    labels = ascii_name.removesuffix(".").split(".")
    if len(ascii_name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidArgument(problem)
    if labels[-1].isdigit():
        raise InvalidArgument(f"{problem}; an IPv4 address has four numbers from 0 to 255, such as 127.0.0.1")
    return ascii_name.removesuffix(".") if labels[-1] == "localhost" else ascii_name


def _unix_socket(text: str) -> UnixSocket:
    scheme, _, path = text.partition(":")
    if scheme.lower() == "unix-abstract":
        path = f"@{path}"
    if path.startswith("//"):
        if not path.startswith("///"):
            raise InvalidArgument(f"socket {text!r}: expected unix:/absolute/path or unix:relative/path")
        path = path[2:]
    if path in ("", "@"):
        raise InvalidArgument(f"socket {text!r} names no path")
    if re.search("[%?#,]", path) or not path.isprintable():
        # Servers and clients of gRPC read these in different ways.
        raise InvalidArgument(
            f"socket {text!r}: its path may have no %, ?, # or comma, and no control characters"
        )
    absolute = path if path.startswith("@") else os.path.abspath(path)
    if len(absolute.encode()) > _LONGEST_SOCKET_PATH:
        raise InvalidArgument(
            f"socket {text!r}: the path {absolute} has more than the {_LONGEST_SOCKET_PATH} bytes that the "
            "path of a socket may have"
        )
    return UnixSocket(absolute)


def _replicas(scheme: str, text: str) -> Address | Replicas:
    found = [parse_address(unquote(each.strip())) for each in text.partition(":")[2].split(",")]
    version = int(scheme[-1])
    for each in found:
        ip = _ip(each.host.bare)
        if ip is None or ip.version != version:
            raise InvalidArgument(f"address {text!r}: {each} is no {scheme.replace('ip', 'IP')} address")
    return found[0] if len(found) == 1 else Replicas(tuple(found))
