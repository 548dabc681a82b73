"""Every id that the indexer admits can be read, referred to, liked and deleted through the search service."""

from __future__ import annotations

import json
from pathlib import Path

import grpc.aio
import pytest

from cir.search.v1 import catalog_pb2, catalog_pb2_grpc, search_pb2, search_pb2_grpc
from indexer import IndexingOptions, ManifestSource, index
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import serving
from tests.indexer.helpers import fill
from vector_store import open_store

pytestmark = pytest.mark.service

# An ideographic space, a no-break space, a zero-width space, a soft hyphen, slashes, an emoji.
IDS = ["羽绒\u3000红.jpg", "a\u00a0b", "a\u200bb", "a\u00adb", "a/b c/d", "👗", "x" * 1100]


async def test_ids_with_unusual_characters_work_at_every_door(tmp_path: Path, address: str) -> None:
    files = fill(tmp_path / "photos", len(IDS))
    rows = [{"id": i, "image": f"photos/{file}"} for i, file in zip(IDS, files, strict=True)]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    url = f"edge://{tmp_path / 'store'}"
    async with open_store(url) as store:
        report = await index(ManifestSource(manifest), "shop", store, address, IndexingOptions())
    assert (report.indexed, report.rejected) == (len(IDS), 0)
    settings = SearchSettings(port=0, embedder=address, combiner="localhost:1", store=url)
    async with (
        serving(SearchApplication(settings), settings) as bound,
        grpc.aio.insecure_channel(bound) as channel,
    ):
        catalogs: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(channel)
        search: search_pb2_grpc.SearchServiceAsyncStub = search_pb2_grpc.SearchServiceStub(channel)
        for item_id in IDS:
            name = f"catalogs/shop/items/{item_id}"
            assert (await catalogs.GetItem(catalog_pb2.GetItemRequest(name=name))).id == item_id
            turns = [
                search_pb2.Turn(reference=search_pb2.Reference(item_id=item_id)),
                search_pb2.Turn(
                    liked_item_ids=[item_id],
                    disliked_item_ids=[other for other in IDS[:2] if other != item_id],
                ),
            ]
            found = await search.Search(
                search_pb2.SearchRequest(
                    parent="catalogs/shop",
                    turns=turns,
                    exclude_references=False,
                    exclude_disliked=False,
                )
            )
            assert item_id in [result.item.id for result in found.results]
        request = catalog_pb2.BatchDeleteItemsRequest(parent="catalogs/shop", item_ids=IDS)
        await catalogs.BatchDeleteItems(request)
        left = await catalogs.ListItems(catalog_pb2.ListItemsRequest(parent="catalogs/shop"))
        assert not left.items
