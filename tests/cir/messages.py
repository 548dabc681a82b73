"""Answers of a search service, as the tests of the client need them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from cir.payload import to_payload
from cir.search.v1 import catalog_pb2, search_pb2
from cir.vectors import pack

CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def version(name: str = "v2", state: int = catalog_pb2.VERSION_STATE_PUBLISHED) -> catalog_pb2.CatalogVersion:
    """A version of the catalog "shop"."""
    message = catalog_pb2.CatalogVersion(
        name=f"catalogs/shop/versions/{name}",
        state=state,  # type: ignore[arg-type]
        item_count=7,
        model_fingerprint="clip-1",
        dimension=4,
        schema={
            "price": catalog_pb2.FIELD_TYPE_FLOAT,
            "colour": catalog_pb2.FIELD_TYPE_KEYWORD,
            "stock": catalog_pb2.FIELD_TYPE_INTEGER,
        },
        model={"architecture": "ViT-B-32", "pretrained": "openai"},
    )
    message.create_time.FromDatetime(CREATED)
    return message


def catalog(name: str = "shop") -> catalog_pb2.Catalog:
    """A catalog with a published version."""
    return catalog_pb2.Catalog(name=f"catalogs/{name}", published=version())


def item(item_id: str = "a/b", image: str = "", **payload: object) -> catalog_pb2.Item:
    """An item with its payload."""
    return catalog_pb2.Item(id=item_id, image=image, payload=to_payload(payload))


def search_response(*items: catalog_pb2.Item, next_page_token: str = "") -> search_pb2.SearchResponse:
    """An answer with these items, in this order."""
    response = search_pb2.SearchResponse(
        results=[
            search_pb2.SearchResult(item=item, score=1 - rank / 10, rank=rank)
            for rank, item in enumerate(items, start=1)
        ],
        next_page_token=next_page_token,
        explanation=search_pb2.SearchExplanation(
            turns=[search_pb2.TurnExplanation(kind=search_pb2.TURN_KIND_COMPOSED, network_lambda=0.5)],
            combiner="sum",
            version="catalogs/shop/versions/v2",
            model_fingerprint="clip-1",
            exact=True,
        ),
        query_vector=pack(np.array([[1.0, 0.0]], np.float32), fingerprint="clip-1"),
    )
    response.timings.total.FromMilliseconds(12)
    response.timings.store.FromMicroseconds(1500)
    return response
