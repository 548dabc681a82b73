"""Items that stream into a version that is being built: order, errors, resumption, and whose turn it is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cir
from cir.common.v1 import errors_pb2 as errors
from cir.retry import wait_before
from cir.search.v1 import catalog_pb2 as pb
from cir.search.v1 import catalog_pb2_grpc
from cir.vectors import pack
from search_service.import_progress import Batch, ImportProgress
from search_service.store import write_conflict
from service_runtime.errors import ServiceError
from tests.refused import refused
from tests.search_service.either_engine import Service, running_service
from tests.search_service.neighbours import FINGERPRINT, UNREADABLE, features_of
from tests.vector_store.engines import ENGINES, SHARED_ENGINES, engine_url
from vector_store.qdrant import QdrantOptions
from vector_store.types import VersionState

pytestmark = pytest.mark.service

SHOP = "catalogs/shop"
VERSION = f"{SHOP}/versions/v0002"


@pytest.fixture(params=ENGINES)
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """A service on each engine, with a version of catalog "shop" that is being built."""
    async with running_service(request.param, tmp_path, stream_idle_seconds=5) as running:
        await start_version(running)
        yield running


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Service]:
    """The same on one engine, for what no engine has a part in."""
    async with running_service("local", tmp_path) as running:
        await start_version(running)
        yield running


async def start_version(service: Service) -> None:
    kinds: dict[str, Any] = {"colour": pb.FIELD_TYPE_KEYWORD, "price": pb.FIELD_TYPE_INTEGER}
    await service.catalogs.CreateCatalog(pb.CreateCatalogRequest(catalog_id="shop", schema=kinds))
    await service.catalogs.CreateCatalogVersion(pb.CreateCatalogVersionRequest(parent=SHOP))


def image(number: int, **fields: Any) -> pb.ItemWrite:
    """An item by its image, whose features follow from the number."""
    write = pb.ItemWrite(item=pb.Item(id=f"item-{number:04d}"), content=b"picture %d" % number)
    for name, of in fields.items():
        if isinstance(of, int):
            write.item.payload.fields[name].integer_value = of
        else:
            write.item.payload.fields[name].string_value = of
    return write


def featured(number: int) -> pb.ItemWrite:
    """The same item by its features."""
    write = image(number)
    write.ClearField("content")
    row = features_of(b"picture %d" % number)
    write.item.features.CopyFrom(pack(row[None, :], fingerprint=FINGERPRINT))
    return write


def messages(
    items: Sequence[pb.ItemWrite], *, token: str = "one", first: int = 0, size: int = 4, known: int = 0
) -> list[pb.ImportItemsRequest]:
    """An import of items, of which the message that opens it has none."""
    opening = pb.ImportItemsRequest(parent=VERSION, token=token, first_index=first, known_index=known)
    return [opening] + [
        pb.ImportItemsRequest(first_index=first + at, items=items[at : at + size])
        for at in range(0, len(items), size)
    ]


async def run(service: Service, sent: Sequence[pb.ImportItemsRequest]) -> list[pb.ImportItemsResponse]:
    return [answer async for answer in service.catalogs.ImportItems(iter(sent))]


async def stored(service: Service) -> dict[str, np.ndarray[Any, Any]]:
    """Finish and publish the version; returns the raw features of its items by id."""
    await service.catalogs.FinishCatalogVersion(pb.FinishCatalogVersionRequest(name=VERSION))
    await service.catalogs.PublishCatalogVersion(pb.PublishCatalogVersionRequest(name=VERSION))
    async with service.store.open_version("shop") as opened:
        items, _ = await opened.scroll(limit=1000, with_features=True)
        assert len({item.id for item in items}) == len(items) == await opened.count()
        return {item.id: item.features for item in items if item.features is not None}


def check(found: dict[str, np.ndarray[Any, Any]], numbers: Sequence[int]) -> None:
    assert sorted(found) == [f"item-{number:04d}" for number in sorted(numbers)]
    for number in numbers:
        expected = features_of(b"picture %d" % number)
        np.testing.assert_allclose(found[f"item-{number:04d}"], expected, rtol=1e-4, atol=1e-4)


async def test_items_are_written_and_answered_in_order(service: Service) -> None:
    items = [image(n, price=n) if n % 3 else featured(n) for n in range(22)]
    answers = await run(service, messages(items))
    assert [answer.next_index for answer in answers] == [0, 4, 8, 12, 16, 20, 22]
    assert [answer.written for answer in answers] == [0, 4, 8, 12, 16, 20, 22]
    assert answers[-1].last_item_id == "item-0021"
    assert not any(answer.errors for answer in answers)
    check(await stored(service), range(22))


async def test_bad_items_fail_alone_with_their_places(local: Service) -> None:
    items = [image(n) for n in range(12)]
    items[1].content = UNREADABLE
    items[4].item.id = "a\nb"
    items[5].ClearField("content")
    items[7] = image(7, price="cheap")
    items[8] = featured(8)
    items[8].item.features.CopyFrom(pack(np.ones((1, 3), np.float32)))
    items[10] = featured(10)
    items[10].item.features.model_fingerprint = "other"
    answers = await run(local, messages(items))
    found = [(e.index, errors.ErrorReason.Name(e.reason), e.item_id) for a in answers for e in a.errors]
    assert found == [
        (1, "IMAGE_UNREADABLE", "item-0001"),
        (4, "FIELD_INVALID", "a\nb"),
        (5, "FIELD_REQUIRED", "item-0005"),
        (7, "FIELD_INVALID", "item-0007"),
        (8, "WRONG_DIMENSION", "item-0008"),
        (10, "FINGERPRINT_MISMATCH", "item-0010"),
    ]
    assert (answers[-1].next_index, answers[-1].written, answers[-1].rejected) == (12, 6, 6)
    # A client that has heard of none of them, or of some, is told again.
    for known, expected in ((0, 6), (5, 4), (12, 0)):
        again = await run(local, messages([], known=known))
        assert [len(answer.errors) for answer in again] == [expected]
        assert again[0].rejected == 6
    check(await stored(local), [0, 2, 3, 6, 9, 11])


@pytest.mark.parametrize("part", ["value", "id", "location", "name"])
async def test_a_text_of_megabytes_is_the_error_of_its_item(local: Service, part: str) -> None:
    long = "a" * (2_500_000)
    items = [image(n, colour="red") for n in range(10)]
    if part == "value":
        items[3].item.payload.fields["title"].string_value = long
    elif part == "id":
        items[3].item.id = long
    elif part == "location":
        items[3].item.image = long
    else:
        items[3].item.payload.fields[long].string_value = "red"
    last = (await run(local, messages(items)))[-1]
    assert (last.next_index, last.written, last.rejected) == (10, 9, 1)
    upserted = await local.catalogs.BatchUpsertItems(pb.BatchUpsertItemsRequest(parent=SHOP, items=items))
    assert upserted.written == 9
    (error,) = upserted.errors
    assert (error.index, error.item_id) == (3, items[3].item.id[:2048])
    assert len(error.message) < 1000


async def test_what_is_done_is_left_out_when_it_is_sent_again(service: Service) -> None:
    items = [image(n) for n in range(10)]
    assert (await run(service, messages(items[:6])))[-1].next_index == 6
    embedded = service.embedder.images
    # From the beginning, in other pieces; then nothing is left.
    answers = await run(service, messages(items, size=5))
    assert [answer.next_index for answer in answers] == [6, 10]
    assert service.embedder.images == embedded + 4
    assert [answer.next_index for answer in await run(service, messages(items))] == [10]
    check(await stored(service), range(10))


async def test_an_id_that_comes_twice_is_replaced(local: Service) -> None:
    second = image(0)
    second.content = b"picture 5"
    one = (await run(local, messages([image(0), image(1), second])))[-1]
    two = (await run(local, messages([image(1)], token="two")))[-1]
    assert [(each.written, each.replaced, each.next_index) for each in (one, two)] == [(2, 1, 3), (0, 1, 1)]
    finish = pb.FinishCatalogVersionRequest(name=VERSION, expected_item_count=4)
    refusal = await refused(local.catalogs.FinishCatalogVersion(finish))
    assert refusal.reason == "VERSION_STATE"
    assert "holds 2 items, not 4; 2 items that were imported came with an id" in refusal.message
    assert "'item-0000'" in refusal.message
    found = await stored(local)
    assert sorted(found) == ["item-0000", "item-0001"]
    np.testing.assert_allclose(found["item-0000"], features_of(b"picture 5"), rtol=1e-4, atol=1e-4)


async def test_messages_that_cannot_be_used_end_the_stream(tmp_path: Path) -> None:
    opening = pb.ImportItemsRequest
    cases: list[tuple[list[pb.ImportItemsRequest], str, str]] = [
        ([], "FIELD_REQUIRED", "parent"),
        ([opening(token="a")], "FIELD_REQUIRED", "parent"),
        ([opening(parent=SHOP, token="a")], "FIELD_INVALID", "parent"),
        ([opening(parent=VERSION)], "FIELD_REQUIRED", "token"),
        ([opening(parent=VERSION, token="a b")], "FIELD_INVALID", "token"),
        ([opening(parent=VERSION, token="x" * 129)], "FIELD_INVALID", "token"),
        ([opening(parent=VERSION + "9", token="a")], "VERSION_NOT_FOUND", ""),
        ([opening(parent="catalogs/none/versions/v0001", token="a")], "CATALOG_NOT_FOUND", ""),
        ([opening(parent=f"{SHOP}/versions/v0001", token="a")], "VERSION_STATE", ""),
        (messages([image(0)], first=3), "OUT_OF_RANGE", "first_index"),
        ([*messages([image(0)]), opening(token="two")], "FIELD_INVALID", "token"),
        ([*messages([image(0)]), opening(parent=SHOP)], "FIELD_INVALID", "parent"),
        (messages([image(n) for n in range(257)], size=257), "TOO_MANY_ITEMS", "items"),
    ]
    async with running_service("local", tmp_path) as service:
        await start_version(service)
        version = VERSION

        def named(sent: list[pb.ImportItemsRequest]) -> list[pb.ImportItemsRequest]:
            for message in sent:
                message.parent = message.parent.replace(VERSION, version)
            return sent

        for sent, reason, field in cases:
            refusal = await refused(run(service, named(sent)))
            assert (refusal.reason, refusal.field) == (reason, field)
            # What came before is done, and the version is free.
            done = sum(len(message.items) for message in sent[:-1])
            assert [answer.next_index for answer in await run(service, named(messages([])))] == [done]
            await service.catalogs.AbortCatalogVersion(pb.AbortCatalogVersionRequest(name=version))
            started = pb.CreateCatalogVersionRequest(parent=SHOP)
            version = (await service.catalogs.CreateCatalogVersion(started)).name


async def test_the_token_of_another_import_is_refused(local: Service) -> None:
    await run(local, messages([image(n) for n in range(4)]))
    refusal = await refused(run(local, messages([image(n) for n in range(50, 60)])))
    assert (refusal.reason, refusal.field) == ("FIELD_INVALID", "token")
    check(await stored(local), range(4))


async def test_a_version_remembers_a_hundred_imports(local: Service) -> None:
    async with asyncio.timeout(60):
        writer = await local.store.resume_version("shop", "v0002")
        for number in range(100):
            await writer.note(f"import.t{number}", ImportProgress().note())
        await writer.close()
    refusal = await refused(run(local, messages([image(0)], token="new")))
    assert (refusal.reason, refusal.field) == ("OUT_OF_RANGE", "token")
    assert (await run(local, messages([image(0)], token="t7")))[-1].next_index == 1


class Open:
    """A stream that stays open: messages are sent one by one."""

    def __init__(self, service: Service, token: str = "one") -> None:
        self.call: Any = service.catalogs.ImportItems()
        self._token = token

    async def begin(self) -> pb.ImportItemsResponse:
        await self.call.write(pb.ImportItemsRequest(parent=VERSION, token=self._token))
        return await self.answer()

    async def answer(self) -> pb.ImportItemsResponse:
        answer: Any = await self.call.read()
        if answer is grpc.aio.EOF:
            await self.call  # raises why
        assert isinstance(answer, pb.ImportItemsResponse)
        return answer

    async def send(self, first: int, items: Sequence[pb.ItemWrite]) -> pb.ImportItemsResponse:
        await self.call.write(pb.ImportItemsRequest(first_index=first, items=items))
        return await self.answer()


async def test_one_import_at_a_time_writes_a_version(service: Service) -> None:
    stream = Open(service)
    await stream.begin()
    assert (await stream.send(0, [image(0)])).next_index == 1
    other = await refused(run(service, messages([image(1)], token="two")))
    assert (other.code.name, other.reason) == ("ABORTED", "WRITE_CONFLICT")
    assert other.retry_after is not None
    finish = pb.FinishCatalogVersionRequest(name=VERSION)
    conflict = await refused(service.catalogs.FinishCatalogVersion(finish))
    assert (conflict.reason, "stream goes on" in conflict.message) == ("WRITE_CONFLICT", True)
    publish = pb.PublishCatalogVersionRequest(name=VERSION)
    assert (await refused(service.catalogs.PublishCatalogVersion(publish))).reason == "VERSION_STATE"
    # The same import from a new stream, as after a connection that broke without a word.
    again = Open(service)
    assert (await again.begin()).next_index == 1
    assert (await refused(stream.answer())).reason == "VERSION_STATE"
    assert (await again.send(1, [image(1)])).next_index == 2
    await again.call.done_writing()
    assert await again.call.read() is grpc.aio.EOF
    await run(service, messages([image(2)], token="two"))
    check(await stored(service), range(3))


async def test_what_comes_right_after_a_broken_stream_waits_for_its_end(service: Service) -> None:
    for number in range(3):
        stream = Open(service, f"broken-{number}")
        await stream.begin()
        await stream.call.write(pb.ImportItemsRequest(items=[image(number)]))
        stream.call.cancel()
    # Neither of the next import nor of the finishing is the version in use any more.
    answers = await run(service, messages([image(9)], token="whole"))
    assert (answers[-1].next_index, answers[-1].rejected) == (1, 0)
    stream = Open(service)
    await stream.begin()
    stream.call.cancel()
    finished = await service.catalogs.FinishCatalogVersion(pb.FinishCatalogVersionRequest(name=VERSION))
    assert 1 <= finished.item_count <= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED_ENGINES)
async def test_of_two_services_one_writes_a_version(tmp_path: Path, name: str) -> None:
    async with (
        engine_url(name, tmp_path / "store") as url,
        running_service(url, tmp_path) as one,
        running_service(url, tmp_path) as other,
    ):
        await start_version(one)
        stream = Open(one)
        await stream.begin()
        assert (await stream.send(0, [image(0)])).next_index == 1
        finish = pb.FinishCatalogVersionRequest(name=VERSION)
        for call in (
            run(other, messages([image(1)], token="two")),
            run(other, messages([image(0), image(1)])),
            other.catalogs.FinishCatalogVersion(finish),
        ):
            refusal = await refused(call)
            assert (refusal.code.name, refusal.reason) == ("ABORTED", "WRITE_CONFLICT")
            assert refusal.retry_after is not None
        abort = pb.AbortCatalogVersionRequest(name=VERSION)
        assert (await refused(other.catalogs.AbortCatalogVersion(abort))).reason == "VERSION_STATE"
        assert (await stream.send(1, [image(1)])).next_index == 2
        await stream.call.done_writing()
        assert await stream.call.read() is grpc.aio.EOF
        # What the one began, the other goes on with.
        assert (await run(other, messages([image(n) for n in range(3)])))[-1].next_index == 3
        check(await stored(other), range(3))


def test_clients_wait_for_longer_than_a_dead_service_keeps_a_version() -> None:
    patience = signature(cir.Client.import_items).parameters["retry_seconds"].default
    longest_wait = max(wait_before(100, asked=write_conflict("").retry_after or 0.0) for _ in range(100))
    assert QdrantOptions().lease_s + 2 * longest_wait < patience


async def test_an_abort_ends_the_import(service: Service) -> None:
    stream = Open(service)
    await stream.begin()
    await stream.send(0, [image(0)])
    await service.catalogs.AbortCatalogVersion(pb.AbortCatalogVersionRequest(name=VERSION))
    assert (await refused(stream.answer())).reason == "VERSION_STATE"
    refusal = await refused(run(service, messages([image(0)])))
    assert refusal.reason == "VERSION_NOT_FOUND"


@pytest.mark.parametrize("name", ENGINES)
async def test_a_stream_that_stalls_ends_and_frees_the_version(tmp_path: Path, name: str) -> None:
    async with running_service(name, tmp_path, stream_idle_seconds=0.3) as service:
        await start_version(service)
        stream = Open(service)
        await stream.begin()
        assert (await stream.send(0, [image(0)])).next_index == 1
        assert (await refused(stream.answer())).reason == "DEADLINE"
        await run(service, messages([image(1)], token="two"))
        check(await stored(service), range(2))


async def test_answers_that_nobody_reads_end_the_import_and_free_the_version(tmp_path: Path) -> None:
    async with running_service("edge", tmp_path, stream_idle_seconds=1) as service:
        await start_version(service)
        async with grpc.aio.insecure_channel(service.address) as channel:
            call: Any = channel.stream_stream(
                "/cir.search.v1.CatalogService/ImportItems",
                request_serializer=pb.ImportItemsRequest.SerializeToString,
            )()
            await call.write(pb.ImportItemsRequest(parent=VERSION, token="one"))
            # Each answer repeats an error of a large id, so that unread ones fill the connection.
            bad = pb.ItemWrite(item=pb.Item(id="\n" + "x" * 60_000))
            sent, freed = 0, False
            while not freed:
                try:
                    async with asyncio.timeout(0.2):
                        await call.write(pb.ImportItemsRequest(first_index=sent, items=[bad] * 16))
                    sent += 16
                except TimeoutError:
                    # A message that is on its way cannot be given up: nothing more is sent here.
                    freed = True
                except grpc.aio.AioRpcError:
                    freed = True
            async with asyncio.timeout(20):
                while True:
                    try:
                        await run(service, messages([image(1)], token="two"))
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.2)
        check(await stored(service), [1])


async def test_imports_are_limited(tmp_path: Path) -> None:
    async with running_service("edge", tmp_path, max_imports=1) as service:
        await start_version(service)
        stream = Open(service)
        await stream.begin()
        refusal = await refused(run(service, messages([], token="two")))
        assert (refusal.reason, refusal.retry_after) == ("OVERLOADED", 5.0)
        await stream.call.done_writing()
        assert await stream.call.read() is grpc.aio.EOF
        await run(service, messages([], token="two"))


async def test_a_model_that_changes_ends_the_stream(local: Service) -> None:
    local.embedder.fingerprint = "another"
    refusal = await refused(run(local, messages([featured(0), featured(1), image(2)], size=2)))
    assert refusal.reason == "FINGERPRINT_MISMATCH"
    local.embedder.fingerprint = FINGERPRINT
    assert (await run(local, messages([])))[0].next_index == 2


async def test_a_busy_embedder_is_asked_again(local: Service) -> None:
    local.embedder.refuse = ServiceError(errors.OVERLOADED, "busy", retry_after=0.05)
    running = asyncio.ensure_future(run(local, messages([image(0)])))
    while len(local.embedder.request_ids) < 2:  # noqa: ASYNC110  # the stand-in knows no events
        await asyncio.sleep(0.01)
    local.embedder.refuse = None
    assert (await running)[-1].next_index == 1


@pytest.mark.slow
async def test_streams_that_break_anywhere_lose_nothing(service: Service) -> None:
    chance, count = random.Random(3), 60
    items = [image(n) if n % 2 else featured(n) for n in range(count)]
    items[17].content = UNREADABLE
    rejected: set[int] = set()
    sent, breaks = 0, 0
    while sent < count:
        stream = Open(service)
        opened = last = await stream.begin()
        sent = opened.next_index
        assert sent == 0 or opened.last_item_id == items[sent - 1].item.id
        rejected |= {error.index for error in opened.errors}
        until = chance.randint(0, 12) if breaks < 12 else count
        while sent < count and until > 0:
            size = chance.randint(1, 5)
            await stream.call.write(pb.ImportItemsRequest(first_index=sent, items=items[sent : sent + size]))
            sent += size
            until -= size
        if breaks < 12:
            await asyncio.sleep(chance.uniform(0, 0.02))
            stream.call.cancel()
            breaks += 1
            sent = 0
            continue
        await stream.call.done_writing()
        while (answer := await stream.call.read()) is not grpc.aio.EOF:
            rejected |= {error.index for error in answer.errors}
            last = answer
    assert breaks == 12
    assert (last.written, last.replaced, last.rejected) == (count - 1, 0, 1)
    assert rejected == {17}
    assert service.embedder.images >= count // 2
    check(await stored(service), [n for n in range(count) if n != 17])


@pytest.mark.service
async def test_a_service_that_stops_ends_imports_at_once(tmp_path: Path) -> None:
    async with running_service("edge", tmp_path) as service:
        await start_version(service)
        channel = grpc.aio.insecure_channel(service.address)
        stream = Open(replace(service, catalogs=catalog_pb2_grpc.CatalogServiceStub(channel)))
        await stream.begin()
        await stream.send(0, [image(0)])
    refusal = await refused(stream.answer())
    await channel.close()
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NOT_READY")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 3000)), max_size=20))
def test_progress_is_read_back_as_it_was(sizes: list[tuple[int, int, int]]) -> None:
    progress = ImportProgress()
    rejected = 0
    for count, bad, length in sizes:
        first = progress.next_index
        failed = {
            first + place: errors.ItemError(
                index=first + place, code=3, reason=errors.FIELD_INVALID, message="é" * length
            )
            for place in range(min(bad, count))
        }
        rejected += len(failed)
        ids = [f"i{place}" for place in range(first, first + count) if place not in failed]
        told = progress.advance(Batch(first + count, f"i{first}", [], failed, 0), ids, set())
        assert [error.index for error in told] == sorted(failed)
        again = ImportProgress.read(progress.note())
        assert again == progress
        assert (again.written + again.rejected, again.rejected) == (again.next_index, rejected)
        assert len(progress.note().encode()) < 80 * 1024
    assert ImportProgress.read("") == ImportProgress()


async def test_nothing_of_an_import_is_seen_before_it_is_published(local: Service) -> None:
    await run(local, messages([image(0)]))
    assert (await local.store.list_versions("shop"))[1].state is VersionState.BUILDING
    listed = await local.catalogs.ListItems(pb.ListItemsRequest(parent=SHOP))
    assert not listed.items
