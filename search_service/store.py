"""The vector store as calls use it: pinned versions, errors as statuses, checks before publishing, counts.

Errors of the store leave a call's handler as they are; the application translates them in one place.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from cachetools import LRUCache
from prometheus_client import Gauge

from cir.common.v1 import errors_pb2 as errors
from search_service.embedder_client import EmbedderClient
from search_service.request import FeaturesReference
from service_runtime.errors import ServiceError
from service_runtime.page_token import PageToken, invalid_page_token
from vector_store.base import CatalogVersion, VectorStore, VersionWriter
from vector_store.errors import (
    CatalogNotFoundError,
    FingerprintMismatchError,
    InvalidQueryError,
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    UnknownFieldError,
    VersionConflictError,
    VersionNotFoundError,
    WrongFieldTypeError,
)
from vector_store.filters import Filter
from vector_store.types import VersionInfo, VersionSpec, VersionState
from vector_store.validation import check_facet_field, check_filter, check_group_field

FRESH_SECONDS = 5.0
_RETRY_SECONDS = 1.0
# Longest wait for the embedder's model before a version is published.
_EMBEDDER_SECONDS = 2.0
# Catalogs and versions whose counts are kept; more would make metrics and memory grow with tenants.
_MAX_COUNTS = 100

# Subclasses before their bases; any other error of the store means that it cannot be used.
_REASONS: tuple[tuple[type[StoreError], errors.ErrorReason.ValueType], ...] = (
    (UnknownFieldError, errors.UNKNOWN_FIELD),
    (WrongFieldTypeError, errors.WRONG_FIELD_TYPE),
    (InvalidQueryError, errors.FIELD_INVALID),
    (CatalogNotFoundError, errors.CATALOG_NOT_FOUND),
    (VersionNotFoundError, errors.VERSION_NOT_FOUND),
    (VersionConflictError, errors.VERSION_STATE),
    (FingerprintMismatchError, errors.FINGERPRINT_MISMATCH),
)


def to_service_error(error: StoreError, *, field: str = "") -> ServiceError:
    """Return the refusal that an error of the store stands for; `field` is the request's field at fault."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            if isinstance(error, InvalidQueryError):
                field = field or error.field
            return ServiceError(reason, str(error), field=field)
    # Damage does not pass by waiting.
    retry_after = None if isinstance(error, StoreDamagedError) else _RETRY_SECONDS
    return ServiceError(errors.STORE_UNAVAILABLE, str(error), field=field, retry_after=retry_after)


def write_conflict(message: str) -> ServiceError:
    """Return the refusal of what another call stands in the way of, for a moment or longer."""
    return ServiceError(errors.WRITE_CONFLICT, message, retry_after=_RETRY_SECONDS)


async def resume_version(store: VectorStore, catalog: str, version: str) -> VersionWriter:
    """Return the writer of a version that is being built.

    Raises:
        ServiceError: WRITE_CONFLICT while it has another writer.
        StoreError: The version does not exist or is finished, or the store cannot be used.
    """
    try:
        return await store.resume_version(catalog, version)
    except StoreLockedError as error:
        raise write_conflict(str(error)) from error


@asynccontextmanager
async def open_version(
    store: VectorStore,
    catalog: str,
    version: str = "",
    *,
    created: str = "",
    field: str = "parent",
) -> AsyncIterator[CatalogVersion]:
    """Pin a version ('' for the published one) for the length of a call.

    `field` is the request's field that names the catalog; a version is named by `pinned_version`, or by a
    page token, which also says when it was `created`.

    Raises:
        ServiceError: CATALOG_NOT_FOUND, VERSION_NOT_FOUND, or PAGE_TOKEN_INVALID when the version of a page
            token is gone.
        StoreError: The store cannot be used.
    """
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(store.open_version(catalog, version))
        except VersionNotFoundError as error:
            if created:
                raise invalid_page_token() from error
            raise to_service_error(error, field="pinned_version" if version else field) from error
        except CatalogNotFoundError as error:
            raise to_service_error(error, field=field) from error
        if created and created != opened.info.created.isoformat():
            raise invalid_page_token()  # a store that was set up anew has a version of that name
        yield opened


def version_token(info: VersionInfo, cursor: str) -> PageToken:
    """Return the token of a position in a version, which `open_version` knows that version by."""
    return PageToken(info.version, cursor, info.created.isoformat())


