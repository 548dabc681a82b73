"""Whatever a client sends: an answer or a refusal, never UNKNOWN or INTERNAL, and the service goes on."""

from __future__ import annotations

import random
from collections import Counter

from cir.search.v1 import catalog_pb2, search_pb2
from cir.search.v1.search_pb2 import SearchRequest, Turn
from tests.random_messages import FAULTS, REQUESTS, random_message
from tests.search_service.conftest import Stack

# All but the one that ends the test.
METHODS = {
    method.name: getattr(module, method.input_type.name)
    for module, service in ((search_pb2, "SearchService"), (catalog_pb2, "CatalogService"))
    for method in module.DESCRIPTOR.services_by_name[service].methods
    if method.name != "DeleteCatalog"
}
PATHS = (
    "payload",
    "image",
    "payload.fields.price",
    "payload.fields.`a b`",
    "features",
    "",
    "payload.fields.",
)


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
        if name == "UpdateItems":
            request.update_mask.paths[:] = source.sample(PATHS, source.choice((0, 0, 1, 2)))
        method = getattr(stack.search if "Search" in name else stack.catalogs, name)
        call = method(request, timeout=30)
        code, said = await call.code(), await call.details()
        assert code not in FAULTS, (name, request, said)
        codes[code.name] += 1
    assert codes["OK"] > 0
    assert codes["INVALID_ARGUMENT"] > 0
    answer = await stack.search.Search(SearchRequest(catalog="catalogs/shop", turns=[Turn(text="red")]))
    assert answer.results
