"""A program of the Python client, run by tests with the oldest and the newest packages that it allows."""

from __future__ import annotations

import asyncio
import importlib
import io
import os
from importlib.metadata import version

import grpc
import numpy as np
from PIL import Image

import cir

SERVER, IMAGES = os.environ["CIR_TEST_SERVER"], os.environ["CIR_TEST_IMAGES"]
for name in (
    "combiner.v1.combiner",
    "common.v1.errors",
    "embedder.v1.embedder",
    "search.v1.catalog",
    "search.v1.search",
):
    for part in ("pb2", "pb2_grpc"):
        importlib.import_module(f"cir.{name}_{part}")

with Image.open(f"{IMAGES}/red-dress.jpg") as photo:
    pixels = np.asarray(photo)
EMBEDDER, COMBINER = os.environ["CIR_TEST_EMBEDDER"], os.environ["CIR_TEST_COMBINER"]
with cir.Client(SERVER, embedder=EMBEDDER, combiner=COMBINER) as client:
    first = client.search("shop", image=pixels, text="in blue", where={"price": {"lt": 45}})
    assert len(first) > 0, first
    assert first.explanation.turns[0].kind == "composed"
    assert isinstance(first.results[0].payload["price"], int)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    stream.seek(0)
    embedded = client.embed_images([stream, pixels])
    assert np.allclose(embedded.features[0], embedded.features[1])
    assert client.search("shop", features=embedded[0], page_size=1).results[0].id == "red-dress"
    combined = client.combine(embedded, client.embed_texts(["in blue"] * 2))
    assert combined.queries is not None
    assert combined.queries.shape == embedded.features.shape
    try:
        client.search("nothing", text="x")
    except cir.NotFound as error:
        assert error.reason == "CATALOG_NOT_FOUND" and error.request_id, error  # noqa: PT017, PT018
    else:
        raise AssertionError("a catalog that is not there was searched")
    catalog = f"floors-{version('protobuf').replace('.', '-')}"
    items = [cir.ItemWrite(f"{n}", pixels, payload={"n": n}) for n in range(5)]
    uploaded = client.upload(catalog, items, schema={"n": "integer"}, batch_size=2)
    assert (uploaded.written, uploaded.published) == (5, True)
    assert [item.id for item in client.all_items(catalog, where={"n": {"gte": 3}})] == ["3", "4"]
    client.delete_catalog(catalog)


async def again() -> None:
    async with cir.AsyncClient(SERVER) as client:
        found = await client.search("shop", image=pixels, text="in blue", where={"price": {"lt": 45}})
        assert [result.id for result in found] == [result.id for result in first]


asyncio.run(again())
print("protobuf", version("protobuf"), "grpcio", grpc.__version__)
