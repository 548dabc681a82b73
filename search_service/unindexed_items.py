"""How many items no index holds: asked of the store now and then, told with answers and in metrics."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from prometheus_client import Gauge

from vector_store.catalogs import VersionState
from vector_store.contract import CatalogReader
from vector_store.errors import StoreError

FRESH_SECONDS = 5.0
# Of the catalogs and versions searched last; more would make metrics and memory grow with tenants.
_MOST = 100


class UnindexedItems:
    """The counts of the versions searched last, each at most `FRESH_SECONDS` old when it is told."""

    def __init__(self, gauge: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        """`gauge` has the label catalog and shows published versions."""
        self._gauge = gauge
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, int | None]] = OrderedDict()
        self._shown: OrderedDict[str, None] = OrderedDict()

    async def of(self, reader: CatalogReader) -> int | None:
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
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def _show(self, catalog: str, count: int) -> None:
        self._gauge.labels(catalog).set(count)
        self._shown[catalog] = None
        self._shown.move_to_end(catalog)
        if len(self._shown) > _MOST:
            self._gauge.remove(self._shown.popitem(last=False)[0])
