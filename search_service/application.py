"""The search service's parts, wired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import grpc.aio
from google.protobuf.json_format import MessageToDict
from prometheus_client import Gauge
from prometheus_client.registry import Collector

from cir.search.v1 import catalog_pb2, catalog_pb2_grpc, search_pb2, search_pb2_grpc
from search_service.catalog_servicer import CatalogServicer
from search_service.embedder_client import EmbedderClient
from search_service.search_servicer import SearchServicer, limits_message
from search_service.settings import SearchSettings
from search_service.store import to_service_error
from search_service.upstreams import CombinerClient, load_upstream_access
from service_runtime.errors import ServiceError, StartupError
from service_runtime.server import Application
from vector_store import open_store
from vector_store.base import VectorStore
from vector_store.edge import EdgeOptions
from vector_store.errors import StoreError
from vector_store.qdrant import QdrantOptions


class SearchApplication(Application):
    """Search and catalogs over one store, one embedder and one combiner service."""

    service_names = (
        search_pb2.DESCRIPTOR.services_by_name["SearchService"].full_name,
        catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name,
    )
    calls_of_a_caller = 16
    write_methods = frozenset(
        f"/cir.search.v1.CatalogService/{method}"
        for method in (
            "CreateCatalog",
            "CreateCatalogVersion",
            "ImportItems",
            "FinishCatalogVersion",
            "AbortCatalogVersion",
            "AddCatalogFields",
            "PublishCatalogVersion",
            "RollbackCatalog",
            "DeleteCatalogVersion",
            "DeleteCatalog",
            "BatchUpsertItems",
            "BatchUpdateItems",
            "BatchDeleteItems",
        )
    )

    def __init__(self, settings: SearchSettings) -> None:
        """Opens nothing yet but the store's handle.

        Raises:
            StartupError: a store URL that cannot be, and TLS files that cannot be used.
        """
        self._settings = settings
        self._upstream = load_upstream_access(settings)
        self._damaged = Gauge(
            "cir_search_damaged",
            "1 for a catalog of which a version was refused because its files are damaged.",
            ["catalog"],
            registry=None,
        )
        try:
            self._store: VectorStore = open_store(
                settings.store,
                api_key=settings.store_api_key.get_secret_value(),
                timeout_s=settings.store_timeout_seconds,
                ca_file=settings.store_ca_file,
                options=(
                    QdrantOptions(publish_timeout_s=settings.store_publish_timeout_seconds),
                    EdgeOptions(
                        min_free_bytes=settings.store_min_free_bytes,
                        index_above_items=settings.store_index_above_items,
                        verify_open_s=settings.store_verify_open_seconds,
                        verify_bytes_per_s=settings.store_verify_bytes_per_second,
                        on_damage=self._show_damage,
                    ),
                ),
                quantize_above_bytes=settings.store_quantize_above_bytes,
            )
        except (StoreError, ValueError) as error:
            raise StartupError(f"store {settings.store}: {error}") from error
        self._channels: list[grpc.aio.Channel] = []
        self._catalogs: CatalogServicer | None = None
        self._search: SearchServicer | None = None

    def register(self, server: grpc.aio.Server) -> None:
        """Add both servicers."""
        settings = self._settings
        self._channels = [self._upstream.open(settings.embedder), self._upstream.open(settings.combiner)]
        embedder = EmbedderClient(self._channels[0], settings.embedder, self._upstream.metadata)
        combiner = CombinerClient(self._channels[1], settings.combiner, self._upstream.metadata)
        search = SearchServicer(self._store, embedder, combiner, settings)
        self._search = search
        self._metrics = search.metrics
        search_pb2_grpc.add_SearchServiceServicer_to_server(search, server)
        self._catalogs = CatalogServicer(self._store, embedder, settings)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self._catalogs, server)

    async def start(self) -> Mapping[str, object]:
        """Reach the store. Embedder and combiner may come later: a call that needs them says so."""
        try:
            store = await self._store.check()
        except StoreError as error:
            raise StartupError(f"store {self._settings.store}: {error}") from error
        return {
            "store": dict(store),
            "embedder": self._settings.embedder,
            "combiner": self._settings.combiner,
            "limits": MessageToDict(limits_message(self._settings), preserving_proto_field_name=True),
        }

    async def drain(self) -> None:
        """End imports, which are resumed elsewhere."""
        if self._catalogs is not None:
            await self._catalogs.drain()

    async def close(self) -> None:
        """Close the channels and the store."""
        if self._catalogs is not None:
            await self._catalogs.close()
        if self._search is not None:
            await self._search.close()
        for channel in self._channels:
            await channel.close()
        await self._store.close()

    def translate(self, error: Exception) -> ServiceError | None:
        """Return the refusal that an error of the store stands for."""
        return to_service_error(error) if isinstance(error, StoreError) else None

    def collectors(self) -> Sequence[Collector]:
        """Metrics of searches and of the store."""
        return (*self._metrics.collectors(), self._damaged)

    def _show_damage(self, catalog: str, damaged: bool) -> None:
        if damaged:
            self._damaged.labels(catalog).set(1)
        else:
            with suppress(KeyError):
                self._damaged.remove(catalog)
