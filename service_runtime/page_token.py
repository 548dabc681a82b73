"""Pages of lists (AIP-158): page sizes, and page tokens that are opaque and bound to what was asked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from google.protobuf.message import Message

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class PageToken:
    """Position of the next page: `cursor` is a count for rankings, the store's own text for listings.

    It is a position in `version`, the one that was created at the moment `created`, or in a list without
    versions.
    """

    version: str
    cursor: str
    created: str = ""

    def encode(self, digest: bytes) -> str:
        """Return the token for the query with this digest (see `request_digest`)."""
        members = [self.version, self.cursor, self.created]
        return encode_token(digest, json.dumps(members, separators=(",", ":")).encode())

    @classmethod
    def decode(cls, token: str, digest: bytes) -> PageToken:
        """Read a token.

        Raises:
            ServiceError: PAGE_TOKEN_INVALID when it is damaged or belongs to another query.
        """
        try:
            version, cursor, created = json.loads(decode_token(token, digest))
        except (ValueError, TypeError, RecursionError) as error:
            raise invalid_page_token() from error
        if not all(isinstance(member, str) for member in (version, cursor, created)):
            raise invalid_page_token()
        return cls(version, cursor, created)

    @property
    def offset(self) -> int:
        """The cursor as a count.

        Raises:
            ServiceError: PAGE_TOKEN_INVALID when it is not one.
        """
        if not (self.cursor.isascii() and self.cursor.isdigit() and len(self.cursor) < 10):
            raise invalid_page_token()
        return int(self.cursor)


def encode_token(binding: bytes, position: bytes) -> str:
    """Return an opaque token for a position in the list that `binding` identifies."""
    return base64.urlsafe_b64encode(binding + position).decode()


def decode_token(token: str, binding: bytes) -> bytes:
    """Return the position in a token of `encode_token`.

    Raises:
        ServiceError: PAGE_TOKEN_INVALID when the token is damaged or has another binding.
    """
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise invalid_page_token() from error
    if not content.startswith(binding):
        raise invalid_page_token()
    return content.removeprefix(binding)


def request_digest(request: Message, *free_fields: str) -> bytes:
    """Return the digest (16 bytes) of a request without the fields that may differ from page to page."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in free_fields:
        copy.ClearField(name)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()[:_DIGEST_BYTES]


def check_page_size(requested: int, *, field: str = "page_size", default: int = DEFAULT_PAGE_SIZE) -> int:
    """Return the size of a page: `default` for 0, at most `MAX_PAGE_SIZE`.

    Raises:
        ServiceError: OUT_OF_RANGE, naming `field`, when it is negative.
    """
    if requested < 0:
        raise ServiceError(
            pb.OUT_OF_RANGE,
            f"{field} is {requested}; send 1 to {MAX_PAGE_SIZE}, or 0 for {default}",
            field=field,
        )
    return min(requested or default, MAX_PAGE_SIZE)


def invalid_page_token() -> ServiceError:
    """Return the refusal of a token that cannot be used."""
    return ServiceError(
        pb.PAGE_TOKEN_INVALID,
        "page_token is damaged, of another query, or of a version that is gone; start again without it",
        field="page_token",
    )
