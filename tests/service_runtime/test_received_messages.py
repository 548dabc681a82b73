"""Messages are bounded in bytes, parts and time before they are parsed, and what they took is given back."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from cir.combiner.v1 import combiner_pb2, combiner_pb2_grpc
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, search_pb2
from service_runtime import contract
from service_runtime.contract import largest_message, request_of
from service_runtime.open_methods import MAX_QUESTIONS
from service_runtime.receive import MAX_TEXT_BYTES, UNCOUNTED_BYTES
from service_runtime.server import serving
from service_runtime.wire_walk import MalformedError, TextTooLongError, TooManyPartsError, WireWalk
from tests.random_messages import random_message
from tests.refused import refused
from tests.robustness import wire
from tests.service_runtime.probe import COMBINE, Probe, channel, good_call, is_alive, settings
from tests.service_runtime.test_security_limits import closed_within, connect, open_call

WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
KINDS: tuple[Any, ...] = (
    search_pb2.SearchRequest,
    catalog_pb2.BatchUpsertItemsRequest,
    catalog_pb2.BatchUpdateItemsRequest,
    catalog_pb2.ListItemsRequest,
    embedder_pb2.EmbedStreamRequest,
    combiner_pb2.CombineRequest,
)


def walk(content: bytes, kind: Descriptor, *, max_parts: int = 1 << 30, step: int = 1 << 30) -> int:
    """Count all parts of a message, `step` at a time."""
    counting = WireWalk(content, kind, max_parts=max_parts, max_text_bytes=MAX_TEXT_BYTES)
    while not counting.advance(step):
        pass
    return counting.parts


def parts(message: Any) -> int:
    """Count the fields that are set in a message, each element and each entry of a map as one."""
    count = 0
    for field, value in message.ListFields():
        map_entry = field.message_type is not None and field.message_type.GetOptions().map_entry
        packed = field.is_repeated and field.is_packed
        values = [value] if packed or not field.is_repeated else list(value)
        count += len(values)
        if map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            count += 2 * len(values)
            if inner is not None:
                count += sum(parts(value[key]) for key in values)
        elif field.message_type is not None:
            count += sum(parts(element) for element in values)
    return count


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), step=st.sampled_from([1, 7, 1 << 30]))
def test_every_part_of_a_message_is_counted_once(seed: int, kind: Any, step: int) -> None:
    message = random_message(kind(), random.Random(seed))
    content = message.SerializeToString()
    # An entry of a map always has its key and value on the wire.
    assert walk(content, kind.DESCRIPTOR, step=step) == parts(message)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), mutations=st.integers(1, 3))
def test_whatever_the_parser_takes_is_counted_to_its_end(seed: int, kind: Any, mutations: int) -> None:
    source = random.Random(seed)
    content = random_message(kind(), source).SerializeToString()
    for _ in range(mutations):
        content = wire.mutate(content, source, [content])
    try:
        kind.FromString(content)
    except DecodeError:
        return
    try:
        assert walk(content, kind.DESCRIPTOR) <= len(content)
    except (MalformedError, TextTooLongError):
        # Stricter than the parser in groups alone, which no message of ours has.
        assert any(tag & 7 in (3, 4) for tag in content)


@given(
    kind=st.sampled_from(KINDS),
    number=st.integers(1, 20),
    count=st.integers(1001, 3000),
    inside=st.lists(st.integers(1, 9), max_size=3),
)
def test_huge_counts_are_known_before_anything_is_built(
    kind: Any, number: int, count: int, inside: list[int]
) -> None:
    content = wire.field(number, b"") * count
    for outer in inside:
        content = wire.field(outer, content)
    try:
        counted = walk(content, kind.DESCRIPTOR, max_parts=1000)
    except TooManyPartsError:
        return
    # Fewer were found: they lie in a text or in bytes, of which the parser builds nothing.
    assert counted <= 1000
    try:
        message = kind.FromString(content)
    except DecodeError:
        return
    assert parts(message) <= 1000


@given(
    kind=st.sampled_from(KINDS),
    part=st.sampled_from([b"\x00", b"\x01a", b"\x01\x00"]),
    number=st.integers(1, 20),
    wire_type=st.sampled_from([0, 2]),
    step=st.sampled_from([7, 500, 1 << 30]),
)
@settings_of(max_examples=30)
def test_counting_takes_no_memory_and_no_more_steps_than_it_is_given(
    kind: Any, part: bytes, number: int, wire_type: int, step: int
) -> None:
    content = (wire.varint(number << 3 | wire_type) + part) * 5_000
    counting = WireWalk(content, kind.DESCRIPTOR, max_parts=8_000, max_text_bytes=MAX_TEXT_BYTES)
    tracemalloc.start()
    try:
        ended, counted = False, 0
        while not ended:
            ended = counting.advance(step)
            assert counting.parts - counted <= step
            counted = counting.parts
        assert tracemalloc.get_traced_memory()[1] < 50_000
    except (MalformedError, TooManyPartsError):
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@given(content=st.binary(max_size=200), kind=st.sampled_from(KINDS))
def test_any_bytes_are_walked_or_malformed(content: bytes, kind: Any) -> None:
    try:
        walk(content, kind.DESCRIPTOR)
    except (MalformedError, TextTooLongError):
        # Stricter than the parser in groups alone, which no message of ours has.
        if not any(byte & 7 in (3, 4) for byte in content):
            with pytest.raises(DecodeError):
                kind.FromString(content)


def test_methods_take_what_their_messages_can_hold() -> None:
    def limit(name: str) -> int:
        return largest_message(name, request_of(name), 64 << 20)

    assert limit(WATCH) == limit(CHECK) == limit(REFLECT) == contract.OPEN_BYTES
    catalog, search = "/cir.search.v1.CatalogService/", "/cir.search.v1.SearchService/"
    for name in ("GetItem", "GetCatalog", "ListCatalogs", "ListCatalogVersions", "FinishCatalogVersion"):
        assert limit(catalog + name) == contract.SMALL_BYTES
    for name in (
        "ListItems",
        "BatchGetItems",
        "BatchDeleteItems",
        "FacetItems",
        "CreateCatalog",
        "AddCatalogFields",
    ):
        assert limit(catalog + name) == contract.MEDIUM_BYTES
    assert limit(search + "GetSearchInfo") == contract.SMALL_BYTES
    for name in (search + "Search", catalog + "BatchUpsertItems", catalog + "BatchUpdateItems", COMBINE):
        assert limit(name) == 64 << 20
    assert largest_message(catalog + "GetItem", request_of(catalog + "GetItem"), 5000) == 5000


@pytest.mark.service
async def test_a_message_over_its_methods_limit_is_refused_unparsed() -> None:
    async with serving(Probe(), settings()) as address, channel(address) as on:
        info: Any = on.unary_unary("/cir.combiner.v1.CombinerService/GetCombinerInfo")
        assert await info(b"\xf8\x07\x00" * 10, timeout=10)
        refusal = await refused(info(b"\xff" * 70_000, timeout=10))
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "OUT_OF_RANGE")
        assert refusal.message == "the request has 70000 bytes; this method takes at most 65536"
        watch: Any = on.unary_stream(WATCH)
        assert await watch(wire.field(1, b"a" * 5000), timeout=10).code() is grpc.StatusCode.INVALID_ARGUMENT
        check: Any = on.unary_unary(CHECK)
        assert (await refused(check(wire.field(1, b"a" * 5000), timeout=10))).reason == "OUT_OF_RANGE"
        reflect: Any = on.stream_stream(REFLECT)
        call = reflect(iter([wire.field(4, b"a" * 5000)]), timeout=10)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.service
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wire.field(2, wire.field(5, b"") * 2000) + wire.field(3, b"x" * UNCOUNTED_BYTES), "TOO_MANY_ITEMS"),
        (wire.field(1, b"a" * (MAX_TEXT_BYTES + 1)), "TEXT_TOO_LONG"),
        (wire.field(2, wire.field(4, b"a" * (MAX_TEXT_BYTES + 1))), "TEXT_TOO_LONG"),
        (wire.field(2, b"\xff") + b"\0" * UNCOUNTED_BYTES, "MALFORMED"),
        (b"\x0b" * (2 * UNCOUNTED_BYTES), "MALFORMED"),
    ],
)
async def test_a_message_of_too_much_is_refused_unparsed(content: bytes, reason: str) -> None:
    application = Probe()
    async with serving(application, settings(max_message_parts=1000)) as address, channel(address) as on:
        send: Any = on.unary_unary(COMBINE)
        refusal = await refused(send(content, timeout=10))
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason)
        assert application.calls == 0
        assert await good_call(address) == "nobody"


@pytest.mark.service
async def test_a_call_without_a_message_is_refused() -> None:
    async with serving(Probe(), settings()) as address, channel(address) as on:
        send: Any = on.stream_unary(COMBINE)
        assert (await refused(send(iter([]), timeout=10))).reason == "MALFORMED"
        watch: Any = on.stream_stream(WATCH)
        assert await watch(iter([]), timeout=10).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.service
@pytest.mark.parametrize("method", [COMBINE, CHECK, WATCH])
async def test_a_message_that_is_never_finished_is_given_up(method: str) -> None:
    async with serving(Probe(), settings(receive_timeout_seconds=0.3)) as address:
        with connect(address) as slow:
            slow.sendall(open_call(method))
            received = b""
            while b"no whole message came" not in received.replace(b"%20", b" "):
                part = await asyncio.to_thread(slow.recv, 65536)
                assert part
                received += part
        assert await is_alive(address)


@pytest.mark.service
async def test_bytes_of_one_caller_are_bounded_and_free_again() -> None:
    application = Probe()
    async with serving(application, settings(max_caller_bytes=100_000)) as address, channel(address) as on:
        stub = combiner_pb2_grpc.CombinerServiceStub(on)
        large = combiner_pb2.CombineRequest(
            combiner="wait",
            image_features={"data": b"x" * 60_000},  # type: ignore[arg-type]
        )
        first = stub.Combine(large, timeout=10)
        await asyncio.wait_for(application.waiting.wait(), 10)
        refusal = await refused(stub.Combine(large, timeout=10))
        assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after
        assert await good_call(address) == "nobody"
        application.go.set()
        await first
        assert (await stub.Combine(large, timeout=10)).combiner == "nobody"
        # One alone is taken whatever its size, within the limit of messages.
        big = combiner_pb2.CombineRequest(image_features={"data": b"x" * 200_000})  # type: ignore[arg-type]
        assert (await stub.Combine(big, timeout=10)).combiner == "nobody"


@pytest.mark.service
async def test_watching_is_bounded_for_a_connection_not_for_others() -> None:
    values = settings(max_open_calls_per_connection=3)
    async with serving(Probe(), values) as address, channel(address) as one, channel(address) as another:
        watch: Any = one.unary_stream(WATCH)
        calls = [watch(wire.field(1, f"none-{n}".encode()), timeout=30) for n in range(3)]
        for call in calls:
            answer = health_pb2.HealthCheckResponse.FromString(await call.read())
            assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        over = watch(b"", timeout=10)
        assert await over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        other: Any = another.unary_unary(CHECK)
        assert await other(b"", timeout=10)
        for call in calls:
            call.cancel()
        check: Any = one.unary_unary(CHECK)
        for _ in range(100):
            try:
                assert await check(b"", timeout=10)
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("places of calls that ended are not free")


@pytest.mark.service
async def test_questions_to_reflection_are_bounded() -> None:
    async with serving(Probe(), settings()) as address, channel(address) as on:
        ask: Any = on.stream_stream(REFLECT)
        call = ask(timeout=30)
        for _ in range(MAX_QUESTIONS):
            await call.write(wire.field(7, b"*"))
            assert await call.read()
        await call.write(wire.field(7, b"*"))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.service
async def test_health_answers_for_all_names_at_once() -> None:
    async with serving(Probe(), settings()) as address, channel(address) as on:
        ask: Any = on.unary_unary("/grpc.health.v1.Health/List")
        answer = await ask(empty_pb2.Empty().SerializeToString(), timeout=10)
        kind: Any = health_pb2.DESCRIPTOR.message_types_by_name["HealthListResponse"]
        statuses = GetMessageClass(kind).FromString(answer).statuses  # type: ignore[attr-defined]
        assert sorted(statuses) == ["", "cir.combiner.v1.CombinerService"]


@pytest.mark.service
async def test_a_connection_that_floods_with_half_messages_does_not_stop_others() -> None:
    application = Probe()
    async with serving(application, settings(receive_timeout_seconds=1)) as address:
        with connect(address) as slow:
            slow.sendall(open_call(COMBINE))
            for _ in range(5):
                assert await good_call(address) == "nobody"
            assert not await closed_within(slow, 0.1)
