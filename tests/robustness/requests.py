"""Requests of every method: sound ones, random extreme ones, and good ones whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message
from numpy.typing import NDArray

from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import payload_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, filter_pb2, search_pb2
from cir.vectors import pack, unpack
from tests.embedder_service.sample_images import jpeg
from tests.random_messages import random_message

DIMENSION = 32
# Catalogs that are fuzzed, and one that no mutation names: its answers must stay what they are.
FUZZED, UNTOUCHED = "catalogs/shop", "catalogs/untouched"
EMBEDDER = "/cir.embedder.v1.EmbedderService/"
COMBINER = "/cir.combiner.v1.CombinerService/"
SEARCH = "/cir.search.v1.SearchService/"
CATALOG = "/cir.search.v1.CatalogService/"
STREAM = EMBEDDER + "EmbedStream"
STREAMS = {"embedder": STREAM, "search": CATALOG + "ImportItems"}
HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Method:
    """A unary method: sound requests of it, and how a random one is made."""

    path: str
    sound: Sequence[bytes]
    extreme: Callable[[random.Random], bytes]


def methods(service: str, images: Sequence[bytes]) -> list[Method]:
    """The unary methods of "embedder", "combiner" or "search". `images` are sound picture files."""
    made = {"embedder": _embedder, "combiner": _combiner, "search": _search}[service](images)
    return [_method(path, requests) for path, requests in made.items()]


def stream_batches(service: str, images: Sequence[bytes]) -> list[bytes]:
    """Sound messages of a service's stream, of which it has one at most."""
    return {"embedder": _embedder_batches, "search": _import_messages}.get(service, lambda _: [])(images)


def _import_messages(images: Sequence[bytes]) -> list[bytes]:
    opening = catalog_pb2.ImportItemsRequest(parent=FUZZED + "/versions/v0002", token="one")
    found = [opening]
    for first in (0, 2, 4):
        items = [
            catalog_pb2.ItemWrite(item=catalog_pb2.Item(id=f"item-{first}"), content=images[first]),
            catalog_pb2.ItemWrite(
                item=catalog_pb2.Item(id="written", features=pack(np.ones((1, DIMENSION), np.float32)))
            ),
        ]
        message = catalog_pb2.ImportItemsRequest(first_index=first, items=items)
        found.append(message)
        whole = catalog_pb2.ImportItemsRequest()
        whole.CopyFrom(opening)
        whole.MergeFrom(message)
        found += [whole, whole]
    return [message.SerializeToString() for message in found]


def _embedder_batches(images: Sequence[bytes]) -> list[bytes]:
    made = _embedder(images)
    batches = [
        embedder_pb2.EmbedStreamRequest(batch_id=number, images=request)
        for number, request in enumerate(made[EMBEDDER + "EmbedImages"])
    ]
    batches += [
        embedder_pb2.EmbedStreamRequest(batch_id=number, texts=request)
        for number, request in enumerate(made[EMBEDDER + "EmbedTexts"])
    ]
    return [batch.SerializeToString() for batch in batches]


def _method(path: str, requests: Sequence[Message]) -> Method:
    kind = type(requests[0])

    def extreme(source: random.Random) -> bytes:
        request: Any = random_message(kind(), source)
        # Half of the fields are sound ones, or every request would end at its first field.
        sound = source.choice(requests)
        for field in request.DESCRIPTOR.fields:
            if source.random() < 0.5:
                request.ClearField(field.name)
                part = kind()
                part.CopyFrom(sound)
                for other in part.DESCRIPTOR.fields:
                    if other.name != field.name:
                        part.ClearField(other.name)
                request.MergeFrom(part)
        content: bytes = request.SerializeToString()
        return content

    return Method(path, [request.SerializeToString() for request in requests], extreme)


def _embedder(images: Sequence[bytes]) -> Mapping[str, Sequence[Any]]:
    pb = embedder_pb2
    tensor = bytes(range(256)) * 12  # 32 x 32 x 3
    pictures = [pb.ImageInput(content=content) for content in images[:12]]
    return {
        EMBEDDER + "EmbedImages": [
            pb.EmbedImagesRequest(images=pictures[:3]),
            pb.EmbedImagesRequest(
                images=[pictures[0], pb.ImageInput(tensor=tensor)], priority=pb.PRIORITY_BULK
            ),
            pb.EmbedImagesRequest(
                images=[pb.ImageInput(tensor=tensor)], encoding=vectors_pb2.VectorEncoding(plain_floats=True)
            ),
            *(pb.EmbedImagesRequest(images=[picture]) for picture in pictures),
        ],
        EMBEDDER + "EmbedTexts": [
            pb.EmbedTextsRequest(texts=["red", "with longer sleeves", "", "été 🧥"]),
            pb.EmbedTextsRequest(
                texts=["blue"],
                encoding=vectors_pb2.VectorEncoding(dtype=vectors_pb2.VECTOR_TYPE_FLOAT16),
                priority=pb.PRIORITY_INTERACTIVE,
            ),
        ],
        EMBEDDER + "GetEmbedderInfo": [pb.GetEmbedderInfoRequest()],
        HEALTH: [pb.GetEmbedderInfoRequest()],  # an empty message, as a health check of the process is
    }


