"""The vector store as calls use it: pinned versions, errors as statuses, checks before publishing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import Gauge

from cir.common.v1 import errors_pb2 as errors
from cir.common.v1 import errors_pb2 as pb
from search_service.embedder_client import EmbedderClient
from search_service.paging import invalid_page_token
from service_runtime.errors import ServiceError
from vector_store import errors as store
from vector_store.base import CatalogVersion, VectorStore
from vector_store.errors import StoreError, VersionNotFoundError
from vector_store.types import VersionState

_REASONS: tuple[tuple[type[store.StoreError], pb.ErrorReason.ValueType], ...] = (
    (store.CatalogNotFoundError, pb.CATALOG_NOT_FOUND),
    (store.VersionNotFoundError, pb.VERSION_NOT_FOUND),
    (store.VersionConflictError, pb.VERSION_STATE),
    (store.FingerprintMismatchError, pb.FINGERPRINT_MISMATCH),
    (store.StoreUnavailableError, pb.STORE_UNAVAILABLE),
)


@contextmanager
def store_refusals(*, field: str = "") -> Iterator[None]:
    """Turn the store's exceptions into `ServiceError`; `field` is the request's field at fault."""
    try:
        yield
    except store.UnknownFieldError as error:
        raise ServiceError(pb.UNKNOWN_FIELD, str(error), field=field or error.field) from error
    except store.WrongFieldTypeError as error:
        raise ServiceError(pb.WRONG_FIELD_TYPE, str(error), field=field or error.field) from error
    except store.InvalidQueryError as error:
        raise ServiceError(pb.FIELD_INVALID, str(error), field=field or error.field) from error
    except store.StoreError as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                retry_after = 1.0 if reason == pb.STORE_UNAVAILABLE else None
                raise ServiceError(reason, str(error), field=field, retry_after=retry_after) from error
        raise ServiceError(pb.STORE_UNAVAILABLE, str(error), retry_after=1.0) from error


@asynccontextmanager
async def open_reader(
    store: VectorStore, catalog: str, version: str = "", *, paging: bool = False
) -> AsyncIterator[CatalogVersion]:
    """Pin a version ('' = the published one). Raises `ServiceError`.

    With `paging` the version comes from a page token: that it is gone is then the token's fault.
    """
    with store_refusals():
        try:
            async with store.open_version(catalog, version) as reader:
                yield reader
        except VersionNotFoundError as error:
            if paging:
                raise invalid_page_token() from error
            raise


_EMBEDDER_SECONDS = 2.0


async def check_embedder_model(
    store: VectorStore, embedder: EmbedderClient, catalog: str, version: str, *, timeout: float
) -> None:
    """Raise `ServiceError` (FINGERPRINT_MISMATCH) when the embedder serves another model than the version's.

    An embedder that is away proves nothing and stops nothing; nor does a version that is not there, which
    publishing itself refuses. Raises `CatalogNotFoundError`.
    """
    found = [info for info in await store.list_versions(catalog) if info.version == version]
    if not found:
        return
    try:
        model = await embedder.info(timeout=min(timeout, _EMBEDDER_SECONDS))
    except ServiceError:
        return
    expected = found[0].spec.model_fingerprint
    if model.fingerprint != expected:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"the vectors of version {version} come from model {expected}, the embedder serves model "
            f"{model.fingerprint}: texts and pictures could not be searched by. Start an embedder of the "
            "version's model, index again with the embedder's, or set allow_model_change",
            field="name",
            metadata={"expected": expected, "actual": model.fingerprint},
        )


FRESH_SECONDS = 5.0
# Of the catalogs and versions searched last; more would make metrics and memory grow with tenants.
_MOST_VERSIONS = 100


class UnindexedItems:
    """The counts of the versions searched last, each at most `FRESH_SECONDS` old when it is told."""

    def __init__(self, gauge: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        """`gauge` has the label catalog and shows published versions."""
        self._gauge = gauge
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, int | None]] = OrderedDict()
        self._shown: OrderedDict[str, None] = OrderedDict()

    async def of(self, reader: CatalogVersion) -> int | None:
        """About how many items of the reader's version no index holds; None where the store does not say."""
        info = reader.info
        key = (info.catalog, info.version)
        asked, count = self._known.get(key, (float("-inf"), None))
        if self._clock() - asked >= FRESH_SECONDS:
            # Noted first: calls that come meanwhile take the old count rather than ask as well.
            self._note(key, count)
            try:
                count = await reader.unindexed()
            except StoreError:  # an answer that was found is not lost for this
                count = None
            self._note(key, count)
        if count is not None and info.state is VersionState.PUBLISHED:
            self._show(info.catalog, count)
        return count

    def _note(self, key: tuple[str, str], count: int | None) -> None:
        self._known[key] = (self._clock(), count)
        self._known.move_to_end(key)
        if len(self._known) > _MOST_VERSIONS:
            self._known.popitem(last=False)

    def _show(self, catalog: str, count: int) -> None:
        self._gauge.labels(catalog).set(count)
        self._shown[catalog] = None
        self._shown.move_to_end(catalog)
        if len(self._shown) > _MOST_VERSIONS:
            self._gauge.remove(self._shown.popitem(last=False)[0])
