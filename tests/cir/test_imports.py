"""Messages of an import hold what a service takes; an item that no service takes is an error of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cir
from cir.channel import MAX_MESSAGE_BYTES
from cir.common.v1 import errors_pb2
from cir.errors import Overloaded, RateLimited, ResourceExhausted
from cir.imports import Import, Imported, may_resume
from cir.search.v1 import catalog_pb2 as pb
from service_runtime.receive import MAX_TEXT_BYTES
from service_runtime.settings import ServiceSettings
from service_runtime.wire_walk import WireWalk

TABLE: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "clients" / "imports.json").read_text())
MAX_PARTS: int = ServiceSettings.model_fields["max_message_parts"].default


def run(items: list[cir.ItemWrite]) -> tuple[list[pb.ImportItemsRequest], Imported]:
    """Return the messages of an import, and how it ends: the service rejects items without an image."""
    state = Import("shop", "v0001", items, token="", batch_size=64, parallel=1)
    state.start(pb.ImportItemsResponse())
    messages: list[pb.ImportItemsRequest] = []
    while (message := state.next_request()) is not None:
        messages.append(message)
        errors = [
            errors_pb2.ItemError(index=message.first_index + place, message="no image")
            for place, item in enumerate(message.items)
            if not item.content
        ]
        state.take(pb.ImportItemsResponse(next_index=message.first_index + len(message.items), errors=errors))
    return messages, state.progress()


def ids(messages: list[pb.ImportItemsRequest]) -> list[str]:
    return [item.item.id for message in messages for item in message.items]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row["name"]))
def test_messages_are_those_of_every_client(row: dict[str, Any]) -> None:
    items: list[cir.ItemWrite] = []
    for some in row["items"]:
        payload: dict[str, object] = {}
        if "text" in some:
            payload["text"] = "a" * some["text"]
        if "integers" in some:
            payload["integers"] = [7] * some["integers"]
        for _ in range(some["count"]):
            items.append(cir.ItemWrite(f"item-{len(items)}", b"x" * some["image"], payload=payload))
    messages, done = run(items)
    assert [len(message.items) for message in messages] == row["messages"]
    assert ids(messages) == [item.id for item in items]
    assert [(error.index, error.item_id, error.code.name, error.reason) for error in done.errors] == [
        (index, f"item-{index}", "INVALID_ARGUMENT", "OUT_OF_RANGE") for index in row["rejected"]
    ]


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 100_000, 3 << 20]),
            st.sampled_from([0, 50, 40_000, 1_000_000, 3_000_000]),
            st.sampled_from([0, 1, 900, 6_000, 52_000]),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_a_message_is_one_that_a_service_reads(sizes: list[tuple[int, int, int, bool]]) -> None:
    items = [
        cir.ItemWrite(
            f"{n}",
            b"x" * image,
            payload={
                "text": "a" * text,
                "list": [7] * count,
                **({f"{i}": i for i in range(900)} if wide else {}),
            },
        )
        for n, (image, text, count, wide) in enumerate(sizes)
    ]
    messages, done = run(items)
    assert ids(messages) == [item.id for item in items]
    for message in messages:
        content = message.SerializeToString()
        assert len(content) <= MAX_MESSAGE_BYTES
        walk = WireWalk(
            content, pb.ImportItemsRequest.DESCRIPTOR, max_parts=MAX_PARTS, max_text_bytes=MAX_TEXT_BYTES
        )
        assert walk.advance(MAX_PARTS + 1)
    refused = [n for n, (_, text, count, _) in enumerate(sizes) if text > 2_000_000 or count > 10_000]
    assert [error.index for error in done.errors] == refused


def test_texts_that_are_no_unicode_are_errors_of_their_items() -> None:
    items = [
        cir.ItemWrite("a\ud800", b"x"),
        cir.ItemWrite("b", b"x", image="\udfff"),
        cir.ItemWrite("c", b"x", payload={"t": "\ud800"}),
        cir.ItemWrite(5, b"x"),  # type: ignore[arg-type]
        cir.ItemWrite("\U0001f600", b"x"),
    ]
    messages, done = run(items)
    assert ids(messages) == ["a?", "b", "c", "5", "\U0001f600"]
    assert [(error.index, error.reason, error.message.split(":")[0]) for error in done.errors] == [
        (0, "FIELD_INVALID", "id"),
        (1, "FIELD_INVALID", "image"),
        (2, "FIELD_INVALID", "t"),
        (3, "FIELD_INVALID", "id"),
    ]
    with pytest.raises(cir.InvalidArgument, match="id: 5 is no valid Unicode text"):
        cir.ItemUpdate(5).message()  # type: ignore[arg-type]


def test_what_passes_is_waited_for() -> None:
    for passing in (Overloaded("x"), RateLimited("x"), cir.Unavailable("x"), cir.Aborted("x")):
        assert may_resume(passing)
    lasting = (
        ResourceExhausted("too large"),
        cir.InvalidArgument("x"),
        cir.CirError("x", code=grpc.StatusCode.UNKNOWN, reason="INTERNAL"),
    )
    for error in lasting:
        assert not may_resume(error)