def _combiner(images: Sequence[bytes]) -> Mapping[str, Sequence[Any]]:
    pb = combiner_pb2
    rows = np.random.default_rng(1).normal(size=(3, DIMENSION)).astype(np.float32)
    return {
        COMBINER + "Combine": [
            pb.CombineRequest(combiner=name, image_features=pack(rows), text_features=pack(rows[::-1]))
            for name in ("", "sum", "slerp", "image", "text")
        ]
        + [
            pb.CombineRequest(
                image_features=pack(rows[:1], fingerprint="x"),
                text_features=pack(rows[1:2], fingerprint="x"),
                text_weight=0.3,
                encoding=vectors_pb2.VectorEncoding(plain_floats=True),
            )
        ],
        COMBINER + "ListCombiners": [pb.ListCombinersRequest(page_size=2)],
        COMBINER + "GetCombinerInfo": [pb.GetCombinerInfoRequest()],
    }


def _search(images: Sequence[bytes]) -> Mapping[str, Sequence[Any]]:
    turn, reference = search_pb2.Turn, search_pb2.Reference
    row = pack(np.ones((1, DIMENSION), np.float32))
    value = payload_pb2.Value
    condition = filter_pb2.Condition
    red = condition(match_any=filter_pb2.MatchAny(field="colour", values=[value(string_value="red")]))
    price = condition(
        range=filter_pb2.Range(field="price", gte=value(integer_value=3), lt=value(integer_value=30))
    )
    some = filter_pb2.Filter(
        must=[red], should=[price], must_not=[condition(exists=filter_pb2.Exists(field="weight"))]
    )
    nested = filter_pb2.Filter(
        must=[condition(filter=some), condition(has_id=filter_pb2.HasId(item_ids=["item-1"]))]
    )
    deep = some
    for _ in range(40):
        deep = filter_pb2.Filter(must=[condition(filter=deep)])
    search = search_pb2.SearchRequest
    item = catalog_pb2.Item(
        id="item-9",
        payload=payload_pb2.Payload(
            fields={"colour": value(string_value="red"), "price": value(integer_value=7)}
        ),
    )
    written = catalog_pb2.Item(id="item-new", features=row)
    return {
        SEARCH + "Search": [
            search(parent=FUZZED, turns=[turn(text="red")], page_size=5, filter=some),
            search(parent=FUZZED, turns=[turn(reference=reference(item_id="item-1"), text="in blue")]),
            search(parent=FUZZED, turns=[turn(reference=reference(image=images[0]), text="in blue")]),
            search(parent=FUZZED, turns=[turn(reference=reference(features=row))], exact=True, filter=nested),
            search(
                parent=FUZZED,
                turns=[
                    turn(reference=reference(item_id="item-2"), text="longer"),
                    turn(text="and red", text_weight=0.7, liked_item_ids=["item-3"]),
                    turn(disliked_item_ids=["item-4"]),
                ],
                with_features=True,
                diversity=0.3,
                score_threshold=-0.5,
                ef=64,
            ),
            search(parent=FUZZED, turns=[turn(text="blue")], group_by="colour", group_size=2),
            search(parent=FUZZED, turns=[turn(text="blue")], filter=deep),
        ],
        SEARCH + "BatchSearch": [
            search_pb2.BatchSearchRequest(
                requests=[
                    search(parent=FUZZED, turns=[turn(text="red")], filter=some),
                    search(parent=FUZZED, turns=[turn(reference=reference(image=images[0]), text="in blue")]),
                    search(
                        parent=FUZZED, turns=[turn(reference=reference(item_id="item-1"))], page_size=1000
                    ),
                ]
            )
        ],
        CATALOG + "GetItem": [catalog_pb2.GetItemRequest(name=FUZZED + "/items/item-1", with_features=True)],
        CATALOG + "BatchGetItems": [
            catalog_pb2.BatchGetItemsRequest(parent=FUZZED, item_ids=["item-1", "item-2", "none"])
        ],
        CATALOG + "ListItems": [catalog_pb2.ListItemsRequest(parent=FUZZED, page_size=5, filter=some)],
        CATALOG + "ListCatalogs": [catalog_pb2.ListCatalogsRequest(page_size=1)],
        CATALOG + "ListCatalogVersions": [catalog_pb2.ListCatalogVersionsRequest(parent=FUZZED)],
        CATALOG + "GetCatalog": [catalog_pb2.GetCatalogRequest(name=FUZZED)],
        CATALOG + "FacetItems": [
            catalog_pb2.FacetItemsRequest(parent=FUZZED, fields=["colour", "price"], filter=some)
        ],
        CATALOG + "BatchUpsertItems": [
            catalog_pb2.BatchUpsertItemsRequest(
                parent=FUZZED,
                items=[
                    catalog_pb2.ItemWrite(item=item, content=images[0]),
                    catalog_pb2.ItemWrite(item=written),
                ],
            )
        ],
        CATALOG + "BatchUpdateItems": [
            catalog_pb2.BatchUpdateItemsRequest(
                parent=FUZZED, items=[catalog_pb2.Item(id="item-1", image="1.png")]
            ),
            catalog_pb2.BatchUpdateItemsRequest(
                parent=FUZZED,
                items=[catalog_pb2.Item(id="item-1", payload=item.payload)],
                update_mask=field_mask_pb2.FieldMask(paths=["payload.fields.price", "image"]),
            ),
        ],
        CATALOG + "BatchDeleteItems": [
            catalog_pb2.BatchDeleteItemsRequest(parent=FUZZED, item_ids=["item-new"]),
            catalog_pb2.BatchDeleteItemsRequest(parent=FUZZED, filter=some, validate_only=True),
        ],
        CATALOG + "CreateCatalog": [
            catalog_pb2.CreateCatalogRequest(
                catalog_id="new", schema={"colour": catalog_pb2.FIELD_TYPE_KEYWORD}
            ),
            catalog_pb2.CreateCatalogRequest(
                catalog_id="own",
                index=catalog_pb2.IndexSettings(hnsw_m=8, quantization=catalog_pb2.QUANTIZATION_INT8),
                model=catalog_pb2.VersionModel(fingerprint="own", dimension=4),
            ),
        ],
        CATALOG + "CreateCatalogVersion": [
            catalog_pb2.CreateCatalogVersionRequest(
                parent=FUZZED, schema={"price": catalog_pb2.FIELD_TYPE_INTEGER}
            )
        ],
        CATALOG + "FinishCatalogVersion": [
            catalog_pb2.FinishCatalogVersionRequest(name=FUZZED + "/versions/v0002", expected_item_count=0)
        ],
        CATALOG + "AbortCatalogVersion": [
            catalog_pb2.AbortCatalogVersionRequest(name=FUZZED + "/versions/v0002")
        ],
        CATALOG + "AddCatalogFields": [
            catalog_pb2.AddCatalogFieldsRequest(
                name=FUZZED, fields={"season": catalog_pb2.FIELD_TYPE_KEYWORD}
            )
        ],
        CATALOG + "PublishCatalogVersion": [
            catalog_pb2.PublishCatalogVersionRequest(name=FUZZED + "/versions/v0001")
        ],
        SEARCH + "GetSearchInfo": [search_pb2.GetSearchInfoRequest()],
    }


