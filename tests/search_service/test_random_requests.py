"""Whatever a client sends: an answer or a refusal, never UNKNOWN or INTERNAL, and the service goes on."""

from __future__ import annotations

import random
from collections import Counter

from cir.search.v1 import catalog_pb2, search_pb2
from cir.search.v1.search_pb2 import SearchRequest, Turn
from tests.random_messages import FAULTS, REQUESTS, random_message
from tests.search_service.conftest import Stack

METHODS = {
    "Search": search_pb2.SearchRequest,
    "GetItem": catalog_pb2.GetItemRequest,
    "BatchGetItems": catalog_pb2.BatchGetItemsRequest,
    "ListItems": catalog_pb2.ListItemsRequest,
    "ListCatalogs": catalog_pb2.ListCatalogsRequest,
    "ListCatalogVersions": catalog_pb2.ListCatalogVersionsRequest,
    "FacetItems": catalog_pb2.FacetItemsRequest,
    "UpsertItems": catalog_pb2.UpsertItemsRequest,
    "DeleteItems": catalog_pb2.DeleteItemsRequest,
    "PublishCatalogVersion": catalog_pb2.PublishCatalogVersionRequest,
}


async def test_random_requests_are_answered_or_refused(stack: Stack) -> None:
    source = random.Random(20220619)
    codes: Counter[str] = Counter()
    for number in range(REQUESTS):
        # Searches have the most to go wrong, so every other request is one.
        name = "Search" if number % 2 else source.choice(list(METHODS))
        request = random_message(METHODS[name](), source)
        for field in ("catalog", "parent"):
            if field in request.DESCRIPTOR.fields_by_name and source.random() < 0.8:
                setattr(request, field, "catalogs/shop")
        method = getattr(stack.search if name == "Search" else stack.catalogs, name)
        call = method(request, timeout=30)
        code, said = await call.code(), await call.details()
        assert code not in FAULTS, (name, request, said)
        codes[code.name] += 1
    assert codes["OK"] > 0
    assert codes["INVALID_ARGUMENT"] > 0
    answer = await stack.search.Search(SearchRequest(catalog="catalogs/shop", turns=[Turn(text="red")]))
    assert answer.results
