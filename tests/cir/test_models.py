"""Reading answers: `search_answer`, `catalog_answers` and `search_info`."""

from __future__ import annotations

import grpc
import numpy as np

from cir.common.v1 import errors_pb2, model_pb2
from cir.models import (
    Catalog,
    FacetCount,
    Items,
    SearchAnswer,
    SearchInfo,
    Timings,
    TurnExplanation,
    Version,
    Written,
    read_facets,
)
from cir.payload import to_value
from cir.search.v1 import catalog_pb2, search_pb2
from cir.vectors import pack
from tests.cir import messages


def test_a_search_answer_is_plain_data() -> None:
    message = messages.search_response(messages.item("a/b", "p.jpg", price=2.5), next_page_token="t")
    message.results[0].item.features.CopyFrom(pack(np.ones((1, 2), np.float32), fingerprint="clip-1"))
    answer = SearchAnswer.read(message)
    [result] = answer
    assert len(answer) == 1
    assert (result.id, result.rank, result.score, result.image) == ("a/b", 1, 0.9, "p.jpg")
    assert result.payload == {"price": 2.5}
    assert result.features is not None
    assert result.features.values.tolist() == [1.0, 1.0]
    assert answer.next_page_token == "t"
    assert answer.explanation.turns == (TurnExplanation("composed", 0.5),)
    assert (answer.explanation.version, answer.explanation.combiner) == ("v2", "sum")
    assert answer.timings == Timings(None, None, None, None, 0.0015, 0.012)
    assert answer.query_vector is not None
    assert answer.query_vector.model_fingerprint == "clip-1"


def test_an_empty_answer_can_be_read() -> None:
    answer = SearchAnswer.read(search_pb2.SearchResponse())
    assert (len(answer), answer.query_vector, answer.timings.total) == (0, None, None)


def test_a_version_has_short_names_and_words() -> None:
    version = Version.read(messages.version("v7", catalog_pb2.VERSION_STATE_RETIRED))
    assert (version.name, version.state, version.item_count) == ("v7", "retired", 7)
    assert version.schema == {"colour": "keyword", "price": "float", "stock": "integer"}
    assert version.created == messages.CREATED


def test_a_catalog_may_have_nothing_published() -> None:
    assert Catalog.read(catalog_pb2.Catalog(name="catalogs/new")) == Catalog("new", None)


def test_items_and_those_that_are_missing() -> None:
    items = Items.read(catalog_pb2.BatchGetItemsResponse(items=[messages.item("a")], missing_ids=["b"]))
    assert [item.id for item in items.found] == ["a"]
    assert items.missing == ("b",)


def test_errors_of_single_items_are_named() -> None:
    error = errors_pb2.ItemError(
        index=1, code=3, reason=errors_pb2.IMAGE_EMPTY, message="no bytes", item_id="x"
    )
    [read] = Written.read(catalog_pb2.BatchUpsertItemsResponse(written=1, errors=[error])).errors
    assert (read.index, read.item_id, read.reason) == (1, "x", "IMAGE_EMPTY")
    assert read.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_reason_of_a_newer_server_keeps_its_number() -> None:
    error = errors_pb2.ItemError(code=99, reason=9999)  # type: ignore[arg-type]
    [read] = Written.read(catalog_pb2.BatchUpsertItemsResponse(errors=[error])).errors
    assert (read.reason, read.code) == ("9999", grpc.StatusCode.UNKNOWN)


def test_facets_by_field() -> None:
    count = catalog_pb2.FacetCount(value=to_value("red", field="colour"), count=3)
    response = catalog_pb2.FacetItemsResponse(facets=[catalog_pb2.Facet(field="colour", values=[count])])
    assert read_facets(response) == {"colour": [FacetCount("red", 3)]}


def test_search_info_without_and_with_a_model() -> None:
    message = search_pb2.GetSearchInfoResponse(
        limits=search_pb2.SearchLimits(max_turns=16), dependencies={"embedder": "away"}, combiners=["sum"]
    )
    info = SearchInfo.read(message)
    assert info.model is None
    assert info.limits["max_turns"] == 16
    assert info.dependencies == {"embedder": "away"}
    message.model.CopyFrom(model_pb2.ModelInfo(fingerprint="clip-1", dimension=4))
    model = SearchInfo.read(message).model
    assert model is not None
    assert (model.fingerprint, model.dimension) == ("clip-1", 4)