def check_filter_fits(where: Filter | None, spec: VersionSpec) -> None:
    """Check that a version's fields can be filtered so.

    Raises:
        ServiceError: UNKNOWN_FIELD, WRONG_FIELD_TYPE or FIELD_INVALID of the request's field `filter`.
    """
    try:
        check_filter(where, spec.schema)
    except InvalidQueryError as error:
        raise to_service_error(error, field="filter") from error


def check_group_fits(group_by: str, spec: VersionSpec) -> None:
    """Check that results can be grouped by a version's field, where one is named.

    Raises:
        ServiceError: UNKNOWN_FIELD or WRONG_FIELD_TYPE of the request's field `group_by`.
    """
    try:
        if group_by:
            check_group_field(group_by, spec.schema)
    except InvalidQueryError as error:
        raise to_service_error(error, field="group_by") from error


def check_facets_fit(fields: tuple[str, ...], spec: VersionSpec) -> None:
    """Check that the values of a version's fields can be counted.

    Raises:
        ServiceError: UNKNOWN_FIELD or WRONG_FIELD_TYPE of an entry of the request's field `fields`.
    """
    for index, name in enumerate(fields):
        try:
            check_facet_field(name, spec.schema)
        except InvalidQueryError as error:
            raise to_service_error(error, field=f"fields[{index}]") from error


def check_features_fit(reference: FeaturesReference, spec: VersionSpec, *, field: str) -> None:
    """Check that features come from a version's model.

    Raises:
        ServiceError: FINGERPRINT_MISMATCH or WRONG_DIMENSION of the request's `field`.
    """
    if reference.fingerprint and reference.fingerprint != spec.model_fingerprint:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"{field} come from model {reference.fingerprint[:200]}, the catalog's vectors from model "
            f"{spec.model_fingerprint}; embed the image with the catalog's model",
            field=field,
            metadata={"expected": spec.model_fingerprint, "actual": reference.fingerprint[:200]},
        )
    if len(reference.features) != spec.dimension:
        raise ServiceError(
            errors.WRONG_DIMENSION,
            f"{field}: the vectors have {len(reference.features)} values, the model has {spec.dimension}",
            field=field,
        )


async def check_embedder_model(
    store: VectorStore, embedder: EmbedderClient, catalog: str, version: str, *, timeout: float
) -> None:
    """Check that the embedder serves the model of a version that is to be published.

    An embedder that cannot be reached stops nothing; nor does a version that does not exist, which publishing
    itself refuses.

    Raises:
        ServiceError: FINGERPRINT_MISMATCH.
        StoreError: The catalog does not exist, or the store cannot be used.
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
            f"{model.fingerprint}: texts and images could not be searched by. Start an embedder of the "
            "version's model, index again with the embedder's, or set allow_model_change",
            field="name",
            metadata={"expected": expected, "actual": model.fingerprint},
        )


class UnindexedItems:
    """Counts of items that no index holds, of the versions searched last.

    Each is at most `FRESH_SECONDS` old when it is returned.
    """

    def __init__(self, gauge: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        """`gauge` has the label catalog and shows published versions."""
        self._gauge = gauge
        self._clock = clock
        self._counts: LRUCache[tuple[str, str], tuple[float, int | None]] = LRUCache(_MAX_COUNTS)
        self._shown = _ShownCatalogs(gauge)

    async def count(self, version: CatalogVersion) -> int | None:
        """Return about how many items of a version no index holds; None where the store does not say."""
        info = version.info
        key = (info.catalog, info.version)
        asked, count = self._counts.get(key, (float("-inf"), None))
        if self._clock() - asked >= FRESH_SECONDS:
            # Noted first: calls that come meanwhile take the old count rather than ask as well.
            self._counts[key] = (self._clock(), count)
            try:
                count = await version.unindexed()
            except StoreError:  # an answer that was found is not lost for this
                count = None
            self._counts[key] = (self._clock(), count)
        if count is not None and info.state is VersionState.PUBLISHED:
            self._gauge.labels(info.catalog).set(count)
            self._shown[info.catalog] = None
        return count


class _ShownCatalogs(LRUCache[str, None]):
    """Catalogs that the gauge shows; the least recently searched one loses its label."""

    def __init__(self, gauge: Gauge) -> None:
        super().__init__(_MAX_COUNTS)
        self._gauge = gauge

    def popitem(self) -> tuple[str, None]:
        """Evict a catalog."""
        catalog, shown = super().popitem()
        self._gauge.remove(catalog)
        return catalog, shown
