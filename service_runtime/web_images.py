"""Images from the web: only from allowed hosts, at checked addresses, within bounds of size and time."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.util.ssl_match_hostname import CertificateError

from cir.address import Address, parse_address, parse_host
from cir.errors import InvalidArgument
from cir.retry import wait_before

_PORTS = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlNotAllowed(ValueError):
    """An address that must not be asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class UrlRules:
    """`hosts` are names such as "images.example.com", "*.example.com" for everything below it, or with a
    port, "localhost:8000" or "[::1]:8000"; without one only the scheme's own is allowed. No hosts: none is.
    `private` allows addresses that are not on the public internet (loopback, local networks, link-local)."""

    hosts: tuple[str, ...] = ()
    private: bool = False

    def __post_init__(self) -> None:
        """Raise `InvalidArgument` for a rule that could never allow anything."""
        for rule in self.hosts:
            _read_rule(rule, 80)

    def check_url(self, url: str) -> tuple[SplitResult, str, int]:
        """The parts of a URL, its host in lower case, and its port.

        Raises:
            UrlNotAllowed: it is no URL that may be fetched.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").rstrip(".").lower()
        except ValueError as error:
            raise UrlNotAllowed(f"{url!r} is no URL: {error}") from None
        if parts.scheme not in _PORTS or not host:
            raise UrlNotAllowed(f"{url!r} is no http:// or https:// URL with a host")
        if parts.username is not None or parts.password is not None:
            raise UrlNotAllowed(f"the URL for host {host} carries a user name; leave it out")
        if not url.isascii() or any(character.isspace() for character in url) or not url.isprintable():
            raise UrlNotAllowed(f"{url!r} has characters that a URL must write as %XX")
        port = _PORTS[parts.scheme] if port is None else port
        if not any(self._matches(rule, parts.scheme, host, port) for rule in self.hosts):
            raise UrlNotAllowed(
                f"host {host} with port {port} is not allowed; allow it with `allow_hosts` (allowed are: "
                f"{', '.join(self.hosts) or 'none'})"
            )
        return parts, host, port

    def check_address(self, host: str, text: str) -> None:
        """Raise `UrlNotAllowed` for an IP address outside the public internet, unless these are allowed."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if not self.private and not all(_is_public(one) for one in _translations(address)):
            raise UrlNotAllowed(
                f"host {host} has the address {text}, which is not on the public internet; "
                "`allow_private_hosts` allows that"
            )

    @staticmethod
    def _matches(rule: str, scheme: str, host: str, port: int) -> bool:
        below, allowed = _read_rule(rule, _PORTS[scheme])
        if port != allowed.port:
            return False
        name = allowed.host.bare.rstrip(".")
        return host.endswith(f".{name}") if below else _spelled(host) == name


def _read_rule(rule: str, default_port: int) -> tuple[bool, Address]:
    """Return whether a rule is for all below a host, and the host with the port."""
    text = rule.removeprefix("*.")
    try:
        address = Address(parse_host(text), default_port)
    except InvalidArgument:
        address = parse_address(text)
    return text != rule, address


def _spelled(host: str) -> str:
    """Return a URL's host as rules spell theirs."""
    try:
        return parse_host(host).bare
    except InvalidArgument:
        return host


def _is_public(address: _Address) -> bool:
    return address.is_global and not address.is_multicast


def _translations(address: _Address) -> list[_Address]:
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


_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})


class FetchProblem(Enum):
    """Kind of what keeps an image from being fetched."""

    NOT_ALLOWED = "not allowed"
    MISSING = "missing"
    TOO_MANY_BYTES = "too many bytes"
    FAILED = "failed"


