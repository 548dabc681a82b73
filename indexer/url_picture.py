"""Pictures from the web: only from allowed hosts, at checked addresses, within bounds of size and time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.util.ssl_match_hostname import CertificateError

from indexer.picture import Picture, PictureError, Seen, checked, too_large
from indexer.reasons import IMAGE_MISSING, IMAGE_TOO_MANY_BYTES, URL_FAILED, URL_NOT_ALLOWED
from indexer.retry import wait_before
from indexer.url_rules import NotAllowed, UrlRules

_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Fetching:
    """How pictures are fetched. `seconds` bounds a picture with all its attempts and redirects."""

    rules: UrlRules = field(default_factory=UrlRules)
    seconds: float = 30.0
    redirects: int = 3
    attempts: int = 4
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)


class _Later(Exception):
    """The server asks to come again; `wait` is for how long, 0 when it did not say."""

    def __init__(self, problem: str, wait: float) -> None:
        super().__init__(problem)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class UrlPicture(Picture):
    """A picture at an http:// or https:// address; fetched anew in every run, and compared by its bytes."""

    url: str
    fetching: Fetching

    def look(self) -> Seen:
        return Seen()

    def read(self, max_bytes: int) -> bytes:
        deadline = time.monotonic() + self.fetching.seconds
        attempt = 0
        while True:
            try:
                return checked(self._follow(max_bytes, deadline), max_bytes)
            except NotAllowed as error:
                raise PictureError(URL_NOT_ALLOWED, f"is not fetched: {error}") from None
            except (_Later, urllib3.exceptions.HTTPError, OSError) as error:
                attempt += 1
                wait = wait_before(attempt - 1, error.wait if isinstance(error, _Later) else 0.0)
                if attempt >= self.fetching.attempts or time.monotonic() + wait > deadline:
                    raise PictureError(
                        URL_FAILED, f"cannot be fetched ({attempt} attempts): {_said(error)}"
                    ) from error
            self.fetching.sleep(wait)

    def _follow(self, max_bytes: int, deadline: float) -> bytes:
        url = self.url
        for _ in range(self.fetching.redirects + 1):
            answer = self._ask(url, max_bytes, deadline)
            if isinstance(answer, bytes):
                return answer
            before, url = url, urljoin(url, answer)
            if _is_secure(before) and not _is_secure(url):
                raise NotAllowed(
                    f"it redirects from https:// to {url}, which anybody on the way could change"
                )
        raise PictureError(URL_FAILED, f"redirects more than {self.fetching.redirects} times")

    def _ask(self, url: str, max_bytes: int, deadline: float) -> bytes | str:
        """The bytes at a URL, or where it redirects to."""
        parts, host, port = self.fetching.rules.check_url(url)
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
            "User-Agent": "composed-image-retrieval-indexer",
            "Accept": "image/*",
            "Accept-Encoding": "identity",
        }
        with contextlib.closing(pool):
            with _certificate_told(host):
                response = pool.urlopen(
                    *("GET", path),
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
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        # All of them: a name that leads inside as well is not to be trusted.
        for address in addresses:
            self.fetching.rules.check_address(host, address)
        return addresses[0]

    def __str__(self) -> str:
        return self.url


def _content(response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float) -> bytes | str:
    status = response.status
    if status in _REDIRECTS and (location := response.headers.get("Location")):
        return location
    if status in _TRY_AGAIN:
        asked = response.headers.get("Retry-After", "")
        raise _Later(f"the server answered {status}", float(asked) if asked.isdigit() else 0.0)
    if status in (404, 410):
        raise PictureError(IMAGE_MISSING, f"does not exist: the server answered {status}")
    if status != 200:
        raise PictureError(URL_FAILED, f"cannot be fetched: the server answered {status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PictureError(URL_FAILED, "comes compressed, though that was not asked for")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large(int(length), max_bytes)
    content = bytearray()
    # What one receive brings at a time, so that a server that drips cannot hold us beyond the deadline.
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > max_bytes:
            problem = f"has more than the {max_bytes} bytes that the embedder takes"
            raise PictureError(IMAGE_TOO_MANY_BYTES, problem, len(content))
        _left(deadline)
    if length.isdigit() and len(content) < int(length):
        raise _Later(f"only {len(content)} of {length} bytes came", 0.0)
    return bytes(content)


@contextlib.contextmanager
def _certificate_told(host: str) -> Iterator[None]:
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
        raise PictureError(
            URL_FAILED, f"cannot be fetched: the certificate of {host} is refused: {problem}"
        ) from error


def _is_secure(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise PictureError(URL_FAILED, "takes longer than the time allowed")
    return left


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