_ROWS = np.random.default_rng(2).normal(size=(2, DIMENSION)).astype(np.float32)


def good_requests(service: str) -> list[tuple[str, bytes]]:
    """(method, bytes) of requests that the service must go on answering."""
    if service == "embedder":
        # Tensors are embedded each time; pictures and texts may come from the cache.
        pictures = [
            embedder_pb2.ImageInput(content=jpeg(seed=99)),
            embedder_pb2.ImageInput(tensor=b"\x40" * 3072),
        ]
        images = embedder_pb2.EmbedImagesRequest(images=pictures)
        texts = embedder_pb2.EmbedTextsRequest(texts=["a good text"])
        return [
            (EMBEDDER + "EmbedImages", images.SerializeToString()),
            (EMBEDDER + "EmbedTexts", texts.SerializeToString()),
        ]
    if service == "combiner":
        request = combiner_pb2.CombineRequest(image_features=pack(_ROWS), text_features=pack(_ROWS[::-1]))
        return [(COMBINER + "Combine", request.SerializeToString())]
    turns = [
        search_pb2.Turn(reference=search_pb2.Reference(item_id="item-3"), text="in red"),
        search_pb2.Turn(text="and longer", disliked_item_ids=["item-5"]),
    ]
    search = search_pb2.SearchRequest(parent=UNTOUCHED, turns=turns, page_size=5)
    return [(SEARCH + "Search", search.SerializeToString())]


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of an answer that depends on the request alone: names, and numbers."""

    names: tuple[str, ...]
    numbers: NDArray[np.float32]

    def is_close_to(self, other: Answer) -> bool:
        """Whether both say the same, up to the rounding that other batches bring."""
        return self.names == other.names and np.allclose(self.numbers, other.numbers, rtol=1e-3, atol=1e-4)


def read_answer(method: str, content: bytes) -> Answer:
    """What counts in the answer to a good request."""
    if method == SEARCH + "Search":
        found = search_pb2.SearchResponse.FromString(content).results
        return Answer(tuple(hit.item.id for hit in found), np.array([hit.score for hit in found], np.float32))
    if method == COMBINER + "Combine":
        return Answer((), unpack(combiner_pb2.CombineResponse.FromString(content).query_vectors))
    if method == EMBEDDER + "EmbedTexts":
        return Answer((), unpack(embedder_pb2.EmbedTextsResponse.FromString(content).features))
    return Answer((), unpack(embedder_pb2.EmbedImagesResponse.FromString(content).features))
