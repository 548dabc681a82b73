"""Pinning a version for the length of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from search_service.page_token import invalid_token
from search_service.store_refusals import store_refusals
from vector_store.contract import CatalogReader, VectorStore
from vector_store.errors import VersionNotFound


@asynccontextmanager
async def open_reader(
    store: VectorStore, catalog: str, version: str = "", *, paging: bool = False
) -> AsyncIterator[CatalogReader]:
    """Pin a version ('' = the published one). Raises `ServiceError`.

    With `paging` the version comes from a page token: that it is gone is then the token's fault.
    """
    with store_refusals():
        try:
            async with store.reader(catalog, version) as reader:
                yield reader
        except VersionNotFound as error:
            if paging:
                raise invalid_token() from error
            raise
