"""Pages of lists that are held in memory (AIP-158). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from cir.common.v1 import errors_pb2 as errors
from search_service.page_token import PageToken, decode
from service_runtime.errors import ServiceError

DEFAULT_PAGE = 100
MAX_PAGE = 1000

_T = TypeVar("_T")


def page_size(asked: int, *, field: str = "page_size", default: int = DEFAULT_PAGE) -> int:
    """The size of a page: 0 means the default, more than 1000 is cut. Raises `ServiceError` if negative."""
    if asked < 0:
        raise ServiceError(errors.OUT_OF_RANGE, f"{field} is {asked}; it cannot be negative", field=field)
    return min(asked or default, MAX_PAGE)


def page_of(entries: Sequence[_T], *, size: int, token: str, digest: bytes) -> tuple[Sequence[_T], str]:
    """The page that `token` points at, and the next token ('' on the last page)."""
    start = decode(token, digest).offset if token else 0
    end = start + size
    following = PageToken("", str(end)).encode(digest) if end < len(entries) else ""
    return entries[start:end], following
