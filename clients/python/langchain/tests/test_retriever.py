"""The retriever against a running service with the catalog "shop" of drawn garments."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_cir import ComposedImageRetriever
from langchain_core.runnables import RunnableLambda

import cir

SERVER, IMAGES = os.environ["CIR_TEST_SERVER"], os.environ["CIR_TEST_IMAGES"]


@pytest.fixture
def client() -> Iterator[cir.Client]:
    with cir.Client(SERVER) as client:
        yield client


def retriever(client: cir.Client, **options: Any) -> ComposedImageRetriever:
    return ComposedImageRetriever(client=client, catalog="shop", **options)


def test_documents_are_the_items_that_were_found(client: cir.Client) -> None:
    documents = retriever(client, k=3, content_field="kind").invoke("a red dress")
    assert len(documents) == 3
    first = documents[0]
    assert first.id == "red-dress"
    assert first.page_content == "dress"
    assert first.metadata["colour"] == "red"
    assert first.metadata["rank"] == 1
    assert first.metadata["image"].endswith("red-dress.jpg")
    assert retriever(client).invoke("a red dress")[0].page_content == "red-dress"


def test_an_image_with_a_change_is_the_query_of_the_client(client: cir.Client) -> None:
    arguments: dict[str, Any] = {"image": f"{IMAGES}/red-dress.jpg", "where": {"price": {"lt": 45}}}
    found = retriever(client, k=5).invoke("in blue", **arguments)
    wanted = client.search("shop", text="in blue", page_size=5, **arguments)
    assert [document.id for document in found] == [result.id for result in wanted]
    assert [document.metadata["score"] for document in found] == [result.score for result in wanted]
    alone = retriever(client, k=1, search_options={"exclude_references": False}).invoke("", item="red-hat")
    assert [document.id for document in alone] == ["red-hat"]


def test_it_is_part_of_a_chain_and_awaited(client: cir.Client) -> None:
    chain = retriever(client, k=2) | RunnableLambda(lambda documents: [document.id for document in documents])

    async def both() -> tuple[list[str], list[str]]:
        async with cir.AsyncClient(SERVER) as async_client:
            awaited = await retriever(client, k=2, async_client=async_client).ainvoke("a red hat")
            return await chain.ainvoke("a red hat"), [str(document.id) for document in awaited]

    in_thread, awaited = asyncio.run(both())
    assert in_thread == awaited == chain.invoke("a red hat")


def test_errors_are_those_of_the_client(client: cir.Client) -> None:
    with pytest.raises(cir.NotFound):
        ComposedImageRetriever(client=client, catalog="nothing").invoke("x")
    with pytest.raises(cir.InvalidArgument, match="URLs are not fetched"):
        retriever(client).invoke("x", image="https://example.com/a.jpg")