class FetchError(Exception):
    """An image that cannot be fetched; `read` is how many of its bytes were, None where none were."""

    def __init__(self, problem: FetchProblem, message: str, read: int | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.read = read


class _RetryLater(Exception):
    """The server asks to come again; `wait` is for how long, 0 when it did not say."""

    def __init__(self, problem: str, wait: float) -> None:
        super().__init__(problem)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Fetching:
    """Bounds of fetching images. `seconds` bounds an image with all its attempts and redirects."""

    rules: UrlRules = field(default_factory=UrlRules)
    seconds: float = 30.0
    redirects: int = 3
    attempts: int = 4
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)

    def fetch(self, url: str, max_bytes: int) -> bytes:
        """Return the bytes at a URL, at most `max_bytes`.

        Raises:
            FetchError: they cannot be had.
        """
        deadline = time.monotonic() + self.seconds
        attempt = 0
        while True:
            try:
                return self._follow(url, max_bytes, deadline)
            except UrlNotAllowed as error:
                raise FetchError(FetchProblem.NOT_ALLOWED, f"is not fetched: {error}") from None
            except (_RetryLater, urllib3.exceptions.HTTPError, OSError) as error:
                attempt += 1
                wait = wait_before(attempt - 1, error.wait if isinstance(error, _RetryLater) else 0.0)
                if attempt >= self.attempts or time.monotonic() + wait > deadline:
                    raise FetchError(
                        FetchProblem.FAILED, f"cannot be fetched ({attempt} attempts): {_message_of(error)}"
                    ) from error
            self.sleep(wait)

    def _follow(self, url: str, max_bytes: int, deadline: float) -> bytes:
        for _ in range(self.redirects + 1):
            answer = self._ask(url, max_bytes, deadline)
            if isinstance(answer, bytes):
                return answer
            before = url
            try:
                url = urljoin(url, answer)
            except ValueError:
                raise FetchError(
                    FetchProblem.FAILED, f"redirects to what is no URL: {answer[:200]!r}"
                ) from None
            if _is_secure(before) and not _is_secure(url):
                raise UrlNotAllowed(
                    f"it redirects from https:// to {url}, which anybody on the way could change"
                )
        raise FetchError(FetchProblem.FAILED, f"redirects more than {self.redirects} times")

    def _ask(self, url: str, max_bytes: int, deadline: float) -> bytes | str:
        """The bytes at a URL, or where it redirects to."""
        parts, host, port = self.rules.check_url(url)
        address = self._address(host, port)
        timeout = urllib3.Timeout(total=_left(deadline))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # Connected to by the address that was checked: another look at the name might give another one.
        pool: urllib3.HTTPConnectionPool
        if parts.scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                address, port, server_hostname=host, assert_hostname=host, cert_reqs="CERT_REQUIRED"
            )
        else:
            pool = urllib3.HTTPConnectionPool(address, port)
        headers = {
            "Host": parts.netloc,
            "User-Agent": "composed-image-retrieval",
            "Accept": "image/*",
            "Accept-Encoding": "identity",
        }
        with contextlib.closing(pool):
            with _explain_certificate(host):
                response = pool.urlopen(
                    "GET",
                    path,
                    headers=headers,
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            with contextlib.closing(response):
                return _content(response, max_bytes, deadline)

    def _address(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise UrlNotAllowed(f"host {host[:80]}... is no name of a host") from None
        addresses = [str(entry[4][0]) for entry in found]
        # All of them: a name that leads inside as well is not to be trusted.
        for address in addresses:
            self.rules.check_address(host, address)
        return addresses[0]


def _content(response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes | str:
    status = response.status
    if status in _REDIRECTS and (location := response.headers.get("Location")):
        return location
    if status in _TRY_AGAIN:
        wait = _number(response.headers.get("Retry-After", "")) or 0
        raise _RetryLater(f"the server answered {status}", float(wait))
    if status in (404, 410):
        raise FetchError(FetchProblem.MISSING, f"does not exist: the server answered {status}")
    if status != 200:
        raise FetchError(FetchProblem.FAILED, f"cannot be fetched: the server answered {status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError(FetchProblem.FAILED, "comes compressed, though that was not asked for")
    length = _number(response.headers.get("Content-Length", ""))
    if length is not None and length > max_bytes:
        raise FetchError(
            FetchProblem.TOO_MANY_BYTES, f"has {length} bytes, more than the {max_bytes} that are taken"
        )
    content = bytearray()
    # What one receive brings at a time, so that a server that drips cannot hold us beyond the deadline.
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > max_bytes:
            problem = f"has more than the {max_bytes} bytes that are taken"
            raise FetchError(FetchProblem.TOO_MANY_BYTES, problem, len(content))
        _left(deadline)
    if length is not None and len(content) < length:
        raise _RetryLater(f"only {len(content)} of {length} bytes came", 0.0)
    return bytes(content)


def _number(text: str) -> int | None:
    """Return the number that a header says; None where it says none, or one that no image has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


@contextlib.contextmanager
def _explain_certificate(host: str) -> Iterator[None]:
    """A certificate that is refused now will be refused when asked again."""
    try:
        yield
    except urllib3.exceptions.SSLError as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = cause.verify_message
        elif isinstance(cause, CertificateError):
            problem = str(cause)
        else:
            raise
        raise FetchError(
            FetchProblem.FAILED, f"cannot be fetched: the certificate of {host} is refused: {problem}"
        ) from error


def _is_secure(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise FetchError(FetchProblem.FAILED, "takes longer than the time allowed")
    return left


def _message_of(error: Exception) -> str:
    return str(error) or type(error).__name__
