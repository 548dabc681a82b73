"""Pages (AIP-158): their sizes, and tokens that are opaque to callers and bound to a query and a version."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page starts: `cursor` is a count for rankings, the store's own for listings."""

    version: str
    cursor: str

    def encode(self, digest: bytes) -> str:
        """The token for the query with this digest."""
        body = json.dumps([self.version, self.cursor], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(digest + body).decode()

    @property
    def offset(self) -> int:
        """The cursor as a count. Raises `ServiceError` (PAGE_TOKEN_INVALID) if it is none."""
        if not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 10):
            raise invalid_page_token()
        return int(self.cursor)


def decode_page_token(token: str, digest: bytes) -> PageToken:
    """Read a token. Raises `ServiceError` (PAGE_TOKEN_INVALID) when damaged or of another query."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        version, cursor = json.loads(raw[_DIGEST_BYTES:])
    except (ValueError, binascii.Error, TypeError, RecursionError) as error:
        raise invalid_page_token() from error
    if raw[:_DIGEST_BYTES] != digest or not (isinstance(version, str) and isinstance(cursor, str)):
        raise invalid_page_token()
    return PageToken(version, cursor)


def request_digest(request: Message, *ignored: str) -> bytes:
    """Digest of a request without the fields that may differ from page to page."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in ignored:
        copy.ClearField(name)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()[:_DIGEST_BYTES]


def invalid_page_token() -> ServiceError:
    """The refusal of a token that cannot be used."""
    return ServiceError(
        pb.PAGE_TOKEN_INVALID,
        "page_token is damaged, of another query, or of a version that is gone; start again without it",
        field="page_token",
    )


DEFAULT_PAGE = 100
MAX_PAGE = 1000

_T = TypeVar("_T")


def page_size(asked: int, *, field: str = "page_size", default: int = DEFAULT_PAGE) -> int:
    """The size of a page: 0 means the default, more than 1000 is cut. Raises `ServiceError` if negative."""
    if asked < 0:
        raise ServiceError(errors.OUT_OF_RANGE, f"{field} is {asked}; it cannot be negative", field=field)
    return min(asked or default, MAX_PAGE)


def slice_page(entries: Sequence[_T], *, size: int, token: str, digest: bytes) -> tuple[Sequence[_T], str]:
    """The page that `token` points at, and the next token ('' on the last page)."""
    start = decode_page_token(token, digest).offset if token else 0
    end = start + size
    following = PageToken("", str(end)).encode(digest) if end < len(entries) else ""
    return entries[start:end], following
